"""Every command as a user runs it: a process, its output, its exit code and its files."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
from runtime.magvit_process import MAIN, done, done_json, failed, magvit

from magvit_runtime import open_bundle
from magvit_runtime.results.token_files import read_tokens

SEEDED = "seeded weights (generated, never trained)"
# A clip of 5 frames of 32 x 32 pixels: 5x16x16 tokens of the tiny model.
STYLE = ("--frames", "5", "--height", "32", "--width", "32")


def gestures(path: Path, count: int = 12) -> Path:
    """Horizontal and vertical lines, and two trajectories with bad rows."""
    rows = ["id,x,y,label"]
    random = np.random.default_rng(0)
    for i in range(count):
        along = np.linspace(0, 1, 8)
        across = random.uniform(-0.1, 0.1, 8)
        x, y = (along, across) if i % 2 else (across, along)
        label = "horizontal" if i % 2 else "vertical"
        rows += [f"{label[0]}{i},{a:.4f},{b:.4f},{label}" for a, b in zip(x, y, strict=True)]
    rows += ["hole,0,0,vertical", "hole,0,nan,vertical", "hole,0,1,vertical", "point,1,1,vertical"]
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


@pytest.fixture(scope="module")
def chain(
    tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, subprocess.CompletedProcess[str] | Path]:
    """tokenize, train and classify, each in its own process, once for the tests below."""
    folder = tmp_path_factory.mktemp("chain")
    bundle = Path(shutil.copytree(tiny_bundle, folder / "bundle"))
    source = gestures(folder / "gestures.csv")
    tokens, table = folder / "tokens.parquet", folder / "predictions.csv"
    return {
        "folder": folder,
        "tokenize": magvit("tokenize", bundle, source, "-o", tokens, *STYLE),
        "train": magvit("train", "classifier", bundle, tokens, "--json"),
        "classify": magvit("classify", bundle, source, "-o", table, *STYLE, "--json"),
    }


def test_the_chain_leaves_its_outputs_and_nothing_else(chain) -> None:
    for command in ("tokenize", "train", "classify"):
        assert chain[command].returncode == 0, chain[command].stderr
        assert chain[command].stderr == ""
    names = ["bundle", "bundle.metrics.json", "gestures.csv", "predictions.csv", "tokens.parquet"]
    assert sorted(path.name for path in chain["folder"].iterdir()) == names


def test_tokenize_says_what_it_did_and_with_which_weights(chain) -> None:
    first, second, third = chain["tokenize"].stdout.splitlines()
    assert first == f"13 clips -> {chain['folder'] / 'tokens.parquet'}"
    assert second.startswith(f"trajectory-small, {SEEDED}; ")
    assert third == "13 trajectories read; 1 dropped (not_finite); 1 refused (too_few_points)"
    table = read_tokens(chain["folder"] / "tokens.parquet")
    assert table.tokens.shape == (13, 5, 16, 16)
    assert table.ids[:2] == ("v0", "h1")
    assert table.labels[:2] == ("vertical", "horizontal")
    assert table.ids[-1] == "hole"


def test_train_exports_a_classifier_and_says_how_good_it_is(chain) -> None:
    facts = json.loads(chain["train"].stdout)
    assert facts["classes"] == ["horizontal", "vertical"]
    assert (facts["clips"], facts["held_out_clips"]) == (9, 4)
    assert facts["weights"] == SEEDED
    assert facts["train_accuracy"] == 1
    assert 0 <= facts["held_out_accuracy"] <= 1
    assert open_bundle(chain["folder"] / "bundle").manifest.heads["classifier"].labels == (
        "horizontal",
        "vertical",
    )


def test_classify_writes_a_table_and_reports_bad_rows(chain) -> None:
    facts = json.loads(chain["classify"].stdout)
    assert (facts["clips"], facts["labelled"]) == (13, 13)
    assert facts["weights"] == SEEDED
    with (chain["folder"] / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows][-1] == "hole"
    assert sum(row["label"] == row["predicted"] for row in rows) == facts["right"] >= 9
    for row in rows:
        assert float(row["p_horizontal"]) + float(row["p_vertical"]) == pytest.approx(1, abs=1e-5)
    # Named by the line of the file, so that the user finds it.
    assert [(item["row"], item["trajectory"], item["action"]) for item in facts["problems"]] == [
        (99, "hole", "dropped"),
        (101, "point", "refused"),
    ]


def test_classify_goes_by_tokens_where_it_is_asked_to_or_must(chain, tmp_path: Path) -> None:
    assert json.loads(chain["classify"].stdout)["way"] == "fused"
    bundle, source = chain["folder"] / "bundle", chain["folder"] / "gestures.csv"
    command = ("classify", bundle, source, "-o", tmp_path / "tokens.csv", *STYLE, "--way", "tokens")
    assert "; by tokens (as asked), on " in magvit(*command).stdout
    tables = []
    for table in (chain["folder"] / "predictions.csv", tmp_path / "tokens.csv"):
        with table.open(newline="") as file:
            tables.append(list(csv.DictReader(file)))
    for fused, tokens in zip(*tables, strict=True):
        assert fused["id"] == tokens["id"]
        assert float(fused["p_vertical"]) == pytest.approx(float(tokens["p_vertical"]), abs=2e-6)


def test_classify_tells_labels_that_are_no_class_from_mistakes(chain, tmp_path: Path) -> None:
    source = gestures(tmp_path / "gestures.csv", count=4)
    source.write_text(source.read_text().replace(",vertical", ",sideways"))
    bundle = chain["folder"] / "bundle"
    command = ("classify", bundle, source, "-o", tmp_path / "predictions.csv", *STYLE)
    said = magvit(*command).stdout
    facts = json.loads(magvit(*command, "--json").stdout)
    assert (facts["clips"], facts["labelled"], facts["foreign_labels"]) == (5, 2, {"sideways": 3})
    assert " of 2 labelled clips predicted right" in said
    assert "3 clips have a label that is no class of this classifier" in said
    assert "'sideways' (3); its classes are 'horizontal', 'vertical'" in said


@pytest.mark.slow
def test_export_writes_a_bundle_labelled_as_seeded(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"ch": 32, "ch_mult": [1], "num_res_blocks": 1}))
    output = tmp_path / "bundle"
    arguments = ("trajectory-small", "--weights", "seeded:7", "--config", config, "-o", output)
    facts = done_json("export", *arguments, "--frames", 3)
    assert facts["weights"] == "seeded:7 weights (generated, never trained)"
    assert (facts["bundle"], facts["model"]) == (str(output), "trajectory-small")
    assert facts["files"].keys() == {
        f"{role}.fp32.{end}" for role in ("encode", "decode") for end in ("onnx", "data")
    }
    assert facts["roles"].keys() == {"encode", "decode"}
    assert all(one["seconds"] > 0 and one["bytes"] > 0 for one in facts["roles"].values())
    bundle = open_bundle(output)
    assert bundle.graphs("encode")["fp32"].inputs[0].shape[1] == 3


def test_render_writes_frames_and_a_table(tmp_path: Path) -> None:
    source = gestures(tmp_path / "gestures.csv", count=2)
    facts = done_json("render", source, "-o", tmp_path / "clips.npy", *STYLE)
    assert (facts["clips"], facts["shape"]) == (3, [3, 5, 32, 32, 3])
    assert [problem["row"] for problem in facts["problems"]] == [19, 21]
    frames = np.load(tmp_path / "clips.npy")
    assert frames.dtype == np.uint8
    assert frames.shape == (3, 5, 32, 32, 3)
    with (tmp_path / "clips.npy.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["row", "id", "label"],
            ["0", "v0", "vertical"],
            ["1", "h1", "horizontal"],
            ["2", "hole", "vertical"],
        ]


def test_columns_of_a_table_without_a_header(bundle: Path, tmp_path: Path) -> None:
    source = tmp_path / "walk.txt"
    source.write_text("780.0\t1.0\t8.46\t3.59\n790.0\t1.0\t9.57\t3.79\n")
    columns = ("--columns", "frame,id,x,y")
    done("render", source, "-o", tmp_path / "clips.npy", *columns, *STYLE)
    assert (tmp_path / "clips.npy.csv").read_text().splitlines()[1] == "0,1,"
    done("tokenize", bundle, source, "-o", tmp_path / "a.npz", *columns, *STYLE)
    assert read_tokens(tmp_path / "a.npz").ids == ("1",)
    line = failed(2, "render", source, "-o", tmp_path / "clips.npy", *STYLE)
    assert "Fix: say what the columns are, in their order, such as --columns frame,id,x,y" in line
    frames = ("tokenize", bundle, tmp_path / "clips.npy", "-o", tmp_path / "b.npz")
    assert "Fix: leave them out" in failed(2, *frames, *columns)


def test_frames_give_the_tokens_of_their_trajectories(bundle: Path, tmp_path: Path) -> None:
    source = gestures(tmp_path / "gestures.csv", count=2)
    done("render", source, "-o", tmp_path / "clips.npy", *STYLE)
    done("tokenize", bundle, source, "-o", tmp_path / "a.npz", *STYLE)
    batch = ("--batch-size", 2, "--threads", 1)
    facts = done_json("tokenize", bundle, tmp_path / "clips.npy", "-o", tmp_path / "b.npz", *batch)
    assert (facts["clips"], facts["weights"], facts["problems"]) == (3, SEEDED, [])
    first, second = (read_tokens(tmp_path / name) for name in ("a.npz", "b.npz"))
    np.testing.assert_array_equal(first.tokens, second.tokens)
    assert second.ids == ("0", "1", "2")
    # As two devices share them: each clip keeps its id.
    two = ("--device", "cpu,cpu", "--threads", 1)
    done("tokenize", bundle, tmp_path / "clips.npy", "-o", tmp_path / "c.npz", *two)
    third = read_tokens(tmp_path / "c.npz")
    np.testing.assert_array_equal(third.tokens, second.tokens)
    assert third.ids == second.ids


TAILS = {
    "drop": (2, "13 frames read; the last 3 fill no clip and are left out "
        "(--tail pad or --tail short keeps them)"),
    "pad": (3, "13 frames read; the last one is repeated 2 times to fill the last clip"),
    "short": (3, "13 frames read"),
}  # fmt: skip


@pytest.mark.parametrize("tail", TAILS)
def test_what_becomes_of_a_videos_last_frames_is_said(
    bundle: Path, tmp_path: Path, tail: str
) -> None:
    """And kept: in what is printed, in `--json`, and in the token file."""
    from runtime.clips.videos import pictures, write_video  # Skips where PyAV isn't installed.

    clips, words = TAILS[tail]
    video = write_video(tmp_path / "walk.mkv", pictures(13, 32, 32))
    # Nothing is drawn, so no drawing option matters.
    options = (*STYLE, "--margin", "60", "--tail", tail)
    said = done("tokenize", bundle, video, "-o", tmp_path / "a.parquet", *options)
    assert said.splitlines()[-1] == words
    facts = done_json("tokenize", bundle, video, "-o", tmp_path / "b.npz", *options)
    assert facts["clips"] == clips
    assert facts["video"] == {
        "tail": tail,
        "frames": 13,
        "left_out": 3 if tail == "drop" else 0,
        "repeated": 2 if tail == "pad" else 0,
        "problems": [],
    }
    first, second = (read_tokens(tmp_path / name) for name in ("a.parquet", "b.npz"))
    assert first.info.tail == second.info.tail == tail
    assert first.places == second.places
    assert [place.frames for place in first.places] == [5, 5, 3][:clips]
    assert first.time_steps == second.time_steps == ((5, 5, 3) if tail == "short" else ())
    np.testing.assert_array_equal(first.tokens, second.tokens)


def test_classes_of_a_video(chain, tmp_path: Path) -> None:
    from runtime.clips.videos import pictures, write_video  # As above.

    video = write_video(tmp_path / "walk.mkv", pictures(13, 32, 32))
    arguments = ("classify", chain["folder"] / "bundle", video, "-o", tmp_path / "c.csv", *STYLE)
    facts = done_json(*arguments, "--tail", "pad")
    assert (facts["clips"], facts["video"]["repeated"]) == (3, 2)
    assert "takes no shorter clip" in failed(2, *arguments, "--tail", "short")


@pytest.mark.parametrize("arguments", [("tokenize", "--help"), ("train", "--help"), ("train",)])
def test_help_of_a_command(arguments: tuple[str, ...]) -> None:
    assert done(*arguments).startswith(f"Usage: magvit {arguments[0]} ")


@pytest.mark.parametrize("arguments", [("--help",), ()], ids=["asked for", "no command"])
def test_help_lists_every_command(arguments: tuple[str, ...]) -> None:
    output = done(*arguments)
    assert output.startswith("Usage: magvit COMMAND")
    for point in entry_points(group="magvit.commands"):
        assert f"│ {point.name} " in output


@pytest.mark.parametrize(
    "arguments",
    [
        ("nope",),
        ("tokenize",),
        ("tokenize", "a", "b"),
        ("tokenize", "a", "b", "-o", "c.npz", "--batch-size", "many"),
        ("render", "a.csv", "-o", "b.npy", "--colour", "red"),
        ("train", "nope"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_code_2_and_no_traceback(arguments: tuple[str, ...], tmp_path: Path) -> None:
    process = magvit(*arguments, cwd=tmp_path)
    assert process.returncode == 2
    assert process.stdout == ""
    assert process.stderr.startswith("╭─ Error ")
    assert "Traceback" not in process.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_backend_that_nobody_brings_is_wrong_usage(tiny_bundle: Path, tmp_path: Path) -> None:
    """Other packages may add names, so each is looked up when it is asked for."""
    np.save(tmp_path / "clips.npy", np.zeros((1, 1, 8, 8, 3), np.uint8))
    arguments = ("tokenize", tiny_bundle, "clips.npy", "-o", "tokens.npz", "--backend", "abacus")
    process = magvit(*map(str, arguments), cwd=tmp_path)
    assert process.returncode == 2
    assert process.stderr.startswith("magvit: no backend is named 'abacus': expected auto, native")
    assert [path.name for path in tmp_path.iterdir()] == ["clips.npy"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("export videomae-base --weights seeded --frames 8 -o out", "`frames` of this model is"),
        ("render gestures.csv -o out.mp4", "out.mp4 is of an unknown kind: expected .npy"),
        ("render none.csv -o out.npy", "none.csv can't be opened or read: found No such file"),
        ("render gestures.csv -o out.npy --height 5", "margin leaves no room for the path"),
        ("render gestures.csv -o out.npy --height 1000000", "height is too large: found 1000000"),
        ("render gestures.csv -o out.npy --height 65535 --width 65535", "a clip of this size is"),
        (
            "tokenize BUNDLE gestures.csv -o out.npz --height 65535 --width 65535",
            "a clip of this size is too large: found 17 frames of 65535×65535 pixels, 204.0 GiB",
        ),
        ("tokenize BUNDLE gestures.csv -o out.txt", "out.txt is of an unknown kind"),
        ("tokenize BUNDLE gestures.gif -o out.npz", "gestures.gif is of an unknown kind"),
        ("tokenize BUNDLE bad.csv -o out.npz", "bad.csv"),
        ("tokenize BUNDLE gestures.csv -o out.npz --batch-size 0", "`batch_size` must be"),
        ("tokenize BUNDLE gestures.csv -o out.npz --threads 0", "`threads` must be positive"),
        ("tokenize BUNDLE gestures.csv -o gestures.csv/out.npz", "can't write gestures.csv/out"),
        ("train classifier BUNDLE junk.parquet", "junk.parquet is no token file: found "),
    ],
    ids=lambda value: value if " -o " in value or value.startswith("train") else "",
)
def test_input_that_cant_be_used_is_code_2(
    tiny_bundle: Path, tmp_path: Path, arguments: str, message: str
) -> None:
    gestures(tmp_path / "gestures.csv", count=2)
    (tmp_path / "bad.csv").write_text("id,x\na,0\n")
    (tmp_path / "junk.parquet").write_bytes(b"junk")
    before = sorted(tmp_path.iterdir())
    words = [str(tiny_bundle) if word == "BUNDLE" else word for word in arguments.split()]
    assert failed(2, *words, cwd=tmp_path).startswith(message)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "tokenize none gestures.csv -o out.npz",
            "none is no bundle: it has no bundle.json. "
            "Fix: make one with `magvit export MODEL -o none`",
        ),
        (
            "classify BUNDLE gestures.csv -o out.csv",
            "BUNDLE has no classifier. Fix: magvit train classifier BUNDLE TOKENS.parquet",
        ),
        (
            "tokenize BUNDLE gestures.csv -o out.npz --precision bf16",
            "BUNDLE has no encode graph of this precision: found fp32, expected bf16. "
            "Fix: magvit export trajectory-small --precision bf16",
        ),
        (
            "export trajectory-small --weights none.ckpt -o out",
            "checkpoint none.ckpt is no file",
        ),
    ],
    ids=["no bundle", "no classifier", "no such precision", "no checkpoint"],
)
def test_work_that_fails_is_code_1_and_leaves_nothing(
    tiny_bundle: Path, tmp_path: Path, arguments: str, message: str
) -> None:
    gestures(tmp_path / "gestures.csv", count=2)
    words = [str(tiny_bundle) if word == "BUNDLE" else word for word in arguments.split()]
    line = failed(1, *words, cwd=tmp_path)
    assert line == message.replace("BUNDLE", str(tiny_bundle))
    assert [path.name for path in tmp_path.iterdir()] == ["gestures.csv"]


def test_damage_in_the_middle_of_a_file_leaves_no_output(bundle: Path, tmp_path: Path) -> None:
    """The damage shows only after the first clips; they aren't left as half a file."""
    rows = ["id,x,y", "a,0,0", "a,1,1", "b,0,0", "b,1,1"]
    (tmp_path / "late.csv").write_bytes("\n".join(rows).encode() + b"\nc,0,\x81\nc,1,1\n")
    line = failed(2, "tokenize", bundle, "late.csv", "-o", "out.parquet", *STYLE, cwd=tmp_path)
    assert line.startswith("late.csv, line 6, isn't UTF-8 text")
    assert line.endswith("Fix: save the file as UTF-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "late.csv"]


def test_an_existing_output_survives_a_failure(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "out.npz").write_bytes(b"precious")
    failed(2, "tokenize", bundle, "none.csv", "-o", "out.npz", cwd=tmp_path)
    assert (tmp_path / "out.npz").read_bytes() == b"precious"


def test_a_reader_that_goes_away_is_no_traceback(tmp_path: Path) -> None:
    command = f"{sys.executable} -c '{MAIN}' models | head -n 0"
    process = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert process.stderr == ""


def test_a_package_that_is_missing_is_named_with_its_extra(tmp_path: Path) -> None:
    script = f"import sys; sys.modules['torch'] = None; {MAIN}"
    command = [sys.executable, "-c", script, "export", "trajectory-small"]
    process = subprocess.run(
        [*command, "--weights", "seeded", "-o", "out"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert process.returncode == 1
    assert process.stderr == (
        "magvit: this command needs torch, which isn't installed. "
        "Fix: pip install 'magvit-runtime[export]'\n"
    )


def test_the_installed_script_is_the_same_command() -> None:
    script = shutil.which("magvit", path=str(Path(sys.executable).parent)) or shutil.which("magvit")
    if script is None:
        pytest.skip("the script `magvit` isn't on the path: the package isn't installed")
    process = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert process.stdout == done("--version")
