"""Calls doors of a bundle for long, with faults among the calls: does the process grow?

    python docs/measure/soak.py                 # 10,000 calls, then an hour under 8 threads
    python docs/measure/soak.py --calls 500 --minutes 1 --threads 4
    python docs/measure/soak.py --smoke         # some seconds: only shows that it works

Most calls are good: Tokenizer and Classifier, natively and in ONNX Runtime, drawn clips in a
stream, and runs that write a folder. Each result is compared with the expected one. The others meet
a fault: bad input, a closed session, a source or a device that fails at work in a thread, a process
that dies with its door, a full disk. Each must end in the error that it should.

Between calls, while nothing else is under way, it samples what the process holds. The exit code is
1 if that has grown from the second quarter of the samples to the last: memory by more than 4 MiB,
or threads, open files, child processes or temporary files by one. glibc has one heap for all
threads here (MALLOC_ARENA_MAX=1): with a heap for each, what these keep back goes up and down by
10 MiB, and would hide what is held.

The full disk is a tmpfs in a mount namespace of the process's own. Where `unshare` gives none,
that fault is left out, and the first line says so.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from growth import Sample, as_table, growths
from soak_work import STYLE, Work

SAMPLES, FEWEST_SAMPLES = 80, 16
WITHIN = "MAGVIT_SOAK_NAMESPACE"


@dataclass(frozen=True)
class Phase:
    """What was done, and what was seen meanwhile.

    Attributes:
        seconds: How long it took.
        done: How often each operation was done.
        samples: What the process held.
    """

    seconds: float
    done: Counter[str]
    samples: list[Sample]

    def report(self, what: str) -> list[str]:
        """Prints its figures; returns what has grown."""
        found = growths(self.samples)
        calls, samples = self.done.total(), len(self.samples)
        print(f"\n{what}, {self.seconds:.0f} s, {calls} calls, {samples} samples")
        print("; ".join(f"{name} {count}" for name, count in self.done.most_common()))
        print(as_table(found), flush=True)
        return [one.name for one in found if one.has_grown]


class Soak:
    """Does a soak's work, and samples in between.

    Args:
        work: The work.
        folder: Holds all that it writes, and whatever is temporary.
    """

    def __init__(self, work: Work, folder: Path) -> None:
        self._operations = work.operations()
        self._folder = folder

    def warm_up(self) -> None:
        """Does everything once."""
        random = Random(0)
        for _, operation in self._operations.values():
            operation(random)

    def calls(self, number: int) -> Phase:
        """A number of calls, one after another."""
        random, done, samples = Random(1), Counter[str](), list[Sample]()
        begin = time.monotonic()
        for call in range(1, number + 1):
            done[self._one(random)] += 1
            if call % max(1, number // SAMPLES) == 0:
                samples.append(Sample.take(self._folder))
        return Phase(time.monotonic() - begin, done, samples)

    def threads(self, number: int, seconds: float) -> Phase:
        """Calls of several threads at once, for a time."""
        done, samples = Counter[str](), list[Sample]()
        # A call holds one; the sampler holds all, and its turn comes too.
        permits, turn = threading.Semaphore(number), threading.Lock()
        counting, is_over = threading.Lock(), threading.Event()
        failures: list[BaseException] = []

        def work(seed: int) -> None:
            random = Random(seed)
            while not is_over.is_set():
                with turn:
                    permits.acquire()
                try:
                    name = self._one(random)
                    with counting:
                        done[name] += 1
                except BaseException as error:
                    failures.append(error)
                    is_over.set()
                finally:
                    permits.release()

        workers = [threading.Thread(target=work, args=(seed,)) for seed in range(number)]
        for worker in workers:
            worker.start()
        begin = time.monotonic()
        while not is_over.wait(seconds / SAMPLES):
            with turn:
                for _ in range(number):
                    permits.acquire()
                samples.append(Sample.take(self._folder))
                permits.release(number)
            if time.monotonic() - begin > seconds and len(samples) >= FEWEST_SAMPLES:
                is_over.set()
        for worker in workers:
            worker.join()
        if failures:
            raise failures[0]
        return Phase(time.monotonic() - begin, done, samples)

    def _one(self, random: Random) -> str:
        """Does something, and says what."""
        names = list(self._operations)
        (name,) = random.choices(names, [weight for weight, _ in self._operations.values()])
        self._operations[name][1](random)
        return name


def command_on_full_disk(bundle: Path, source: Path, disk: Path) -> None:
    """`magvit tokenize -o FOLDER` on a full disk ends in one sentence, and goes on later.

    Raises:
        AssertionError: It doesn't.
    """
    size = [f"--{name}={getattr(STYLE, name)}" for name in ("frames", "height", "width", "margin")]
    main = "from magvit_runtime.cli.main import main; main()"
    command = [sys.executable, "-c", main, "tokenize", bundle, source, "--part-size", "2", *size]
    command = [str(word) for word in [*command, "-o", disk / "tokens"]]
    ballast = disk / "ballast"
    room = os.statvfs(disk)
    ballast.write_bytes(bytes(room.f_bavail * room.f_bsize - (40 << 10)))
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (1, ""), run
    (line,) = run.stderr.splitlines()
    assert line.startswith(f"magvit: can't write {disk / 'tokens'}"), line
    assert line.endswith("No space left on device. Fix: make room, or choose another place"), line
    assert not list((disk / "tokens").rglob(".*"))
    ballast.unlink()
    subprocess.run([*command, "--resume"], capture_output=True, check=True)
    assert (disk / "tokens" / "manifest.json").exists()
    print("the command on a full disk: one sentence, exit code 1, no half part; then --resume")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=10_000, help="calls one after another")
    parser.add_argument("--minutes", type=float, default=60, help="minutes under threads")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument(
        "--smoke", action="store_true", help="some seconds: only shows that it works"
    )
    options = parser.parse_args()
    if options.smoke:
        options.calls, options.minutes = 160, 0.1
    if WITHIN not in os.environ:
        start_anew()
    with TemporaryDirectory() as name:
        # All that is temporary, ours and other packages', lies in one folder.
        tempfile.tempdir = os.environ["TMPDIR"] = str(Path(name, "temporary"))
        os.environ["MAGVIT_CACHE_DIR"] = str(Path(name, "cache"))
        Path(tempfile.tempdir).mkdir()
        grown = soak(Path(name), options)
    print(f"\nevery result was as expected; grown: {', '.join(grown) or '0 things'}")
    sys.exit(1 if grown else 0)


def soak(folder: Path, options: argparse.Namespace) -> list[str]:
    """All phases; returns what has grown."""
    maker = Path(__file__).with_name("soak_bundle.py")
    subprocess.run([sys.executable, maker, folder], check=True)
    bundle = folder / "bundle"
    with ExitStack() as stack:
        disk = stack.enter_context(small_disk(folder / "disk")) if os.environ[WITHIN] else None
        without = "" if disk else "; NO FULL DISK: unshare gives no mount namespace here"
        packages = ("magvit-runtime", "numpy", "onnxruntime", "pyarrow")
        versions = ", ".join(f"{name} {version(name)}" for name in packages)
        print(f"Python {platform.python_version()}, {versions}, {os.cpu_count()} CPUs{without}")
        work = stack.enter_context(closing(Work(bundle, folder, disk)))
        soak = Soak(work, folder)
        soak.warm_up()
        grown: list[str] = []
        if options.calls:
            grown += soak.calls(options.calls).report("one after another")
        if options.minutes:
            phase = soak.threads(options.threads, 60 * options.minutes)
            grown += phase.report(f"{options.threads} threads")
        if disk is not None:
            command_on_full_disk(bundle, folder / "in", disk)
    return grown


def start_anew() -> None:
    """Starts this script with one heap, and in a mount namespace of its own where there is one."""
    able = subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False)
    os.environ[WITHIN] = "" if able.returncode else "1"
    os.environ["MALLOC_ARENA_MAX"] = "1"
    prefix = [] if able.returncode else ["unshare", "-rm"]
    command = [*prefix, sys.executable, *sys.argv]
    os.execvp(command[0], command)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of a megabyte, while the block runs."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


if __name__ == "__main__":
    main()
