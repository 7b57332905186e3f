"""`make release`: what a release needs besides its wheel and its source archive.

    python .ci/release check            may this commit be released?
    python .ci/release describe FOLDER  adds a bill of materials and SHA256SUMS to what FOLDER holds

Run in the root of a checkout. Exit code 0: done; 1: not so, and what stands against it is said.
"""

from __future__ import annotations

import argparse
import sys
from hashlib import sha256
from pathlib import Path

from bill_of_materials import bill_of_materials
from readiness import obstacles, stated_version


def main() -> None:
    """Takes one of the two steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    steps = parser.add_subparsers(dest="step", required=True)
    steps.add_parser("check", help="may this commit be released?")
    describing = steps.add_parser("describe", help="adds a bill of materials and SHA256SUMS")
    describing.add_argument("folder", type=Path, help="holds a wheel and a source archive")
    given = parser.parse_args()
    found = obstacles(Path()) if given.step == "check" else describe(given.folder)
    for sentence in found:
        print(f"release: {sentence}.", file=sys.stderr)
    sys.exit(1 if found else 0)


def describe(folder: Path) -> list[str]:
    """Writes the bill of materials of the wheel in `folder`, and the digests of all three.

    Returns:
        What is wrong with the folder; nothing is written then.
    """
    version = stated_version(Path())
    built = []
    for kind, ending in (("wheel", "-*.whl"), ("source archive", ".tar.gz")):
        files = sorted(folder.glob(f"*{Path(ending).suffix}"))
        if files != sorted(folder.glob(f"magvit_runtime-{version}{ending}")) or len(files) != 1:
            names = ", ".join(file.name for file in files) or "none"
            return [f"{folder} has to hold one {kind} of {version}, found {names}. Fix: make wheel"]
        built += files
    bill = folder / f"magvit_runtime-{version}.cdx.json"
    bill.write_text(bill_of_materials(built[0]), encoding="utf-8")
    lines = [f"{sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in (*built, bill)]
    (folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")
    return []


if __name__ == "__main__":
    main()
