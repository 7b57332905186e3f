"""Attention over positions: PyTorch's, and the ONNX function, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper

from magvit_export.layers.attention import spatial_attention
from magvit_export.onnx.functions import OPSET, spatial_attention_function


def attention_in_numpy(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any]) -> NDArray[np.float64]:
    queries, keys, values = (x.astype(np.float64).reshape(*x.shape[:2], -1) for x in (q, k, v))
    scores = np.einsum("ncp,ncq->npq", queries, keys) / np.sqrt(q.shape[1])
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    mixed: NDArray[np.float64] = np.einsum("npq,ncq->ncp", weights, values)
    return mixed.reshape(v.shape)


def attention_in_onnxruntime(*operands: NDArray[Any]) -> NDArray[Any]:
    kind = helper.np_dtype_to_tensor_dtype(operands[0].dtype)
    names = ("q", "k", "v")
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("SpatialAttention", names, ["y"], domain="magvit")],
            "attention",
            [helper.make_tensor_value_info(name, kind, ["N", "C", "H", "W"]) for name in names],
            [helper.make_tensor_value_info("y", kind, ["N", "C", "H", "W"])],
        ),
        functions=[spatial_attention_function()],
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("magvit", 1)],
        ir_version=10,
    )
    session = onnxruntime.InferenceSession(model.SerializeToString())
    result: NDArray[Any] = session.run(None, dict(zip(names, operands, strict=True)))[0]
    return result


@pytest.mark.parametrize("shape", [(1, 32, 16, 16), (2, 64, 3, 5), (3, 8, 1, 1)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-5), (np.float16, 2e-3)])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_every_position_sees_every_other(
    shape: tuple[int, ...], dtype: type, tolerance: float, scale: float
) -> None:
    """With products of up to 30,000 too, which float16 can't sum."""
    random = np.random.default_rng(0)
    q, k, v = (random.standard_normal(shape).astype(dtype) for _ in "qkv")
    q, k = (dtype(scale) * x for x in (q, k))
    expected = attention_in_numpy(q, k, v)
    found = spatial_attention(*(torch.from_numpy(x) for x in (q, k, v))).numpy()
    exported = attention_in_onnxruntime(q, k, v)
    for result in (found, exported):
        assert result.dtype == dtype
        np.testing.assert_allclose(result, expected, rtol=0, atol=tolerance * scale)
