"""The wheels that gpu-check takes by their names, and the files that it finds in them."""

from __future__ import annotations

import platform
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("gpu_check_scripts")
MACHINE = platform.machine()


def refusals(folder: Path, *names: str) -> list[str]:
    """The message about wheels of these names on Python 3.12."""
    import wheels

    for name in names:
        (folder / name).write_bytes(b"")
    found: list[str] = wheels.refusals(folder, (3, 12))
    return found


@pytest.mark.parametrize(
    "tags",
    [
        f"cp312-cp312-manylinux2014_{MACHINE}.manylinux_2_17_{MACHINE}",
        f"1-cp312-cp312-manylinux_2_28_{MACHINE}",
        f"cp39-abi3-manylinux_2_28_{MACHINE}",
        f"cp312-abi3-linux_{MACHINE}",
        "py3-none-any",
        "py2.py3-none-any",
        "py310-none-any",
        f"py3-none-manylinux_2_27_{MACHINE}",
        f"cp311.cp312-none-manylinux_2_27_{MACHINE}",
    ],
)
def test_wheels_for_this_python_are_taken(tmp_path: Path, tags: str) -> None:
    assert refusals(tmp_path, f"package_name-1.0-{tags}.whl") == []


@pytest.mark.parametrize(
    "tags",
    [
        f"cp311-cp311-manylinux_2_28_{MACHINE}",
        f"cp313-abi3-manylinux_2_28_{MACHINE}",
        f"cp312-cp312t-manylinux_2_28_{MACHINE}",
        "py2-none-any",
        "py313-none-any",
        "cp312-cp312-win_amd64",
        "cp312-cp312-musllinux_1_2_x86_64",
        "cp312-cp312-manylinux_2_28_other",
    ],
)
def test_other_wheels_are_refused_with_the_command_that_mends_it(tmp_path: Path, tags: str) -> None:
    good = "other-2-py3-none-any.whl"
    (text,) = refusals(tmp_path, good, f"package_name-1.0-{tags}.whl")
    assert f"package_name-1.0-{tags}.whl is for {tags}; this is Python 3.12 (cp312)" in text
    assert f"--python-version 3.12 --dest {tmp_path} package-name==1.0" in text


def test_a_folder_without_wheels_and_a_strange_name_are_refused(tmp_path: Path) -> None:
    (text,) = refusals(tmp_path)
    assert "holds no wheels" in text
    (text,) = refusals(tmp_path, "renamed.whl")
    assert "renamed.whl isn't named as a wheel is" in text


def test_modules_are_found_in_wheels(tmp_path: Path) -> None:
    import wheels

    with zipfile.ZipFile(tmp_path / "a-1-py3-none-any.whl", "w") as archive:
        archive.writestr("package/part/__init__.py", "")
        archive.writestr("single.py", "")
        archive.writestr("compiled.cpython-312-x86_64-linux-gnu.so", "")
    for module in ("package", "package.part", "single", "compiled"):
        assert wheels.holds_module(tmp_path, module), module
    for module in ("pack", "package.part.more", "part", "single.x", "other"):
        assert not wheels.holds_module(tmp_path, module), module
