"""IBQ's tokenizer against the reference implementation, in every way that runs here.

An id may differ where its margin is small: of two rows that fit almost equally either may win.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from parity.encoders import Encoders, build
from parity.suite import WAYS, Variant, Way, arrays, why_not_here
from parity.test_decoders import WAYS_TO_PIXELS, rows_of, to_bytes
from seeded_checkpoints import model_shapes

from magvit_export.checkpoints.reading import load_weights
from magvit_export.checkpoints.seeded import seeded_state
from magvit_export.families.ibq.config import IbqConfig
from magvit_export.families.ibq.family import FAMILY
from magvit_export.families.ibq.tokenizer import IbqTokenizer, empty_tokenizer
from magvit_runtime import open_bundle
from magvit_runtime.agreement.limits import PIXEL_LIMITS
from magvit_runtime.agreement.margins import MarginAccumulator
from magvit_runtime.agreement.signs import compare_latents
from magvit_runtime.backends.opening import open_role

FIXTURE = "ibq_small"
VARIANTS: tuple[Variant, ...] = ("raw", "ema")
LATENT_TOLERANCE = 5e-4
CLEAR_MARGIN = 1e-3
FLOAT64_TOLERANCE = 1e-6  # Rounding of the stored float32, absolute and relative.
IMAGE_TOLERANCE = 2e-4
HALF_IMAGE_TOLERANCE = 3e-3  # Rounding the stored float16 alone reaches 2e-3.


@dataclass(frozen=True)
class Ibq:
    """The architecture of the golden values, as `Encoders` wants its models."""

    name: str = FIXTURE
    entry: str = "ibq-1024"

    @property
    def config(self) -> IbqConfig:
        stated = json.loads(str(arrays(FIXTURE)["meta"]))["config"]
        layers = stated.pop("ddconfig")
        lists = {key: tuple(value) for key, value in layers.items() if isinstance(value, list)}
        return IbqConfig(**stated, **layers | lists)


MODEL = Ibq()


@dataclass(frozen=True)
class Encoded:
    ids: NDArray[Any]
    margins: NDArray[Any]
    latents: NDArray[Any]


def pytorch(encoders: Encoders, variant: Variant, dtype: torch.dtype) -> IbqTokenizer:
    shapes = model_shapes(MODEL.config)
    if variant == "raw":
        state = seeded_state(shapes)
    else:
        path = encoders.checkpoint(MODEL)
        state = load_weights(path, shapes, None, FAMILY.spellings, "ema").state
    tokenizer = empty_tokenizer(MODEL.config)
    tokenizer.load_state_dict({key: value.to(dtype) for key, value in state.items()}, assign=True)
    return tokenizer.requires_grad_(False)


def encode(encoders: Encoders, variant: Variant, way: Way) -> Encoded:
    frames = arrays(FIXTURE)["x"]
    if way.backend == "pytorch":
        dtype = torch.float64 if way.precision == "fp64" else torch.float32
        tokenizer = pytorch(encoders, variant, dtype)
        latents = tokenizer.latents(torch.from_numpy(frames))
        ids, margins = tokenizer.quantize(latents)
        return Encoded(ids.numpy(), margins.numpy(), latents.numpy())
    assert way.precision != "fp64"
    bundle = encoders.bundle(MODEL, variant, way.precision)
    if way.backend.startswith("tensorrt"):
        build(bundle, way, frames)
    options: Any = {"backend": way.backend, "precision": way.precision}
    _, session = open_role(open_bundle(bundle), "encode", **options)
    with session:
        return Encoded(*session.run({"frames": frames}, ["ids", "margins", "latents"]))


def combinations() -> Iterator[Any]:
    for way in WAYS:
        reason = why_not_here(way)
        skip = [pytest.mark.skip(reason=f"{way.name}: {reason}")] if reason else []
        for variant in VARIANTS:
            name = f"{variant}-{way.name}".replace(" ", "-")
            yield pytest.param(variant, way, id=name, marks=skip)


@pytest.mark.parametrize(("variant", "way"), list(combinations()))
def test_ids_margins_and_latents(encoders: Encoders, variant: Variant, way: Way) -> None:
    golden = arrays(FIXTURE)
    found = encode(encoders, variant, way)
    ids, margins, latents = (golden[f"{name}_{variant}"] for name in ("ids", "margin", "z"))
    if way.rule == "fp64":
        tolerances = {"rtol": FLOAT64_TOLERANCE, "atol": FLOAT64_TOLERANCE}
        np.testing.assert_allclose(found.latents, latents, **tolerances)
        np.testing.assert_allclose(found.margins, margins, **tolerances)
        np.testing.assert_array_equal(found.ids, ids)
        return
    comparison = MarginAccumulator()
    comparison.add(found.ids, found.margins, ids, margins)
    agreement = comparison.result()
    assert agreement.passes(way.rule), agreement
    assert compare_latents(found.latents, latents).rms < {"fp32": 5e-5}.get(way.rule, 8e-3)
    if way.rule == "fp32":
        np.testing.assert_allclose(found.latents, latents, rtol=0, atol=LATENT_TOLERANCE)
        clear = margins > CLEAR_MARGIN
        assert clear.mean() > 0.99
        np.testing.assert_array_equal(found.ids[clear], ids[clear])
    if way.precision == "fp16":
        # It is half precision that was measured, not float32 under another name.
        assert not agreement.passes("fp32")


@pytest.mark.parametrize(
    ("dtype", "rows_tolerance", "tolerance"),
    [
        (torch.float32, IMAGE_TOLERANCE, HALF_IMAGE_TOLERANCE),
        (torch.float64, 2 * FLOAT64_TOLERANCE, HALF_IMAGE_TOLERANCE),
    ],
    ids=["float32", "float64"],
)
def test_pytorch_decodes(
    encoders: Encoders, dtype: torch.dtype, rows_tolerance: float, tolerance: float
) -> None:
    golden = arrays(FIXTURE)
    tokenizer = pytorch(encoders, "raw", dtype)
    images = tokenizer.decode(torch.from_numpy(golden["ids_raw"])).numpy()
    assert np.moveaxis(images, 1, -1).shape == golden["x"].shape
    np.testing.assert_allclose(rows_of(images), golden["rec_rows_raw"], rtol=0, atol=rows_tolerance)
    np.testing.assert_allclose(images, golden["rec_raw"], rtol=0, atol=tolerance)


@pytest.mark.parametrize("way", WAYS_TO_PIXELS)
def test_decoded_bytes_are_the_references(encoders: Encoders, way: Way) -> None:
    golden = arrays(FIXTURE)
    pixels = encoders.decode(MODEL, way, golden["ids_raw"].astype(np.int32))
    assert (pixels.dtype, pixels.shape) == (np.uint8, golden["x"].shape)
    rows = pixels[:, [0, pixels.shape[1] // 2, -1]]
    for ours, stored in ((rows, "rec_rows_raw"), (pixels, "rec_raw")):
        errors = np.abs(ours - to_bytes(golden[stored]))
        if way.rule == "fp32":
            assert errors.max() <= 1
            assert np.mean(errors == 0) >= 0.99
        else:
            assert way.rule != "fp64"
            assert errors.max() <= PIXEL_LIMITS[way.rule].max
            assert np.sqrt(np.mean(errors**2)) <= PIXEL_LIMITS[way.rule].rms
