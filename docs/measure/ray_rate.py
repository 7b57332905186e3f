"""Measures the rate a core of `magvit tokenize --ray` beside that of the plain way.

python docs/measure/ray_rate.py           # the small preset, one worker on each core
python docs/measure/ray_rate.py --smoke   # a tiny model, one worker: only shows that it works

Both ways write parts of equal size. A rate is that of all parts after the first of each worker, by
the times of their files: what starts and loads before them counts for neither way.
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from magvit_export.catalog import find_model
from magvit_export.exporting import export_model
from magvit_export.libras import load_libras, write_libras_csv

MAIN = "from magvit_runtime.cli.main import main; main()"
SMALL = ("--frames", "2", "--height", "32", "--width", "32", "--margin", "8")


def clips_a_second(folder: Path, part_size: int, workers: int) -> float:
    """Of a worker, once all have begun."""
    times = sorted(path.stat().st_mtime for path in folder.glob("*.parquet"))
    return (len(times) - workers) * part_size / (times[-1] - times[workers - 1]) / workers


def rates(
    bundle: Path, source: Path, folder: Path, workers: int, part_size: int, style: tuple[str, ...]
) -> tuple[float, float]:
    """Clips a second on a core, the plain way and Ray's."""
    shared = ("tokenize", bundle, source, "--part-size", part_size, "--threads", 1, *style)
    found = []
    for name, more in (("plain", ()), ("ray", ("--ray", "--workers", workers))):
        command = [sys.executable, "-c", MAIN, *shared, *more, "-o", folder / name]
        subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
        found.append(clips_a_second(folder / name, part_size, workers if more else 1))
    plain, ray = found
    return plain, ray


if __name__ == "__main__":
    from smoke import tiny_bundle

    is_smoke = "--smoke" in sys.argv
    with TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "libras.csv"
        write_libras_csv(source, load_libras())
        if is_smoke:
            bundle, workers, part_size, style = tiny_bundle(folder), 1, 60, SMALL
        else:
            bundle, workers, part_size, style = folder / "bundle", os.cpu_count() or 1, 10, ()
            export_model(find_model("trajectory-small"), bundle, weights="seeded", roles=["encode"])
        plain, ray = rates(bundle, source, folder, workers, part_size, style)
        print(f"plain {plain:.2f} clips/s a core, ray {ray:.2f} with {workers} workers")
        print(f"ray / plain = {ray / plain:.2f}")
