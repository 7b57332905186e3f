"""The codebook search: PyTorch's, and the ONNX function in ONNX Runtime, against NumPy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from runtime.peak_memory import PEAK

from magvit_export.layers.codebook import TILE, search
from magvit_export.onnx.functions import OPSET, codebook_argmax_function
from magvit_export.onnx.operator_nodes import codebook_tile

Search = Callable[[NDArray[Any], NDArray[np.float32]], tuple[NDArray[Any], NDArray[Any]]]


def search_in_pytorch(
    latents: NDArray[Any], codebook: NDArray[np.float32]
) -> tuple[NDArray[Any], NDArray[Any]]:
    ids, margins = search(torch.from_numpy(latents), torch.from_numpy(codebook))
    return ids.numpy(), margins.numpy()


def search_in_onnxruntime(
    latents: NDArray[Any], codebook: NDArray[np.float32]
) -> tuple[NDArray[Any], NDArray[Any]]:
    kind = helper.np_dtype_to_tensor_dtype(latents.dtype)
    inputs = [
        helper.make_tensor_value_info("z", kind, ["N", *latents.shape[1:]]),
        helper.make_tensor_value_info("codebook", TensorProto.FLOAT, codebook.shape),
    ]
    outputs = [
        helper.make_tensor_value_info("ids", TensorProto.INT32, None),
        helper.make_tensor_value_info("margins", TensorProto.FLOAT, None),
    ]
    node = helper.make_node(
        "CodebookArgmax",
        ["z", "codebook"],
        ["ids", "margins"],
        domain="magvit",
        tile=codebook_tile(len(codebook)),
    )
    model = helper.make_model(
        helper.make_graph([node], "search", inputs, outputs),
        functions=[codebook_argmax_function()],
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("magvit", 1)],
        ir_version=10,
    )
    session = onnxruntime.InferenceSession(model.SerializeToString())
    ids, margins = session.run(None, {"z": latents, "codebook": codebook})
    return ids, margins


def search_in_numpy(
    latents: NDArray[Any], codebook: NDArray[np.float32]
) -> tuple[NDArray[Any], NDArray[Any]]:
    scores = np.moveaxis(latents, 1, -1).astype(np.float64) @ codebook.T.astype(np.float64)
    ordered = np.sort(scores, axis=-1)
    return scores.argmax(axis=-1), ordered[..., -1] - ordered[..., -2]


both = pytest.mark.parametrize("find", [search_in_pytorch, search_in_onnxruntime])


@both
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(
    ("rows", "shape"),
    [
        (2, (1, 5, 1, 1)),
        (1024, (2, 64, 3, 5)),
        (TILE, (1, 16, 7, 2)),
        (2 * TILE, (3, 16, 4, 4)),
        (6000, (2, 16, 9)),
        (4099, (1, 8, 2, 3, 2)),  # A prime above the tile.
    ],
)
def test_ids_and_margins_are_those_of_float64(
    find: Search, rows: int, shape: tuple[int, ...], dtype: type
) -> None:
    random = np.random.default_rng(rows)
    latents = random.standard_normal(shape).astype(dtype)
    codebook = random.standard_normal((rows, shape[1])).astype(np.float32)
    ids, margins = find(latents, codebook)
    expected_ids, expected_margins = search_in_numpy(latents, codebook)
    assert (ids.dtype, margins.dtype) == (np.int32, np.float32)
    np.testing.assert_allclose(margins, expected_margins, rtol=0, atol=1e-4)
    clear = expected_margins > 1e-4
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(ids[clear], expected_ids[clear])


@both
@pytest.mark.parametrize("places", [(3, 5), (0, TILE), (TILE - 1, TILE, 3 * TILE - 1), (7, 9000)])
def test_of_equal_scores_the_lowest_row_wins(find: Search, places: tuple[int, ...]) -> None:
    random = np.random.default_rng(1)
    codebook = random.integers(-2, 3, (3 * TILE, 8)).astype(np.float32)  # Their products are exact.
    codebook[list(places)] = 9
    ids, margins = find(np.ones((2, 8, 3, 3), np.float32), codebook)
    assert (ids == places[0]).all()
    assert (margins == 0).all()


@both
def test_scores_that_are_all_negative(find: Search) -> None:
    codebook = -np.arange(10, 0, -1, dtype=np.float32)[:, None]
    ids, margins = find(np.ones((1, 1, 2, 2), np.float32), codebook)
    assert (ids == 9).all()
    assert (margins == 1).all()


@pytest.mark.parametrize("row", [0, 5, TILE + 3])
def test_pytorch_takes_nan_for_the_largest_as_numpy_does(row: int) -> None:
    codebook = np.random.default_rng(2).standard_normal((2 * TILE, 4)).astype(np.float32)
    codebook[[row, 2 * TILE - 1]] = np.nan
    ids, margins = search_in_pytorch(np.ones((1, 4, 1, 2), np.float32), codebook)
    assert (ids == row).all()
    assert np.isnan(margins).all()


def test_the_tile_divides_the_rows() -> None:
    rows = (2, 1024, 4096, 6000, 8192, 4099, 262144, 5000)
    assert [codebook_tile(size) for size in rows] == [2, 1024, 2048, 2000, 2048, 1, 2048, 1250]


MEASURE = (
    PEAK
    + """
import numpy as np, sys
sys.path.insert(0, sys.argv[1])
from export.layers.test_codebook import search_in_onnxruntime
random = np.random.default_rng(0)
codebook = random.standard_normal((262144, 256), np.float32)
latents = random.standard_normal((8, 256, 16, 16), np.float32)
search_in_onnxruntime(latents[:1, :, :1, :1], codebook[:4096])  # What any first run takes.
before = peak()
search_in_onnxruntime(latents, codebook)
print(peak() - before)
"""
)


@pytest.mark.slow
def test_scores_of_a_large_codebook_are_never_held_together() -> None:
    """8 images' scores would be 2 GB."""
    tests = str(__file__).rpartition("/export/")[0]
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, tests], capture_output=True, text=True, check=True
    )
    assert int(run.stdout) < 64e6
