"""Classifiers of ids on the native backend, against ONNX Runtime and against PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from magvit_export.onnx.export import export_onnx
from magvit_export.training.classifier import ExportedClassifier, TrajectoryClassifier
from magvit_export.training.conv_head import ConvHead, Ensemble
from magvit_export.training.hidden_head import HiddenHead
from magvit_runtime.backends.native.cpu.session import CpuSession
from magvit_runtime.backends.native.lowering import lower
from magvit_runtime.backends.onnx_runtime.backend import open_graph
from magvit_runtime.bundle.onnx_file import read_graph
from magvit_runtime.errors import BackendError

VIDEO, IMAGE = (3, 5, 8), (6, 8)


def seeded(head: nn.Module) -> nn.Module:
    """A head whose clips differ, with statistics of batch norms that a fold must not lose."""
    generator = torch.Generator().manual_seed(0)
    for parameter in head.parameters():
        if parameter.ndim > 1:
            spread = (2 / parameter[0].numel()) ** 0.5
            parameter.data.normal_(0, spread, generator=generator)
    for norm in head.modules():
        if isinstance(norm, nn.BatchNorm3d):
            norm.running_mean.normal_(0, 1, generator=generator)
            norm.running_var.uniform_(0.5, 2, generator=generator)
            norm.bias.data.normal_(0, 1, generator=generator)
    return head.eval().requires_grad_(False)


HEADS = {
    **{
        embedding: lambda grid, embedding=embedding: TrajectoryClassifier(
            2**10, embedding, num_classes=4, grid=grid, width=7
        )
        for embedding in ("bits", "factorized", "table")
    },
    "hidden": lambda grid: HiddenHead(2**10, num_classes=4, grid=grid),
    "conv": lambda grid: ConvHead(2**10, num_classes=4, grid=grid),
    "ensemble": lambda grid: Ensemble(
        [ConvHead(2**10, num_classes=4, grid=grid) for _ in range(3)]
    ),
}


def export(head: nn.Module, grid: tuple[int, ...], path: Path) -> Path:
    files = export_onnx(
        ExportedClassifier(head).eval(),
        (torch.zeros(2, *grid, dtype=torch.int32),),
        path / "classify.onnx",
        input_names=["ids"],
        output_names=["probabilities"],
        dynamic=[{0: "batch"}],
    )
    return files[0]


def random_ids(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2**10, shape).astype(np.int32)


@pytest.mark.parametrize("grid", [VIDEO, IMAGE], ids=["video", "image"])
@pytest.mark.parametrize("name", HEADS)
def test_it_gives_what_pytorch_and_onnx_runtime_give(
    name: str, grid: tuple[int, ...], tmp_path: Path
) -> None:
    head = seeded(HEADS[name](grid))
    ids = random_ids(4, *grid)
    expected = head(torch.from_numpy(ids)).softmax(dim=1).numpy()
    assert np.ptp(expected, axis=0).max() > 0.01
    graph = export(head, grid, tmp_path)
    for session in (
        CpuSession(graph, precision="fp32", reason="tested", threads=2),
        open_graph(graph, precision="fp32"),
    ):
        (found,) = session.run({"ids": ids}, ["probabilities"])
        session.close()
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-7)


def test_ids_of_a_table_that_it_lacks_are_refused(tmp_path: Path) -> None:
    graph = export(seeded(HEADS["factorized"](IMAGE)), IMAGE, tmp_path)
    session = CpuSession(graph, precision="fp32", reason="tested", threads=1)
    for wrong in (-1, 2**10):
        with pytest.raises(BackendError, match=rf"no rows .* found .*{wrong}"):
            session.run({"ids": np.full((1, *IMAGE), wrong, np.int32)}, ["probabilities"])


def test_another_size_of_clips_is_refused(tmp_path: Path) -> None:
    graph = export(seeded(HEADS["bits"](IMAGE)), IMAGE, tmp_path)
    session = CpuSession(graph, precision="fp32", reason="tested", threads=1)
    with pytest.raises(BackendError, match=r"clips of one size: found 280 .* expected 336"):
        session.run({"ids": random_ids(1, 5, 8)}, ["probabilities"])


@pytest.mark.parametrize(
    ("name", "operator", "changes"),
    [
        ("bits", "Softmax", {"axis": 0}),
        ("bits", "Gemm", {"alpha": 2.0}),
        ("bits", "Transpose", {"perm": [0, 3, 2, 1]}),
        ("factorized", "Gather", {"axis": 1}),
        ("conv", "Conv", {"dilations": [2, 2, 2]}),
    ],
)
def test_what_it_would_compute_wrong_is_refused(
    name: str, operator: str, changes: dict[str, object], tmp_path: Path
) -> None:
    path = export(seeded(HEADS[name](IMAGE)), IMAGE, tmp_path)
    model = onnx.load(path, load_external_data=False)
    node = next(node for node in model.graph.node if node.op_type == operator)
    kept = [attribute for attribute in node.attribute if attribute.name not in changes]
    del node.attribute[:]
    node.attribute.extend(kept)
    node.attribute.extend(onnx.helper.make_attribute(*change) for change in changes.items())
    onnx.save(model, path)
    with pytest.raises(BackendError, match=operator):
        lower(read_graph(path))


def test_digits_of_another_base_are_refused(tmp_path: Path) -> None:
    """The remainder must be of the quotient's base, and the base that of the low table."""
    path = export(seeded(HEADS["factorized"](IMAGE)), IMAGE, tmp_path)
    model = onnx.load(path, load_external_data=False)
    (base,) = [one for one in model.graph.initializer if one.data_type == onnx.TensorProto.INT32]
    base.CopyFrom(onnx.numpy_helper.from_array(np.array(32, np.int32), base.name))
    onnx.save(model, path)
    with pytest.raises(BackendError, match="Add"):
        lower(read_graph(path))
