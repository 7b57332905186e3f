"""Work that an export counts: against published figures, and against the graph that it wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from seeded_checkpoints import TINY
from torch import Tensor, nn

from magvit_export.catalog import find_model
from magvit_export.exporting import export_model
from magvit_export.families.family import ClipSizes
from magvit_export.families.magvit.family import FAMILY
from magvit_export.onnx.work import count_work
from magvit_runtime import open_bundle
from magvit_runtime.backends.native.lowering import lower
from magvit_runtime.benchmarks.results import Work
from magvit_runtime.benchmarks.work import encoder_work, recorded_work
from magvit_runtime.bundle.manifest import GraphWork, TensorSpec
from magvit_runtime.bundle.onnx_file import read_graph

ENCODE = FAMILY.roles["encode"]


@pytest.mark.parametrize(
    ("name", "shape", "teraflop", "parameters"),
    [
        ("open-magvit2-video-128", (1, 17, 128, 128, 3), 4.47, 144.9e6),
        ("open-magvit2-image-256", (1, 256, 256, 3), 0.266, 49.8e6),
        ("open-magvit2-image-128", (1, 128, 128, 3), 0.106, 48.4e6),
    ],
)
def test_released_encoders(
    name: str, shape: tuple[int, ...], teraflop: float, parameters: float
) -> None:
    config = find_model(name).config
    item = ENCODE.nominal(config)
    module = ENCODE.wrap(FAMILY.build(config)).eval()
    work = count_work(module, ENCODE.example(config, item), ENCODE.inputs(config, item))
    assert work.shapes == {"frames": shape}
    assert work.flop == pytest.approx(teraflop * 1e12, rel=5e-3)
    assert work.weight_bytes == pytest.approx(4 * parameters, rel=1e-3)


def test_it_is_the_work_of_the_exported_convs(small_bundle: Path) -> None:
    """The native backend reads its program from the ONNX file."""
    bundle = open_bundle(small_bundle)
    _, graph = bundle.graph("encode")
    assert graph.work is not None
    convs = encoder_work(lower(read_graph(bundle.verified_graph(graph))), (17, 128, 128, 3))
    assert graph.work.flop == convs.flop
    assert graph.work.map_bytes == convs.map_bytes
    # The norms' weights are weights too.
    assert 0 < graph.work.weight_bytes - convs.weight_bytes < 0.001 * convs.weight_bytes


def test_sizes_that_are_fixed_are_the_items(tmp_path: Path) -> None:
    bundle = export_model(
        find_model("trajectory-small"),
        tmp_path / "bundle",
        weights="seeded",
        roles=["encode"],
        config=TINY,
        precision="fp16",
        sizes=ClipSizes(batch=4, frames=5, height=32),
    )
    work = bundle.manifest.graphs["encode"]["fp16"].work
    assert work is not None
    assert work.shapes == {"frames": (1, 5, 32, 128, 3)}


def test_half_precision_halves_the_bytes_and_not_the_work() -> None:
    item = ClipSizes(1, 5, 32, 32)
    works = []
    for dtype in (torch.float32, torch.float16):
        module = ENCODE.wrap(FAMILY.build(TINY)).eval()
        assert ENCODE.set_precision is not None
        ENCODE.set_precision(module, dtype, dtype)
        works.append(count_work(module, ENCODE.example(TINY, item), ENCODE.inputs(TINY, item)))
    single, half = works
    assert single.flop == half.flop
    # The last conv and the norms stay in float32.
    assert 0.5 < half.map_bytes / single.map_bytes < 0.6
    assert 0.5 < half.weight_bytes / single.weight_bytes < 0.6


class Layers(nn.Module):
    """A padded conv with a residual sum around it, and a matrix product by a transposed view."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3)
        self.linear = nn.Linear(4, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(nn.functional.pad(x, (1, 1, 1, 1))) + x
        made: Tensor = self.linear(y.mean(dim=(2, 3)))
        return made


def test_by_hand() -> None:
    x = torch.zeros(1, 4, 8, 6)
    spec = TensorSpec("x", "float32", (1, 4, 8, 6), "features", "anything")
    work = count_work(Layers().to("meta"), [x], [spec])
    assert work.flop == 2 * (8 * 6 * 4 * 4 * 9 + 4 * 2)
    assert work.weight_bytes == 4 * (4 * 4 * 9 + 4 + 4 * 2)
    # The conv's input without padding, its output, the summand; then four values to two.
    assert work.map_bytes == 4 * (3 * 8 * 6 * 4 + 4 + 2)


def test_work_of_another_shape_is_not_that_of_clips() -> None:
    work = GraphWork({"frames": (1, 17, 128, 128, 3)}, 10, 20, 30)
    assert recorded_work(work, (17, 128, 128, 3)) == Work(10, 20, 30)
    assert recorded_work(work, (17, 64, 64, 3)) is None
