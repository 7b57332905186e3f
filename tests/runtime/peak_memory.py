"""How a child process of a test measures the most memory that it ever held."""

# Not `ru_maxrss`, which also counts what the parent held when it forked.
PEAK = """
def peak():
    with open("/proc/self/status") as status:
        (line,) = (line for line in status if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])
"""
