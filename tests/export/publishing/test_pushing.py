"""`magvit push`: huggingface_hub's own client, over HTTP, against `hub_server`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hub_server import READER, WRITER, Hub, Repository, serving
from runtime.magvit_process import MAIN
from runtime.stand_in_engines import write_engine

from magvit_export.catalog import find_model
from magvit_runtime import open_bundle
from magvit_runtime.bundle.manifest import WeightsRecord
from magvit_runtime.bundle.writing import write_manifest


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as hub:
        yield hub


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy, with a file that isn't the bundle's."""
    copy = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    (copy / "notes.txt").write_text("not for others")
    return copy


def magvit(
    hub: Hub, cwd: Path, *arguments: object, token: str | None = WRITER
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", MAIN, *map(str, arguments)],
        cwd=cwd,
        env=hub.environment(cwd / "cache", token),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def done(hub: Hub, cwd: Path, *arguments: object) -> Any:
    process = magvit(hub, cwd, *arguments, "--json")
    assert (process.returncode, process.stderr) == (0, "")
    return json.loads(process.stdout)


def refused(hub: Hub, cwd: Path, code: int, *arguments: object, token: str | None = WRITER) -> str:
    process = magvit(hub, cwd, *arguments, token=token)
    assert (process.returncode, process.stdout) == (code, "")
    (line,) = process.stderr.splitlines()
    return line.removeprefix("magvit: ")


def head(repository: Repository, branch: str = "main") -> dict[str, bytes]:
    return repository.commits[repository.branches[branch]]


def uploads(hub: Hub) -> list[str]:
    return [request for request in hub.requests if request.startswith("PUT ")]


def test_what_is_pushed_is_the_bundle_and_opens_by_its_address(
    hub: Hub, bundle: Path, tmp_path: Path
) -> None:
    facts = done(hub, tmp_path, "push", bundle, "me/tiny", "--licence", "apache-2.0")
    repository = hub.repositories["me/tiny"]
    pushed = head(repository)
    names = {"bundle.json", *open_bundle(bundle).manifest.files}
    assert pushed.keys() == names | {"README.md", ".gitattributes"}
    assert all(pushed[name] == (bundle / name).read_bytes() for name in names)
    assert pushed["README.md"].decode() == facts["card"]
    assert b"license: apache-2.0" in pushed["README.md"]
    assert not repository.private
    assert len(repository.commits) == 2  # The empty repository, and all of it in one commit.
    assert facts["address"] == f"hf://me/tiny@{repository.branches['main']}"
    process = magvit(hub, tmp_path, "doctor", facts["address"], token=None)
    assert process.returncode == 0, process.stderr
    # What is there already isn't sent again.
    hub.requests.clear()
    again = done(hub, tmp_path, "push", bundle, "me/tiny", "--licence", "apache-2.0")
    assert (facts["changed"], again["changed"]) == (True, False)
    assert again["address"] == facts["address"]
    assert uploads(hub) == []


def test_a_private_repository_a_branch_and_a_folder(hub: Hub, bundle: Path, tmp_path: Path) -> None:
    arguments = ("push", bundle, "me/tiny/sizes/small", "--private", "--revision", "next")
    facts = done(hub, tmp_path, *arguments)
    repository = hub.repositories["me/tiny"]
    assert repository.private
    assert head(repository).keys() == {".gitattributes"}
    assert "sizes/small/bundle.json" in head(repository, "next")
    assert "sizes/small/README.md" in head(repository, "next")
    assert facts["address"] == f"hf://me/tiny@{repository.branches['next']}/sizes/small"
    process = magvit(hub, tmp_path, "doctor", "hf://me/tiny@next/sizes/small", token=READER)
    assert process.returncode == 0, process.stderr


def test_private_isnt_granted_where_the_repository_is_public(
    hub: Hub, bundle: Path, tmp_path: Path
) -> None:
    repository = hub.repositories["me/tiny"] = Repository()
    repository.commit({"README.md": b"old"})
    message = refused(hub, tmp_path, 1, "push", bundle, "me/tiny", "--private")
    assert message.startswith("me/tiny is there already, and public. Fix: leave --private out, ")
    assert uploads(hub) == []
    assert head(repository) == {"README.md": b"old"}


def test_a_dry_run_asks_nobody(hub: Hub, bundle: Path, tmp_path: Path) -> None:
    process = magvit(hub, tmp_path, "push", bundle, "me/tiny", "--dry-run", token=None)
    assert (process.returncode, process.stderr) == (0, "")
    assert "# trajectory-small" in process.stdout
    assert "encode.fp32.onnx" in process.stdout
    assert process.stdout.endswith("nothing was uploaded (--dry-run)\n")
    assert "notes.txt" not in process.stdout
    assert hub.requests == []


def test_a_damaged_bundle_and_a_wrong_name_are_refused_before_the_hub_is_asked(
    hub: Hub, bundle: Path, tmp_path: Path
) -> None:
    assert "is no address of a model" in refused(hub, tmp_path, 2, "push", bundle, "tiny")
    message = refused(hub, tmp_path, 2, "push", bundle, "me/tiny@v1")
    assert message.endswith("Fix: give it as --revision v1")
    data = bundle / "decode.fp32.data"
    data.write_bytes(data.read_bytes()[:-1] + b"?")
    assert "has changed since export" in refused(hub, tmp_path, 1, "push", bundle, "me/tiny")
    assert hub.requests == []


def test_engines_go_along_when_asked_for(hub: Hub, bundle: Path, tmp_path: Path) -> None:
    arguments = ("push", bundle, "me/tiny", "--dry-run")
    assert "has no engines. Fix: " in refused(hub, tmp_path, 2, *arguments, "--engines")
    engine = write_engine(tmp_path)
    engine.plan.with_suffix(".json").write_bytes(msgspec.json.encode(engine.record))
    assert "engines/engine.plan" not in done(hub, tmp_path, *arguments)["files"]
    facts = done(hub, tmp_path, "push", bundle, "me/tiny", "--engines")
    pushed = head(hub.repositories["me/tiny"])
    assert pushed["engines/engine.plan"] == engine.plan.read_bytes()
    assert "engines/engine.json" in pushed
    # It comes back, and is told from those that fit.
    process = magvit(hub, tmp_path, "doctor", facts["address"])
    assert "engine.plan" in process.stdout
    engine.plan.write_bytes(b"another")
    assert "is damaged" in refused(hub, tmp_path, 1, *arguments, "--engines")


def test_published_weights_are_pushed_only_when_told(
    hub: Hub, bundle: Path, tmp_path: Path
) -> None:
    manifest = open_bundle(bundle).manifest
    entry = find_model("open-magvit2-video-128")
    weights = WeightsRecord("hub", f"{entry.repo}/{entry.file}", "ema", "0" * 64)
    component = msgspec.structs.replace(manifest.component, weights=weights)
    write_manifest(bundle, msgspec.structs.replace(manifest, components={"magvit": component}))
    message = refused(hub, tmp_path, 2, "push", bundle, "me/theirs")
    assert "weights that aren't yours to give away: found TencentARC/" in message
    assert "pass --redistribute-weights" in message
    assert hub.requests == []
    card = done(hub, tmp_path, "push", bundle, "me/theirs", "--redistribute-weights")["card"]
    assert f"published as [{entry.repo}](https://huggingface.co/{entry.repo})" in card
    assert f"licence: {entry.licence}" in card


def test_refusals_of_the_hub_are_sentences(hub: Hub, bundle: Path, tmp_path: Path) -> None:
    arguments = ("push", bundle, "me/tiny")
    for token, status in ((None, 401), (READER, 403)):
        message = refused(hub, tmp_path, 1, *arguments, token=token)
        assert message.startswith(
            f"can't push to hf://me/tiny: found the hub wants a token that may do this (status "
            f"{status}). Fix: `hf auth login` once, or set HF_TOKEN, with such a token ("
        )
    hub.url = "http://127.0.0.1:9"
    message = refused(hub, tmp_path, 1, *arguments)
    assert message.startswith(
        "can't push to hf://me/tiny: found http://127.0.0.1:9 can't be reached: "
    )
