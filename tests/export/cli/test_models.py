"""`magvit models`: all that is known of each model, at once."""

from __future__ import annotations

import subprocess
import sys

from runtime.magvit_process import MAIN, done, done_json

from magvit_export.catalog import all_models


def test_a_model_with_all_that_is_known_of_it() -> None:
    models = {one["name"]: one for one in done_json("models")["models"]}
    small = models["trajectory-small"]
    assert small["repo"] is None
    encoder, decoder, _ = small["graphs"]
    assert (encoder["role"], decoder["role"]) == ("encode", "decode")
    assert encoder["inputs"][0]["shape"] == decoder["outputs"][0]["shape"] == [1, 17, 128, 128, 3]
    assert encoder["parameters"] < decoder["parameters"]
    # This size is verified wherever anything changes, so it is never "not run".
    verdicts = {(one["role"], one["precision"], one["backend"]): one for one in small["verdicts"]}
    for role in ("encode", "decode"):
        for way in (("fp32", "onnxruntime"), ("fp32", "native"), ("fp16", "onnxruntime")):
            assert verdicts[role, *way]["verdict"] == "agrees"
    image = models["open-magvit2-image-256"]
    assert image["published"] == {
        "rFID": 1.17,
        "PSNR (dB)": 21.9,
        "codes used (%)": 100,
    }
    (features,) = models["videomae-base"]["graphs"]
    assert features["outputs"][0]["shape"] == [1, 1568, 768]
    roles = [graph["role"] for graph in models["open-magvit2-ar-b"]["graphs"]]
    assert roles == ["context", "subtokens"]


def test_the_tables_for_people() -> None:
    text = done("models")
    titles = [part.splitlines()[0] for part in text.split("\n\n")]
    assert [title.split()[0] for title in titles] == ["Models", "Graphs,", "Verified", "Published"]
    weights, graphs, *_ = (part.splitlines() for part in text.split("\n\n"))
    (row,) = (line.split("  ") for line in weights if line.startswith("open-magvit2-video-128"))
    cells = [cell.strip() for cell in row if cell]
    assert cells[2] == "TencentARC/Open-MAGVIT2-Tokenizer-262144-Video/video_128_262144.ckpt"
    assert cells[-1] == "encode, decode, features"
    assert [line.split()[0] for line in weights[2:]] == [entry.name for entry in all_models()]
    assert sum(line.startswith("open-magvit2-video-128") for line in graphs) == 3
    assert "…" not in text


def test_no_torch_is_loaded_for_it() -> None:
    program = f"import atexit, sys; atexit.register(lambda: print('torch' in sys.modules)); {MAIN}"
    run = subprocess.run(
        [sys.executable, "-c", program, "models"], capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines()[-1] == "False"
