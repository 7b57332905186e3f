// What libstdc++ takes from glibc 2.32 and newer. Compiled into wheels only, for older ones; the
// libraries keep it to themselves. False is always right: counters are then always atomic.
extern "C" {
char __libc_single_threaded = 0;
}
