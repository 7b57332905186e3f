"""The hub's own client, with no network: against its cache, a closed port and a local server."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from magvit_export.catalog import CatalogEntry
from magvit_export.checkpoints.hub import fetch_checkpoint
from magvit_runtime.errors import InputError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONTENT = b"weights" * 1000
# The client reads its settings when it is imported, so each test has an interpreter of its own.
FETCH = """
import sys, time
time.sleep = lambda seconds: None  # The client waits between its attempts.
from magvit_export.catalog import find_model
from magvit_export.checkpoints.hub import fetch_checkpoint
from magvit_runtime.hub.refusals import HubError
try:
    print(fetch_checkpoint(find_model(sys.argv[1])))
except HubError as error:
    print(f"HubError: {error}")
"""


def fetch(cache: Path, model: str = "open-magvit2-video-128", **settings: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"HF_HOME": str(cache), "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1"}
    process = subprocess.run(
        [sys.executable, "-c", FETCH, model],
        env=environment | settings,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


def test_a_file_in_the_cache_is_found_offline(tmp_path: Path) -> None:
    repository = tmp_path / "hub/models--TencentARC--Open-MAGVIT2-Tokenizer-262144-Video"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(COMMIT)
    (snapshot / "video_128_262144.ckpt").write_bytes(CONTENT)
    found = fetch(tmp_path, HF_HUB_OFFLINE="1")
    assert Path(found) == snapshot / "video_128_262144.ckpt"


@pytest.mark.parametrize(
    "settings",
    [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}],
    ids=["offline", "closed port"],
)
def test_without_hub_and_cache_the_message_says_what_to_do(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    message = fetch(tmp_path, **settings)
    assert message.startswith(
        "HubError: can't fetch video_128_262144.ckpt from "
        "TencentARC/Open-MAGVIT2-Tokenizer-262144-Video: found "
    )
    assert message.endswith(
        "Fix: download the file by hand and use --weights video_128_262144.ckpt"
    )


class Hub(BaseHTTPRequestHandler):
    """The part of the hub that one download needs."""

    status = 200

    def do_HEAD(self) -> None:
        self._head()

    def do_GET(self) -> None:
        self._head()
        if self.status == 200:
            self.wfile.write(CONTENT)

    def _head(self) -> None:
        known = self.path.endswith("/resolve/main/video_128_262144.ckpt")
        known = known or self.path.endswith(f"/resolve/{COMMIT}/video_128_262144.ckpt")
        self.send_response(self.status if known else 404)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(CONTENT).hexdigest()}"')
        self.send_header("Content-Length", str(len(CONTENT) if self.status == 200 else 0))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(request: pytest.FixtureRequest) -> Iterator[str]:
    handler = type("Hub", (Hub,), {"status": request.param})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("hub", [200], indirect=True)
def test_a_download_lands_in_the_cache(tmp_path: Path, hub: str) -> None:
    found = Path(fetch(tmp_path, HF_ENDPOINT=hub))
    assert found.is_relative_to(tmp_path)
    assert found.name == "video_128_262144.ckpt"
    assert found.read_bytes() == CONTENT


@pytest.mark.parametrize("hub", [401, 403, 404, 500], indirect=True)
def test_a_refusal_is_a_hub_error(tmp_path: Path, hub: str) -> None:
    message = fetch(tmp_path, HF_ENDPOINT=hub)
    assert message.startswith("HubError: can't fetch video_128_262144.ckpt")


def test_a_preset_has_no_checkpoint() -> None:
    with pytest.raises(InputError) as error:
        fetch_checkpoint(CatalogEntry("preset", "magvit", "a preset"))
    assert str(error.value) == (
        "preset has no published checkpoint. Fix: use --weights seeded or a file"
    )


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_a_whole_model_in_the_cache_is_found_offline(tmp_path: Path, weights: str) -> None:
    repository = tmp_path / "hub/models--MCG-NJU--videomae-base"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(COMMIT)
    for name in ("config.json", "preprocessor_config.json", weights):
        (snapshot / name).write_bytes(CONTENT)
    found = fetch(tmp_path, "videomae-base", HF_HUB_OFFLINE="1")
    assert Path(found) == snapshot


def test_a_whole_model_that_cannot_be_fetched_says_how_to_get_it(tmp_path: Path) -> None:
    message = fetch(tmp_path, "videomae-base", HF_HUB_OFFLINE="1")
    assert message.startswith("HubError: can't fetch the model from MCG-NJU/videomae-base")
    assert "git clone https://huggingface.co/MCG-NJU/videomae-base" in message
