"""Installs a folder's wheels, and nothing else, into an environment that sees this one's too.

python kernels/gpu_check/install_wheels.py WHEELS ENVIRONMENT
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path


def main(wheels: Path, environment: Path) -> None:
    """Makes the environment."""
    venv.create(environment, with_pip=False)
    paths = sysconfig.get_paths(vars={"base": str(environment), "platbase": str(environment)})
    site = Path(paths["purelib"])
    # Behind its own packages, so that onnxruntime-gpu here is found before onnxruntime there.
    outside = [path for path in sys.path[1:] if Path(path).is_dir()]
    (site / "outside.pth").write_text("\n".join([*outside, ""]))
    pip = (sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--target", str(site))
    subprocess.run((*pip, *map(str, sorted(wheels.glob("*.whl")))), check=True, stdout=sys.stderr)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
