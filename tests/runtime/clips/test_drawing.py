"""How clips were drawn, to the record and back; what a record can't mean is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from magvit_runtime.bundle.drawing_record import DrawingRecord
from magvit_runtime.clips.drawing import drawing_record, drawn_so
from magvit_runtime.clips.trajectories import Camera, Cameras, ReadReport, RenderStyle
from magvit_runtime.errors import BundleError, MagvitError

STYLE = RenderStyle(height=64, width=48, frames=9, margin=6, y_axis="up")


@pytest.mark.parametrize(
    "camera",
    [
        None,
        Camera(up="y", field_of_view=25),
        Camera("orthographic", position=(1.0, 2.0, 3.0), look_at=(0.0, 0.0, 0.5)),
    ],
)
def test_a_record_draws_the_same_again(camera: Camera | None) -> None:
    report = ReadReport()
    report.kinds["space"] = 1
    record = drawing_record(STYLE, "xyz", Cameras(camera, 3), report)
    record = msgspec.json.decode(msgspec.json.encode(record), type=DrawingRecord)
    style, positions, cameras = drawn_so(record)
    assert style.checked() == STYLE
    assert positions == "xyz"
    assert cameras.views == 3
    assert cameras.first.fields() == Cameras(camera).first.fields()


def test_without_anything_in_space_there_is_no_camera() -> None:
    record = drawing_record(STYLE, "auto", Cameras(), ReadReport())
    assert record.camera is None
    assert drawn_so(record)[2] == Cameras()


@pytest.mark.parametrize(
    "change",
    [
        {"style": {"height": "tall"}},
        {"style": {"height": -1}},
        {"style": {"height": 10**6}},
        {"style": {"y_axis": "sideways"}},
        {"positions": "sphere"},
        {"camera": {"position": [0, 0, 0]}},
        {"camera": {"kind": "fisheye"}},
        {"camera": {"field_of_view": float("nan")}},
        {"camera": {"lens": 1}},
        {"views": 1000},
    ],
)
def test_a_record_that_means_nothing_is_refused(change: dict[str, Any]) -> None:
    record = msgspec.structs.replace(DrawingRecord({}), **change)
    with pytest.raises(MagvitError):
        drawn_so(record)


def test_damage_is_called_so() -> None:
    with pytest.raises(BundleError, match="record of how clips were drawn is damaged: found"):
        drawn_so(DrawingRecord({"frames": "many"}))
