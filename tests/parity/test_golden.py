"""PyTorch and ONNX Runtime against values of the reference implementation.

tests/golden/ holds what the reference computed in float64; its weights follow from their names.
float32 may differ by the tolerances below, so a bit may differ where its latent is that near 0.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
import pytest
import torch
from numpy.typing import NDArray
from seeded_checkpoints import (
    ema_tensors,
    golden,
    model_shapes,
    published_tensors,
    write_checkpoint,
)

from magvit_export.catalog import find_model
from magvit_export.checkpoint import load_weights
from magvit_export.checkpoint_keys import ema_name
from magvit_export.config import TokenizerConfig
from magvit_export.exporting import export_tokenizer
from magvit_export.models import MagvitTokenizer, empty_tokenizer
from magvit_export.models.lfq import dequantize, quantize
from magvit_export.seeded import seeded_state
from magvit_runtime import Tokenizer

Variant = Literal["raw", "ema"]

LATENT_TOLERANCE = 3e-4
FRAME_TOLERANCE = 3e-5
HALF_FRAME_TOLERANCE = 3e-3  # Rounding the stored float16 alone reaches 2e-3.
FLOAT64_TOLERANCE = 1e-6  # Rounding of the stored float32, absolute and relative.

VIDEO_CASES = ("t1_64x64", "t5_64x64", "t17_40x72", "t17_64x64")
IMAGE_CASES = ("16x_z18", "16x_z14", "8x_z18")
VARIANTS: tuple[Variant, ...] = ("raw", "ema")


@cache
def arrays(fixture: str) -> Mapping[str, NDArray[Any]]:
    return dict(golden(fixture))


def config_of(fixture: str, case: str) -> TokenizerConfig:
    config = json.loads(str(arrays(fixture)["meta"]))["config"]
    config = config if fixture.startswith("video") else config[case] | {"dims": 2}
    return TokenizerConfig(**config | {"ch_mult": tuple(config["ch_mult"])})


def frames_of(fixture: str, case: str) -> NDArray[np.uint8]:
    return arrays(fixture)["x" if fixture.startswith("image") else f"{case}.x"]


@cache
def model_of(config: TokenizerConfig, variant: Variant) -> MagvitTokenizer:
    shapes = model_shapes(config)
    state = seeded_state(shapes)
    if variant == "ema":
        ema = ema_tensors(shapes)
        state = {key: ema[ema_name(key)] for key in shapes}
    model = empty_tokenizer(config)
    model.load_state_dict(state, assign=True)
    return model.requires_grad_(False)


def check_float32(
    fixture: str, case: str, variant: Variant, latents: NDArray[Any], ids: NDArray[Any]
) -> None:
    expected = arrays(fixture)[f"{case}.z_{variant}"]
    np.testing.assert_allclose(latents, expected, rtol=0, atol=LATENT_TOLERANCE)
    clear = np.abs(expected).min(axis=1) > LATENT_TOLERANCE
    assert clear.mean() > 0.95
    np.testing.assert_array_equal(ids[clear], arrays(fixture)[f"{case}.ids_{variant}"][clear])


CASES = [
    *(("video_small", case) for case in VIDEO_CASES),
    *(("image_small", case) for case in IMAGE_CASES),
]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("fixture", "case"), CASES)
def test_pytorch_encodes_in_float32(fixture: str, case: str, variant: Variant) -> None:
    model = model_of(config_of(fixture, case), variant)
    latents = model.latents(torch.from_numpy(frames_of(fixture, case)))
    check_float32(fixture, case, variant, latents.numpy(), quantize(latents).numpy())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("fixture", "case"), CASES)
def test_pytorch_encodes_in_float64(fixture: str, case: str, variant: Variant) -> None:
    """To the last stored digit, which tells apart what float32 can't: an epsilon, a padding."""
    config = config_of(fixture, case)
    model = empty_tokenizer(config)
    state = model_of(config, variant).state_dict()
    model.load_state_dict({key: value.double() for key, value in state.items()}, assign=True)
    with torch.no_grad():
        latents = model.latents(torch.from_numpy(frames_of(fixture, case)))
    assert latents.dtype == torch.float64
    data = arrays(fixture)
    np.testing.assert_allclose(
        latents.numpy(),
        data[f"{case}.z_{variant}"],
        rtol=FLOAT64_TOLERANCE,
        atol=FLOAT64_TOLERANCE,
    )
    np.testing.assert_array_equal(quantize(latents).numpy(), data[f"{case}.ids_{variant}"])


def rows_of(frames: NDArray[Any]) -> NDArray[Any]:
    """The rows of which golden values are stored in float32: first, middle and last."""
    height = frames.shape[-2]
    return frames[..., [0, height // 2, height - 1], :]


@pytest.mark.parametrize(("fixture", "case"), CASES)
def test_pytorch_decodes_in_float32(fixture: str, case: str) -> None:
    data = arrays(fixture)
    model = model_of(config_of(fixture, case), "raw")
    frames = model.decode(torch.from_numpy(data[f"{case}.ids_raw"])).numpy()
    # Time and space as they were: the decoder is the encoder's inverse in shape.
    assert np.moveaxis(frames, 1, -1).shape == frames_of(fixture, case).shape
    np.testing.assert_allclose(
        rows_of(frames), data[f"{case}.rec_rows_raw"], rtol=0, atol=FRAME_TOLERANCE
    )
    whole = data.get(f"{case}.rec_raw")
    if whole is not None:
        tolerance = HALF_FRAME_TOLERANCE if whole.dtype == np.float16 else FRAME_TOLERANCE
        np.testing.assert_allclose(frames, whole, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("fixture", "case"), [case for case in CASES if not case[1].startswith("t17")]
)
def test_pytorch_decodes_in_float64(fixture: str, case: str) -> None:
    data = arrays(fixture)
    config = config_of(fixture, case)
    model = empty_tokenizer(config)
    state = model_of(config, "raw").state_dict()
    model.load_state_dict({key: value.double() for key, value in state.items()}, assign=True)
    with torch.no_grad():
        frames = model.decode(torch.from_numpy(data[f"{case}.ids_raw"])).numpy()
    np.testing.assert_allclose(
        rows_of(frames),
        data[f"{case}.rec_rows_raw"],
        rtol=FLOAT64_TOLERANCE,
        atol=FLOAT64_TOLERANCE,
    )


@pytest.fixture(scope="module")
def tokenizer_of(
    small_bundle: Path, small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str, Variant], Tokenizer]:
    """Tokenizers in ONNX Runtime, each exported once."""
    folder = tmp_path_factory.mktemp("golden")

    @cache
    def video(variant: Variant) -> Tokenizer:
        path = small_bundle  # Its seeded weights are the golden raw ones.
        if variant == "ema":
            path = folder / "video"
            entry = find_model("trajectory-small")
            export_tokenizer(entry, path, weights=str(small_checkpoint))
        return Tokenizer.open(path, backend="onnxruntime")

    @cache
    def image(case: str) -> Tokenizer:
        export_tokenizer(
            find_model("open-magvit2-image-256"),
            folder / case,
            weights="seeded",
            config=config_of("image_small", case),
        )
        return Tokenizer.open(folder / case, backend="onnxruntime")

    return lambda fixture, case, variant: (
        video(variant) if fixture == "video_small" else image(case)
    )


@pytest.mark.parametrize(
    ("fixture", "case", "variant"),
    [
        *(("video_small", case, variant) for variant in VARIANTS for case in VIDEO_CASES),
        *(("image_small", case, "raw") for case in IMAGE_CASES),
    ],
)
def test_onnx_runtime_encodes(
    tokenizer_of: Callable[[str, str, Variant], Tokenizer],
    fixture: str,
    case: str,
    variant: Variant,
) -> None:
    tokenizer = tokenizer_of(fixture, case, variant)
    frames = frames_of(fixture, case)
    check_float32(fixture, case, variant, tokenizer.latents(frames), tokenizer(frames))


@pytest.mark.parametrize("bits", [18, 14])
def test_pytorch_quantizes_the_edge_cases(bits: int) -> None:
    """Zeros of both signs, NaN, infinities, denormals: only z > 0 sets a bit."""
    data = arrays("lfq")
    ids = quantize(torch.from_numpy(data[f"z{bits}"]))
    assert ids.dtype == torch.int32
    np.testing.assert_array_equal(ids.numpy(), data[f"ids{bits}"])


def test_pytorch_dequantizes() -> None:
    data = arrays("lfq")
    codes = dequantize(torch.from_numpy(data["table_ids18"])[:, None], 18)
    np.testing.assert_array_equal(codes[..., 0].numpy(), data["table_codes18"])
    np.testing.assert_array_equal(quantize(codes)[:, 0].numpy(), data["table_ids18"])


def tree_memory(process: psutil.Process) -> int:
    """Resident bytes of a process and its children."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def run_measured(arguments: list[str]) -> tuple[float, int]:
    """Seconds and peak resident bytes of a `magvit` command that must succeed."""
    main = "from magvit_runtime.cli.main import main; main()"
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", main, *arguments])
    peak = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        watched = psutil.Process(process.pid)
        while not done.wait(0.05):
            try:
                peak = max(peak, tree_memory(watched))
            except psutil.NoSuchProcess:
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    done.set()
    watcher.join()
    assert code == 0
    return time.monotonic() - start, peak


@pytest.fixture
def released_checkpoint(tmp_path: Path) -> Iterator[Path]:
    """A file of the released video model's 568 keys and 3 GB, with generated weights."""
    config = find_model("open-magvit2-video-128").config
    assert config is not None
    path = tmp_path / "video_128_262144.ckpt"
    tensors = published_tensors(config)
    assert len(tensors) == 568
    write_checkpoint(path, tensors)
    del tensors
    yield path
    shutil.rmtree(tmp_path)  # Pytest would keep the gigabytes of the last three runs.


@pytest.mark.full_size
@pytest.mark.timeout(1800)
def test_the_released_model_from_checkpoint_to_tokens(
    released_checkpoint: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    weights = ["--weights", str(released_checkpoint)]
    seconds, peak = run_measured(
        ["export", "open-magvit2-video-128", *weights, "--precision", "fp32", "-o", str(bundle)]
    )
    print(f"export: {seconds:.0f} s, peak {peak / 1e9:.2f} GB")
    assert seconds < 240
    assert peak < 6e9

    data = arrays("video_full")
    frames, expected = data["t17_128x128.x"], data["t17_128x128.z_ema"]
    clear = np.abs(expected).min(axis=1) > LATENT_TOLERANCE
    assert clear.mean() > 0.99

    with Tokenizer.open(bundle, backend="onnxruntime") as tokenizer:
        start = time.monotonic()
        ids = tokenizer(frames)
        print(f"tokenize: {time.monotonic() - start:.1f} s on {os.cpu_count()} cores")
        latents = tokenizer.latents(frames)
    difference = np.abs(latents - expected)
    print(f"ONNX Runtime: max|dz| {difference.max():.1e}, rms {rms(difference):.1e}")
    assert difference.max() <= LATENT_TOLERANCE
    assert rms(difference) < LATENT_TOLERANCE / 10
    np.testing.assert_array_equal(ids[clear], data["t17_128x128.ids_ema"][clear])

    config = find_model("open-magvit2-video-128").config
    assert config is not None
    model = empty_tokenizer(config)
    state = load_weights(released_checkpoint, model_shapes(config)).state
    model.load_state_dict(state, assign=True)
    with torch.no_grad():
        torch_latents = model.latents(torch.from_numpy(frames))
    difference = np.abs(torch_latents.numpy() - expected)
    print(f"PyTorch: max|dz| {difference.max():.1e}, rms {rms(difference):.1e}")
    assert difference.max() <= LATENT_TOLERANCE
    assert rms(difference) < LATENT_TOLERANCE / 10
    torch_ids = quantize(torch_latents).numpy()
    np.testing.assert_array_equal(torch_ids[clear], data["t17_128x128.ids_ema"][clear])


def rms(values: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
