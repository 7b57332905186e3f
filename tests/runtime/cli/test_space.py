"""Trajectories in space and boxes, from the command line to classes."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from runtime.magvit_process import done, done_json, failed

from magvit_runtime import open_bundle
from magvit_runtime.clips.trajectories import (
    Camera,
    Cameras,
    ReadReport,
    RenderStyle,
    read_trajectories,
    render,
)
from magvit_runtime.results.token_files import read_tokens

SIZE = ("--frames", "5", "--height", "32", "--width", "32", "--margin", "6")
STYLE = RenderStyle(frames=5, height=32, width=32, margin=6)
DEFAULT = (
    "pinhole, field of view 40°, z up, from azimuth -60° and elevation 30°, framing each trajectory"
)


def movements(path: Path, count: int = 8) -> Path:
    """Risings and circles, as records."""
    t = np.linspace(0, 1, 16)
    records: list[dict[str, Any]] = []
    for i in range(count):
        angle = 2 * np.pi * (t + i / count)
        rising = np.stack([t * 0.1 * i, 0 * t, t], axis=1)
        circle = np.stack([np.cos(angle), np.sin(angle), 0 * t], axis=1)
        name, points = ("circle", circle) if i % 2 else ("rising", rising)
        records.append({"class": name, "positions": points.round(4).tolist(), "noise": 0.0})
    path.write_text(json.dumps(records))
    return path


def test_render_draws_every_view_and_names_the_camera(tmp_path: Path) -> None:
    source = movements(tmp_path / "a.json", 2)
    output = tmp_path / "clips.npy"
    said = done("render", source, "-o", output, "--views", 3, *SIZE)
    assert f"seen by the default camera ({DEFAULT}), and 2 more around" in said
    expected = render(list(read_trajectories(source, ReadReport())), STYLE, Cameras(views=3))
    np.testing.assert_array_equal(np.load(output), expected)
    with Path(f"{output}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["0@0", "0@1", "0@2", "1@0", "1@1", "1@2"]
    assert [row["label"] for row in rows] == ["rising"] * 3 + ["circle"] * 3


def test_render_takes_a_camera_and_another_axis_up(tmp_path: Path) -> None:
    source = movements(tmp_path / "a.json", 2)
    camera, output = tmp_path / "camera.toml", tmp_path / "clips.npy"
    camera.write_text("position = [0, -30, 0]\nlook_at = [0, 0, 0]\nfield_of_view = 5\n")
    facts = done_json("render", source, "-o", output, "--camera", camera, "--up", "x", *SIZE)
    assert facts["camera"] == {
        "kind": "pinhole",
        "position": [0, -30, 0],
        "look_at": [0, 0, 0],
        "field_of_view": 5,
        "up": "x",
    }
    there = Camera(position=(0.0, -30, 0), look_at=(0.0, 0, 0), field_of_view=5, up="x")
    expected = render(list(read_trajectories(source, ReadReport())), STYLE, Cameras(there))
    np.testing.assert_array_equal(np.load(output), expected)
    camera.write_text("position = [0, -30, 0]\nlook_at = [0, -60, 0]\n")
    facts = done_json("render", source, "-o", output, "--camera", camera, *SIZE)
    assert [(item["trajectory"], item["problem"]) for item in facts["problems"]] == [
        ("0", "out_of_view"),
        ("1", "out_of_view"),
    ]


def test_boxes_say_what_x_and_y_were_taken_for(tmp_path: Path) -> None:
    source = tmp_path / "boxes.csv"
    source.write_text("id,x,y,w,h\na,0,0,9,5\na,20,4,9,5\na,40,30,12,6\n")
    said = done("render", source, "-o", tmp_path / "clips.npy", *SIZE)
    assert "boxes from the top left; --positions center-boxes takes x, y for the middle" in said
    output = tmp_path / "centers.npy"
    facts = done_json("render", source, "-o", output, "--positions", "center-boxes", *SIZE)
    assert facts["boxes_from"] == "middle"
    assert (np.load(output) != np.load(tmp_path / "clips.npy")).any()


def test_a_preview_needs_no_output_and_shows_the_first_clips(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="pictures need Pillow")
    source = movements(tmp_path / "a.json", 30)
    sheet, animation = tmp_path / "sheet.png", tmp_path / "a.gif"
    said = done("render", source, "--preview", sheet, *SIZE)
    assert f"the first 24 clips -> {sheet}" in said
    clips = render(list(read_trajectories(source, ReadReport())), STYLE)
    picture = np.asarray(image.open(sheet).convert("RGB"))
    np.testing.assert_array_equal(picture[6:38, 6:38], clips[0, -1])
    np.testing.assert_array_equal(picture[6:38, 44:76], clips[1, -1])
    facts = done_json("render", source, "--preview", animation, "-o", tmp_path / "c.npy", *SIZE)
    assert (facts["clips"], facts["preview"]) == (30, str(animation))
    with image.open(animation) as played:
        assert played.n_frames == 5
        for frame in range(5):
            played.seek(frame)
            shown = np.asarray(played.convert("RGB"))[6:38, 6:38]
            np.testing.assert_array_equal(shown, clips[0, frame])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("a.gif", "a.json", "c.npy", "c.npy.csv", "sheet.png")
    ]


def test_what_cant_be_drawn_is_code_2(tmp_path: Path) -> None:
    flat = tmp_path / "flat.csv"
    flat.write_text("id,x,y\na,0,0\na,1,1\n")
    output = tmp_path / "clips.npy"
    assert "there is nothing to write. Fix: -o CLIPS.npy" in failed(2, "render", flat)
    assert "expected .png or .gif" in failed(2, "render", flat, "--preview", tmp_path / "a.jpg")
    assert "has no z for a camera to see" in failed(2, "render", flat, "-o", output, "--views", 2)
    camera = tmp_path / "camera.toml"
    camera.write_text("fov = 3")
    assert "unknown field `fov`" in failed(2, "render", flat, "-o", output, "--camera", camera)
    both = tmp_path / "both.csv"
    both.write_text("id,x,y,z,w,h\na,0,0,0,1,1\na,1,1,1,1,1\n")
    assert "found (x, y, z) and (x, y, w, h)" in failed(2, "render", both, "-o", output)
    assert not output.exists()


def test_frames_and_videos_take_no_camera(tiny_bundle: Path, tmp_path: Path) -> None:
    for name in ("clips.npy", "a.mp4"):
        source = tmp_path / name
        source.touch()
        command = ("tokenize", tiny_bundle, source, "-o", tmp_path / "t.npz", "--views", 2)
        said = failed(2, *command, "--positions", "xyz")
        assert f"{source} holds no trajectories, and nothing is drawn: found --positions" in said


@pytest.mark.slow
def test_a_classifier_of_views_draws_as_it_was_trained_and_pools_them(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    source = movements(tmp_path / "a.json", 12)
    tokens, table = tmp_path / "tokens.npz", tmp_path / "predictions.csv"
    done("tokenize", bundle, source, "-o", tokens, "--views", 2, "--up", "y", *SIZE)
    read = read_tokens(tokens)
    assert read.ids[:3] == ("0@0", "0@1", "1@0")
    assert read.info.drawing is not None
    assert (read.info.drawing.views, read.info.drawing.style["height"]) == (2, 32)
    assert read.info.drawing.camera == Camera(up="y").fields()
    facts = done_json("train", "classifier", bundle, tokens)
    assert (facts["clips"], facts["held_out_clips"]) == (16, 8)
    assert open_bundle(bundle).manifest.heads["classifier"].drawing == read.info.drawing

    page = tmp_path / "page.html"
    said = done("classify", bundle, source, "-o", table, "--report", page)
    assert f"12 trajectories of 2 views each -> {table}" in said
    assert f"seen by the camera ({DEFAULT.replace('z up', 'y up')}), and 1 more around" in said
    assert "trained on other clips" not in said
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [str(i) for i in range(12)]
    assert page.read_text().count("data:image/png") == 24

    # Batches that end between two views of one trajectory change nothing.
    other = tmp_path / "other.csv"
    done("classify", bundle, source, "-o", other, "--batch-size", 5)
    with other.open(newline="") as file:
        for row, same in zip(rows, csv.DictReader(file), strict=True):
            assert float(row["p_circle"]) == pytest.approx(float(same["p_circle"]), abs=1e-4)

    # Copies are averaged with their trajectories, in a file and in a folder alike.
    varied, folder, page = tmp_path / "varied.csv", tmp_path / "folder", tmp_path / "varied.html"
    said = done(
        *("classify", bundle, source, "-o", varied, "--variations", 2, "--batch-size", 5),
        *("--report", page),
    )
    assert f"12 trajectories of 2 views each and their 2 variations each -> {varied}" in said
    assert page.read_text().count("data:image/png") == 24
    facts = done_json("classify", bundle, source, "-o", folder, "--variations", 2)
    assert (facts["clips"], len(list(folder.glob("*.parquet")))) == (12, 1)
    table_rows = pq.read_table(sorted(folder.glob("*.parquet"))).to_pylist()
    with varied.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["id"] for row in found] == list(map(str, range(12)))
    assert [row["id"] for row in table_rows] == list(map(str, range(12)))
    for row, same in zip(found, table_rows, strict=True):
        assert float(row["p_circle"]) == pytest.approx(same["p_circle"], abs=1e-4)
    said = failed(2, "classify", bundle, source, "-o", folder, "--resume", "--variations", 3)
    assert "variations" in said
    frames = tmp_path / "frames.npy"
    np.save(frames, np.zeros((1, 3, 32, 48, 3), np.uint8))
    said = failed(2, "classify", bundle, frames, "-o", other, "--variations", 1)
    assert "frames aren't varied: found --variations 1" in said

    facts = done_json("classify", bundle, source, "-o", other, "--views", 1, *SIZE, "--up", "z")
    assert facts["not_as_trained"] == [f"camera ({DEFAULT.replace('z up', 'y up')})", "views 2"]
    assert facts["clips"] == 12
    flat = tmp_path / "flat.csv"
    flat.write_text("id,x,y\na,0,0\na,1,1\n")
    said = failed(2, "classify", bundle, flat, "-o", tmp_path / "none.csv")
    assert "a classifier that was trained on clips of cameras takes no others" in said
