"""docs/engines.md's loader script gives Polygraphy's own commands our plugins."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from magvit_runtime.native_libraries.lookup import plugin_library

GUIDE = (Path(__file__).parents[3] / "docs" / "engines.md").read_text(encoding="utf-8")
BLOCKS = re.compile(
    r"<!-- tests/export/engines/test_polygraphy_loader\.py runs these two blocks\. -->\n"
    r"```python\n(.*?)```\n\n```sh\n(.*?)```",
    re.S,
)


@pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None,
    reason="TensorRT-RTX is not installed: pip install tensorrt-rtx-cu13",
)
@pytest.mark.skipif(
    plugin_library() is None,
    reason="libmagvit_plugins.so was not built: it needs nvcc and TensorRT's headers",
)
def test_polygraphys_commands_take_our_plugins(engine_bundle: Path, tmp_path: Path) -> None:
    ((loader, commands),) = BLOCKS.findall(GUIDE)
    engine_bundle.rename(tmp_path / "model")
    (tmp_path / "loader.py").write_text(loader, encoding="utf-8")
    scripts = Path(sys.executable).parent
    result = subprocess.run(
        ["sh", "-e", "-c", commands],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    # Two levels, one block each, and one in the middle: two norms a block, the last one, and LFQ.
    assert len(re.findall(r"PLUGIN_V3 .*(?:GroupNormSiLU|LFQ)", result.stdout)) == 8
    assert (tmp_path / "encoder.plan").stat().st_size > 0
