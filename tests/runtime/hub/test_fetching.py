"""Bundles opened from a hub: huggingface_hub's own client, over HTTP, against `hub_server`."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
from hub_server import READER, WRITER, Hub, Repository, serving
from runtime.magvit_process import MAIN

from magvit_runtime import Tokenizer
from magvit_runtime.cli.places import BundleArgument, OptionalBundle, OwnBundle

CLIPS = np.random.default_rng(0).integers(0, 256, (2, 2, 16, 16, 3), np.uint8)
ROOT = Path(__file__).parents[3]
UNREACHABLE = {"HF_ENDPOINT": "http://127.0.0.1:9"}

# The client reads its settings when it is imported, so each test has processes of its own.
OPEN = """
import json, os, sys, time
time.sleep = lambda seconds: None  # The client waits between its attempts.
import numpy as np
from magvit_runtime import MagvitError, Tokenizer
answers = []
for address, token in json.load(sys.stdin):
    os.environ["HF_TOKEN"] = token
    try:
        with Tokenizer.open(address) as tokenizer:
            ids = tokenizer(np.load("clips.npy"))
            answers.append([str(tokenizer.bundle.path), ids.tolist()])
    except MagvitError as error:
        answers.append(f"{type(error).__name__}: {error}")
print(json.dumps(answers))
"""
PICKLE = """
import sys
from pathlib import Path
from pickle import dumps
from magvit_runtime import Tokenizer
Path("pickled").write_bytes(dumps(Tokenizer.open(sys.argv[1])))
"""
UNPICKLE = """
import numpy as np
from pathlib import Path
from pickle import loads
tokenizer = loads(Path("pickled").read_bytes())
print(tokenizer.bundle.path)
np.save("ids.npy", tokenizer(np.load("clips.npy")))
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as hub:
        yield hub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where processes run, with clips."""
    np.save(tmp_path / "clips.npy", CLIPS)
    return tmp_path


def files(bundle: Path, under: str = "") -> dict[str, bytes]:
    return {f"{under}{path.name}": path.read_bytes() for path in bundle.iterdir() if path.is_file()}


def run(
    script: str, folder: Path, environment: dict[str, str], *arguments: str, given: Any = None
) -> str:
    process = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=folder,
        env=environment,
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


def opened(
    hub: Hub, folder: Path, *asked: str | tuple[str, str], cache: str = "cache", **settings: str
) -> list[Any]:
    """What comes of opening addresses, each perhaps with a token: path and ids, or an error."""
    given = [(one, "") if isinstance(one, str) else one for one in asked]
    environment = hub.environment(folder / cache, **settings)
    return list(json.loads(run(OPEN, folder, environment, given=given)))


@pytest.fixture(scope="module")
def ids(tiny_bundle: Path) -> list[Any]:
    """What the bundle's folder gives."""
    with Tokenizer.open(tiny_bundle) as tokenizer:
        return list(tokenizer(CLIPS).tolist())


def test_an_address_gives_what_the_folder_gives_also_offline(
    hub: Hub, folder: Path, tiny_bundle: Path, ids: list[Any]
) -> None:
    repository = hub.repositories["me/tiny"] = Repository()
    commit = repository.commit({**files(tiny_bundle), "film.mp4": bytes(10_000)})
    other = repository.commit({**files(tiny_bundle, "sizes/small/"), "bundle.json": b"{}"}, "v2")
    ((path, found),) = opened(hub, folder, "hf://me/tiny")
    assert Path(path).name == commit
    assert found == ids
    assert (Path(path) / "encode.fp32.data").is_symlink()
    # Neither what isn't the bundle's, nor anything twice.
    sent = [request for request in hub.requests if request.startswith("GET /objects/")]
    assert len(sent) == len(set(sent)) > 0
    assert not any("film.mp4" in request for request in hub.requests)
    # A commit that is here needs no hub; a branch in a folder is another commit's.
    hub.requests.clear()
    pinned, nested = opened(hub, folder, f"hf://me/tiny@{commit}", "hf://me/tiny@v2/sizes/small")
    assert pinned == [path, ids]
    assert Path(nested[0]).parts[-3:] == (other, "sizes", "small")
    assert nested[1] == ids
    assert not any(commit in request for request in hub.requests)
    for settings in ({"HF_HUB_OFFLINE": "1"}, UNREACHABLE):
        again = opened(
            hub,
            folder,
            "hf://me/tiny",
            f"hf://me/tiny@{commit}",
            "hf://me/tiny@v2/sizes/small",
            **settings,
        )
        assert again == [pinned, pinned, nested]


def test_offline_what_the_cache_lacks_is_named(hub: Hub, folder: Path, tiny_bundle: Path) -> None:
    hub.repositories["me/tiny"] = Repository()
    hub.repositories["me/tiny"].commit(files(tiny_bundle))
    (nothing,) = opened(hub, folder, "hf://me/tiny", HF_HUB_OFFLINE="1")
    cache = folder / "cache/hub"
    assert nothing == (
        "HubError: can't fetch hf://me/tiny: found HF_HUB_OFFLINE is set, and "
        f"{cache} doesn't have all of it. Fix: fetch it once with HF_HUB_OFFLINE=0, or copy that "
        "folder from where it was fetched"
    )
    ((path, _),) = opened(hub, folder, "hf://me/tiny")
    (Path(path) / "encode.fp32.data").unlink()
    (part,) = opened(hub, folder, "hf://me/tiny", HF_HUB_OFFLINE="1")
    assert part.startswith("HubError: ")
    assert "HF_HUB_OFFLINE=0" in part
    (unreachable,) = opened(hub, folder, "hf://me/tiny", cache="empty", **UNREACHABLE)
    assert unreachable.startswith(
        "HubError: can't fetch hf://me/tiny: found http://127.0.0.1:9 can't be reached: "
    )
    assert unreachable.endswith(
        "Fix: check the network, proxy and HF_ENDPOINT; what was fetched before opens without them"
    )


def test_refusals_are_sentences(hub: Hub, folder: Path, tiny_bundle: Path, ids: list[Any]) -> None:
    whole = files(tiny_bundle)
    repositories = {
        "me/tiny": Repository(),
        "me/secret": Repository(private=True),
        "me/gated": Repository(gated=True),
        "me/text": Repository(),
        "me/part": Repository(),
        "me/broken": Repository(),
    }
    hub.repositories.update(repositories)
    for name, content in {
        "me/text": {"README.md": b"nothing"},
        "me/part": {name: data for name, data in whole.items() if name != "encode.fp32.data"},
        "me/broken": {**whole, "bundle.json": b"[1, 2"},
    }.items():
        repositories[name].commit(content)
    for name in ("me/tiny", "me/secret", "me/gated"):
        repositories[name].commit(whole)
    asked = [
        *("hf://me/nothing", "hf://me/secret", ("hf://me/secret", READER), "hf://me/gated"),
        *("hf://me/tiny@v9", ("hf://me/tiny", "hf_wrong"), "hf://me/text", "hf://me/part"),
        *("hf://me/broken", "hf://me"),
    ]
    nothing, secret, read, gated, revision, token, text, part, broken, form = opened(
        hub, folder, *asked
    )
    log_in = "`hf auth login` once, or set HF_TOKEN"
    assert nothing == (
        "HubError: can't fetch hf://me/nothing: found there is no repository me/nothing, or it is "
        f"private. Fix: check the name; for a private one, {log_in}"
    )
    assert secret == nothing.replace("nothing", "secret")
    assert read[1] == ids
    assert gated == (
        "HubError: can't fetch hf://me/gated: found me/gated is gated: its owner says who may read "
        f"it. Fix: ask for access at {hub.url}/me/gated, then {log_in}"
    )
    assert revision == (
        "HubError: can't fetch hf://me/tiny@v9: found me/tiny has no revision v9. Fix: choose a "
        f"branch, tag or commit of {hub.url}/me/tiny/commits/main"
    )
    assert "found the hub wants a token that may do this (status 401)" in token
    assert text.startswith("HubError: hf://me/text is no bundle: there is no bundle.json. Fix: ")
    assert part.startswith(
        "HubError: hf://me/part is no whole bundle: there is no encode.fp32.data. Fix: "
    )
    assert broken.startswith("BundleError: ")
    assert "bundle.json is malformed" in broken
    assert form.startswith("InputError: hf://me is no address of a model on the hub: expected ")


def test_a_pickled_tokenizer_is_opened_elsewhere_by_its_commit(
    hub: Hub, folder: Path, tiny_bundle: Path, ids: list[Any]
) -> None:
    repository = hub.repositories["me/tiny"] = Repository()
    commit = repository.commit(files(tiny_bundle))
    run(PICKLE, folder, hub.environment(folder / "here"), "hf://me/tiny")
    repository.commit({"bundle.json": b"{}"})  # The branch has moved on.
    (folder / "here").rename(folder / "gone")
    path = run(UNPICKLE, folder, hub.environment(folder / "there"))
    assert Path(path).name == commit
    assert Path(path).is_relative_to(folder / "there")
    assert np.load(folder / "ids.npy").tolist() == ids


def command(
    hub: Hub, folder: Path, *arguments: str, token: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", MAIN, *arguments],
        cwd=folder,
        env=hub.environment(folder / "cache", token),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_commands_read_addresses(hub: Hub, folder: Path, tiny_bundle: Path, ids: list[Any]) -> None:
    hub.repositories["me/tiny"] = Repository(private=True)
    hub.repositories["me/tiny"].commit(files(tiny_bundle))
    refused = command(hub, folder, "tokenize", "hf://me/tiny", "clips.npy", "-o", "ids.npz")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("magvit: can't fetch hf://me/tiny: found there is no ")
    for arguments in (
        ("tokenize", "hf://me/tiny", "clips.npy", "-o", "ids.npz"),
        ("detokenize", "hf://me/tiny@main", "ids.npz", "-o", "back.npy"),
        ("doctor", "hf://me/tiny"),
    ):
        process = command(hub, folder, *arguments, token=READER)
        assert (process.returncode, process.stderr) == (0, "")
        assert process.stdout
    with np.load(folder / "ids.npz") as tokens:
        assert tokens["tokens"].tolist() == ids
    assert np.load(folder / "back.npy").shape == CLIPS.shape


@pytest.mark.slow
def test_a_bundle_of_the_hub_is_verified_but_not_stamped(
    hub: Hub, folder: Path, fixed_bundle: Path
) -> None:
    hub.repositories["me/fixed"] = Repository()
    hub.repositories["me/fixed"].commit(files(fixed_bundle))
    process = command(hub, folder, "verify", "hf://me/fixed", "--against", "fp32", "--json")
    assert process.returncode == 0, process.stderr
    facts = json.loads(process.stdout)
    assert facts["passed"]
    assert facts["stamped"] == []
    assert "can't be changed: its files are links into" in facts["unstamped_because"]


def test_commands_that_change_a_bundle_refuse_addresses_before_they_fetch(
    hub: Hub, folder: Path
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    cached = f"{folder}/models--me--tiny/snapshots/{commit}/small"
    for arguments in (
        ("tune", "hf://me/tiny@v1/small"),
        ("train", "classifier", "hf://me/tiny@v1/small", "ids.npz"),
        ("export", "trajectory-small", "--weights", "seeded", "-o", "hf://me/tiny@v1/small"),
        ("tune", cached),
    ):
        process = command(hub, folder, *arguments, token=WRITER)
        assert process.returncode == 2, process.stderr
        revision = commit if cached in arguments else "v1"
        assert process.stderr == (
            f"magvit: hf://me/tiny@{revision}/small can't be changed here: the hub's cache is "
            "shared, and holds what the hub has. Fix: hf download me/tiny --revision "
            f"{revision} --include 'small/*' --local-dir COPY, change COPY/small, and push it with "
            "`magvit push`\n"
        )
    assert hub.requests == []
    assert not Path(folder / "hf:").exists()


def test_every_command_that_takes_a_bundle_says_whether_it_changes_it() -> None:
    """A plain `Path` would take an address for a folder."""
    unsaid, known = [], 0
    commands = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for name, place in commands["project"]["entry-points"]["magvit.commands"].items():
        module, _, attribute = place.partition(":")
        function = getattr(import_module(module), attribute)
        if not callable(function) or not hasattr(function, "__code__"):
            continue  # A group of commands.
        hints = get_type_hints(function, include_extras=True)
        if hints.get("bundle", BundleArgument) not in (BundleArgument, OptionalBundle, OwnBundle):
            unsaid.append(name)
        known += "bundle" in hints
    assert unsaid == []
    assert known >= 10
