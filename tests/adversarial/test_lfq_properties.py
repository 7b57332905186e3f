"""LFQ of any float, in three ways: PyTorch, the ONNX function in ONNX Runtime, the CPU operator.

The reference is NumPy's own comparison with zero. And arrays of any memory layout through the
public classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper

from magvit_export.layers.lfq import quantize
from magvit_export.onnx.functions import OPSET, lfq_function
from magvit_export.onnx.operator_nodes import DOMAIN
from magvit_runtime import Classifier, InputError, Tokenizer
from magvit_runtime.native_libraries.lookup import LIBRARY_DIR_VARIABLE, operators_library
from magvit_runtime.native_libraries.operators import lfq
from magvit_runtime.quantizers.lfq import bits_to_ids, ids_to_bits

Quantizer = Callable[[np.ndarray], np.ndarray]

TINY = np.finfo(np.float32).smallest_subnormal
WORDS = [0x7FC00000, 0xFFC00000, 0x7F800001, 0xFF800001, 0x7FFFFFFF, 0x80000000, 0x00000001]
EDGES = [0.0, np.inf, -np.inf, TINY, -TINY, *np.array(WORDS, np.uint32).view(np.float32)]


def by_numpy(latents: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # Signalling NaNs.
        return bits_to_ids(np.moveaxis(latents, 1, -1) > 0)


def by_torch(latents: np.ndarray) -> np.ndarray:
    # Torch takes neither negative strides nor read-only memory.
    return quantize(torch.from_numpy(latents.copy())).numpy()


@pytest.fixture(scope="module")
def by_onnx_runtime() -> Quantizer:
    node = helper.make_node("LFQ", ["z"], ["ids"], domain=DOMAIN)
    graph = helper.make_graph(
        [node],
        "lfq",
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("ids", TensorProto.INT32, None)],
    )
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=imports, functions=[lfq_function()])
    model.ir_version = 10
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return lambda latents: session.run(["ids"], {"z": latents})[0]


@pytest.fixture(scope="module")
def by_operator() -> Quantizer:
    if operators_library() is None:
        pytest.skip(
            "libmagvit_operators.so is not there; build it by: cmake -B build && "
            f"cmake --build build, and set {LIBRARY_DIR_VARIABLE}=build/lib"
        )
    return lfq


@st.composite
def latents_of_any_kind(draw: st.DrawFn) -> np.ndarray:
    """Every bit pattern, including zeros of both signs and NaNs of all payloads, in any layout."""
    rest = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 31)), *rest)
    values = draw(hnp.arrays(np.uint32, shape)).view(np.float32)
    edges = draw(hnp.arrays(np.int8, shape, elements=st.integers(-1, len(EDGES) - 1)))
    values = np.where(edges >= 0, np.array(EDGES, np.float32)[edges], values)
    return draw(layouts(values))


@st.composite
def layouts(draw: st.DrawFn, values: np.ndarray) -> np.ndarray:
    """The same values: in C or Fortran order, channels last, strided, backwards, read-only."""
    kind = draw(st.sampled_from(["C", "Fortran", "channels last", "strided", "backwards", "wide"]))
    if kind == "Fortran":
        values = np.asfortranarray(values)
    elif kind == "channels last":
        values = np.moveaxis(np.ascontiguousarray(np.moveaxis(values, 1, -1)), -1, 1)
    elif kind == "strided":
        values = np.repeat(values, 2, axis=-1)[..., ::2]
    elif kind == "backwards":
        values = np.ascontiguousarray(np.flip(values))[(slice(None, None, -1),) * values.ndim]
    elif kind == "wide":
        values = np.pad(values, [(1, 2)] * values.ndim)[(slice(1, -2),) * values.ndim]
    if draw(st.booleans()):
        values.flags.writeable = False
    return values


@settings(max_examples=200, deadline=None, derandomize=True)
@given(latents=latents_of_any_kind())
def test_pytorch(latents: np.ndarray) -> None:
    np.testing.assert_array_equal(by_torch(latents), by_numpy(latents))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(latents=latents_of_any_kind())
def test_the_onnx_function(by_onnx_runtime: Quantizer, latents: np.ndarray) -> None:
    ids = by_onnx_runtime(latents)
    assert ids.dtype == np.int32
    np.testing.assert_array_equal(ids, by_numpy(latents))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(latents=latents_of_any_kind(), threads=st.sampled_from([None, 1, 3]))
def test_the_cpu_operator(by_operator: Quantizer, latents: np.ndarray, threads: int | None) -> None:
    ids = by_operator(latents, threads=threads)
    assert ids.dtype == np.int32
    np.testing.assert_array_equal(ids, by_numpy(latents))


def test_the_cpu_operator_refuses_the_other_byte_order(by_operator: Quantizer) -> None:
    with pytest.raises(InputError, match="found >f4 of rank 3"):
        by_operator(np.ones((1, 2, 3), ">f4"))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(data=st.data(), bits=st.integers(1, 31), order=st.sampled_from("<>"))
def test_ids_and_bits_of_either_byte_order(data: st.DataObject, bits: int, order: str) -> None:
    ids = data.draw(
        hnp.arrays(np.int32, (2, 3, 4), elements=st.integers(0, 2**bits - 1)).flatmap(layouts)
    )
    np.testing.assert_array_equal(bits_to_ids(ids_to_bits(ids.astype(f"{order}i4"), bits)), ids)


@pytest.fixture(scope="module")
def tokenizer(sound_bundle: Path) -> Iterator[Tokenizer]:
    with Tokenizer.open(sound_bundle, backend="onnxruntime", threads=1) as tokenizer:
        yield tokenizer


@pytest.fixture(scope="module")
def classifier(sound_bundle: Path) -> Iterator[Classifier]:
    with Classifier.open(sound_bundle, threads=1) as classifier:
        yield classifier


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_the_layout_of_clips_makes_no_difference(tokenizer: Tokenizer, data: st.DataObject) -> None:
    sizes = data.draw(st.tuples(*[st.integers(1, high) for high in (2, 3, 9, 9)]))
    clips = np.random.default_rng(list(sizes)).integers(0, 256, (*sizes, 3), np.uint8)
    same = data.draw(layouts(clips))
    np.testing.assert_array_equal(tokenizer(same), tokenizer(clips))
    np.testing.assert_array_equal(tokenizer.latents(same), tokenizer.latents(clips))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data(), seed=st.integers(0, 99))
def test_the_layout_of_ids_makes_no_difference(
    classifier: Classifier, data: st.DataObject, seed: int
) -> None:
    ids = np.random.default_rng(seed).integers(2**18, size=(3, 2, 2, 2), dtype=np.int32)
    same = classifier(data.draw(layouts(ids)))
    np.testing.assert_array_equal(same.probabilities, classifier(ids).probabilities)


@pytest.mark.parametrize("dtype", [">i4", "<i8", ">i8", "<u4", "<i2", "<f4", "object", "bool"])
def test_ids_of_another_type_or_byte_order_are_refused(classifier: Classifier, dtype: str) -> None:
    with pytest.raises(InputError, match="ids don't fit this model"):
        classifier(np.zeros((1, 2, 2, 2), dtype))


@pytest.mark.parametrize("value", [-1, -(2**31), 2**18, 2**31 - 1])
def test_ids_out_of_range_are_refused(classifier: Classifier, value: int) -> None:
    ids = np.zeros((3, 2, 2, 2), np.int32)
    ids[1, 0, 1, 1] = ids[2] = value
    with pytest.raises(InputError) as error:
        classifier(ids)
    assert str(error.value) == (
        f"ids are out of range: found {value} at [1, 0, 1, 1], expected 0 to 262143 (token ids)"
    )


@pytest.mark.parametrize("value", [0, 2**18 - 1])
def test_the_first_and_the_last_id_are_classified(
    classifier: Classifier, sound_bundle: Path, value: int
) -> None:
    ids = np.full((1, 2, 2, 2), value, np.int32)
    result = classifier(ids)
    graph = onnxruntime.InferenceSession(sound_bundle / "classify.fp32.onnx")
    ((expected,),) = graph.run(["probabilities"], {"ids": ids})
    np.testing.assert_allclose(result.probabilities, [expected], rtol=1e-5)
    # The labels that the training of `sound_bundle` was given, in order.
    assert result.labels == (("circle", "line", "zigzag")[expected.argmax()],)
