"""`make release`, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

REPOSITORY = Path(__file__).parents[2]
WHEELS = os.environ.get("MAGVIT_WHEELS")
RELEASABLE = "# Changelog\n\n## 1.2.3 (2026-11-27)\n\n- New.\n\n## 1.2.2 (2026-01-01)\n\n- Old.\n"
# Who commits where no one is configured.
AUTHOR = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", "A Tester"), ("EMAIL", "tester@example.invalid"))
}


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    # What make or a hook of git set for this process would lead those started here astray.
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GIT_", "MAKE", "MFLAGS"))
    }
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=kept | AUTHOR,
        capture_output=True,
        text=True,
        check=False,
    )


def git(*arguments: object, cwd: Path) -> str:
    done = run("git", *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that may be released as 1.2.3."""
    root = tmp_path / "checkout"
    root.mkdir()
    git("init", "--quiet", cwd=root)
    (root / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "1.2.3"\n')
    commit_changelog(root, RELEASABLE)
    return root


def commit_changelog(root: Path, text: str) -> None:
    (root / "CHANGELOG.md").write_text(text)
    git("add", "--all", cwd=root)
    git("commit", "--quiet", "--message", "A change", cwd=root)


def release(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, REPOSITORY / ".ci" / "release", *arguments, cwd=cwd)


def refusal(root: Path) -> str:
    done = release("check", cwd=root)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "Fix: " in line
    return line


def test_a_dated_section_and_a_clean_tree_may_be_released(checkout: Path) -> None:
    done = release("check", cwd=checkout)
    assert (done.returncode, done.stderr) == (0, "")
    # Also again, once it is tagged.
    git("tag", "v1.2.3", cwd=checkout)
    assert release("check", cwd=checkout).returncode == 0


@pytest.mark.parametrize(
    ("found", "instead", "words"),
    [
        ("## 1.2.3 (2026-11-27)", "## 1.2.4 (2026-11-27)", "no section of 1.2.3"),
        ("## 1.2.3 (2026-11-27)", "## 1.2.3 (unreleased)", "has no date"),
        ("## 1.2.3 (2026-11-27)", "## 1.2.3 (2026-13-27)", "has no date"),
        ("## 1.2.3 (2026-11-27)", "## 1.2.3", "has no date"),
        ("- New.\n", "", "says nothing under '1.2.3"),
        ("## 1.2.3", "## Unreleased\n\n- Later.\n\n## 1.2.3", "entries under 'Unreleased'"),
        ("## 1.2.3", "## [unreleased]\n\n- Later.\n\n## 1.2.3", "entries under '[unreleased]'"),
    ],
)
def test_a_changelog_that_does_not_say_what_is_new_is_refused(
    checkout: Path, found: str, instead: str, words: str
) -> None:
    commit_changelog(checkout, RELEASABLE.replace(found, instead))
    assert words in refusal(checkout)


def test_an_empty_section_of_the_unreleased_is_no_obstacle(checkout: Path) -> None:
    commit_changelog(checkout, RELEASABLE.replace("## 1.2.3", "## Unreleased\n\n## 1.2.3"))
    assert release("check", cwd=checkout).returncode == 0


@pytest.mark.parametrize("name", ["CHANGELOG.md", "new.py"])
def test_what_is_not_committed_is_refused(checkout: Path, name: str) -> None:
    with (checkout / name).open("a") as file:
        file.write("\n")
    assert name in refusal(checkout)


def test_a_version_that_was_released_from_another_commit_is_refused(checkout: Path) -> None:
    git("tag", "v1.2.3", cwd=checkout)
    commit_changelog(checkout, RELEASABLE + "- More.\n")
    assert "Fix: raise the version" in refusal(checkout)


@pytest.mark.parametrize("version", ["1.2.4", "1.2.30"])
def test_files_of_another_version_are_not_described(checkout: Path, version: str) -> None:
    folder = checkout / "dist"
    folder.mkdir()
    (folder / f"magvit_runtime-{version}-py3-none-any.whl").touch()
    done = release("describe", folder, cwd=checkout)
    assert done.returncode == 1
    assert "one wheel of 1.2.3" in done.stderr
    assert len(list(folder.iterdir())) == 1


needs_wheels = pytest.mark.skipif(
    WHEELS is None, reason="MAGVIT_WHEELS is not set; `make wheel` builds one"
)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """dist/ as `make release` leaves it; wheel and archive are those of `make wheel`."""
    root = tmp_path_factory.mktemp("release") / "checkout"
    git("clone", "--quiet", "--no-tags", REPOSITORY, root, cwd=REPOSITORY)
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    commit_changelog(root, RELEASABLE.replace("1.2.3", project["version"]))
    done = make_release(root)
    assert done.returncode == 0, done.stdout + done.stderr
    return root / "dist"


def make_release(root: Path) -> subprocess.CompletedProcess[str]:
    """`make release` in this environment. Instead of `make dist`, it copies what that has built."""
    return run(
        *("make", "release", "--old-file", ".venv/.dev", f"BIN={Path(sys.executable).parent}"),
        f"MAKE=cp -r {WHEELS}",
        cwd=root,
    )


@needs_wheels
def test_make_release_refuses_before_it_builds(tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    git("clone", "--quiet", REPOSITORY, root, cwd=REPOSITORY)
    (root / "new.py").touch()
    (root / "dist").mkdir()
    done = make_release(root)
    assert done.returncode != 0
    assert "new.py" in done.stderr
    assert list((root / "dist").iterdir()) == []


@needs_wheels
def test_sha256sum_finds_every_file_as_listed(released: Path) -> None:
    names = sorted(path.suffix for path in released.iterdir() if path.name != "SHA256SUMS")
    assert names == [".gz", ".json", ".whl"]
    done = run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=released)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": OK") == 3


@pytest.fixture(scope="module")
def bill(released: Path) -> Mapping[str, Any]:
    (path,) = released.glob("*.cdx.json")
    text = path.read_text()
    validation = pytest.importorskip("cyclonedx.validation.json", reason="the extra [dev]")
    from cyclonedx.schema import SchemaVersion

    assert validation.JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found: dict[str, Any] = json.loads(text)
    return found


@needs_wheels
def test_the_bill_of_materials_is_of_the_wheel(bill: Mapping[str, Any], released: Path) -> None:
    subject = bill["metadata"]["component"]
    (digest,) = subject["hashes"]
    assert digest["content"] in (released / "SHA256SUMS").read_text()
    (wheel,) = released.glob("*.whl")
    assert wheel.name.startswith(f"magvit_runtime-{subject['version']}-")
    assert subject["licenses"] == [{"expression": "Apache-2.0"}]


@needs_wheels
def test_the_bill_names_what_the_wheel_needs(bill: Mapping[str, Any]) -> None:
    scopes = {part["purl"]: part["scope"] for part in bill["components"] if "purl" in part}
    assert scopes["pkg:pypi/numpy"] == "required"
    assert scopes["pkg:pypi/torch"] == scopes["pkg:pypi/onnxruntime"] == "optional"
    (subject,) = [
        entry
        for entry in bill["dependencies"]
        if entry["ref"] == bill["metadata"]["component"]["bom-ref"]
    ]
    assert sorted(subject["dependsOn"]) == sorted(part["bom-ref"] for part in bill["components"])


@needs_wheels
def test_the_bill_names_what_was_compiled_in(bill: Mapping[str, Any], released: Path) -> None:
    (wheel,) = released.glob("*.whl")
    with ZipFile(wheel) as archive:
        libraries = {Path(name).name for name in archive.namelist() if name.endswith(".so")}
    expected = {"libstdc++", "libgcc", "libunwind", "compiler-rt"}
    if "libmagvit_cuda.so" in libraries:
        expected |= {"cudart_static"}
    if "libmagvit_plugins.so" in libraries:
        expected |= {"tensorrt-headers"}
    parts = {part["name"]: part for part in bill["components"] if "purl" not in part}
    assert set(parts) == expected
    for part in parts.values():
        assert re.fullmatch(r"\d+\.[\d.]+", part["version"]), part
        assert part["licenses"]
    # What wasn't linked in statically would be asked for by name.
    if shutil.which("objdump"):
        with ZipFile(wheel) as archive:
            archive.extractall(released.parent / "unpacked")
        for library in sorted((released.parent / "unpacked").rglob("*.so")):
            table = run("objdump", "-p", library, cwd=released).stdout
            needed = set(re.findall(r"NEEDED +(\S+?)\.so", table))
            assert needed <= {"libc", "libm", "libdl", "libpthread", "librt", "ld-linux-x86-64"}
