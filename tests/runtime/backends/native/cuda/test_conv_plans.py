"""The file of plans: the plans that are kept, and files that are ignored."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from magvit_runtime.backends.native.cuda.conv_plans import ConvGeometry, ConvPlan, PlanCache

GEOMETRY = ConvGeometry(
    precision="fp16",
    batch=1,
    sizes=(17, 128, 128),
    in_channels=128,
    out_channels=128,
    kernel=(3, 3, 3),
    stride=(1, 1, 1),
    pads_before=(2, 1, 1),
    pads_after=(0, 1, 1),
)
PLAN = ConvPlan("border", 34, {"TILE_M": 128, "STAGES": 4}, 4096, 812.5)


def cache(tmp_path: Path, gpu: str = "NVIDIA L4", cudnn: str = "91900") -> PlanCache:
    return PlanCache(tmp_path / "engines", gpu, cudnn)


def saved(tmp_path: Path) -> Path:
    plans = cache(tmp_path)
    plans.put(GEOMETRY, PLAN)
    plans.save()
    assert plans.path is not None
    return plans.path


def test_a_plan_comes_back(tmp_path: Path) -> None:
    assert saved(tmp_path).name == "nvidia-l4.cudnn-91900.plans"
    assert cache(tmp_path).get(GEOMETRY) == PLAN


def test_keys_tell_geometries_apart() -> None:
    fields = {
        "precision": "fp32",
        "batch": 2,
        "sizes": (17, 128, 64),
        "in_channels": 64,
        "out_channels": 64,
        "kernel": (1, 3, 3),
        "stride": (2, 2, 2),
        "pads_before": (0, 1, 1),
        "pads_after": (2, 1, 1),
        "is_padded": True,
    }
    facts = {name: getattr(GEOMETRY, name) for name in fields}
    others = [ConvGeometry(**{**facts, name: value}) for name, value in fields.items()]
    assert len({GEOMETRY.key, *(other.key for other in others)}) == len(fields) + 1


def test_another_gpu_or_cudnn_has_a_file_of_its_own(tmp_path: Path) -> None:
    saved(tmp_path)
    assert cache(tmp_path, gpu="NVIDIA A10G").get(GEOMETRY) is None
    assert cache(tmp_path, cudnn="92000").get(GEOMETRY) is None


def test_a_file_under_another_gpus_name_is_not_believed(tmp_path: Path) -> None:
    path = saved(tmp_path)
    path.rename(path.with_name("nvidia-a10g.cudnn-91900.plans"))
    assert cache(tmp_path, gpu="NVIDIA A10G").get(GEOMETRY) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"[" * 100_000,
        b'{"gpu": "NVIDIA L4", "cudnn": "91900", "plans": {"x": 1}}',
        b'{"gpu": "NVIDIA L4", "cudnn": "91900", "plans": {}, "more": 1}',
        b" " * (4 * 2**20 + 1),
    ],
)
def test_a_broken_file_is_named_and_replaced(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = saved(tmp_path)
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        plans = cache(tmp_path)
    assert plans.get(GEOMETRY) is None
    assert str(path) in caplog.text
    plans.put(GEOMETRY, PLAN)
    plans.save()
    assert cache(tmp_path).get(GEOMETRY) == PLAN


def test_a_link_to_outside_the_bundle_is_not_followed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = saved(tmp_path / "bundle")
    outside = path.rename(tmp_path / "elsewhere")
    path.symlink_to(outside)
    plans = cache(tmp_path / "bundle")
    assert plans.get(GEOMETRY) is None
    assert "a link to outside" in caplog.text
    content = outside.read_bytes()
    plans.save()
    assert outside.read_bytes() == content


def test_a_border_is_no_plan_for_a_conv_without_padding(tmp_path: Path) -> None:
    facts = {name: getattr(GEOMETRY, name) for name in GEOMETRY.__dataclass_fields__}
    none = ConvGeometry(**{**facts, "pads_before": (0, 0, 0), "pads_after": (0, 0, 0)})
    plans = cache(tmp_path)
    plans.put(none, PLAN)
    assert plans.get(none) is None


def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "engines").write_text("a file in the folder's place")
    plans = cache(tmp_path)
    plans.put(GEOMETRY, PLAN)
    plans.save()
    assert "not kept" in caplog.text
    assert plans.get(GEOMETRY) == PLAN
