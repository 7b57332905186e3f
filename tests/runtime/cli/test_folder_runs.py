"""Runs that write a folder: in parts, on after a stop, shared out, and read back as one table."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from magvit_export.cli.train_classifier import classifier as train
from magvit_runtime import InputError, MagvitError
from magvit_runtime.cli.classify import classify
from magvit_runtime.cli.detokenize import detokenize
from magvit_runtime.cli.folder_runs import RunOptions
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.cli.space import SpaceOptions
from magvit_runtime.cli.tokenize import tokenize
from magvit_runtime.clips.trajectories import StyleOptions
from magvit_runtime.door import Door
from magvit_runtime.results import folders
from magvit_runtime.results.token_files import read_tokens

STYLE = StyleOptions(height=16, width=16, frames=2, margin=5)
PART = 8


def walks(path: Path, count: int, seed: int = 0) -> Path:
    """So many short trajectories with the ids 0, 1 and so on, and one bad row."""
    random = np.random.default_rng(seed)
    rows = ["id,x,y,label"]
    for i in range(count):
        points = random.normal(size=(4, 2)).cumsum(0) * ((1, 0.1) if i % 2 else (0.1, 1))
        rows += [f"{i},{x:.4f},{y:.4f},{'ab'[i % 2]}" for x, y in points]
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([*rows, "0,0,nan,a"]) + "\n")
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three files with 30 trajectories, which make four parts of at most 8."""
    for i, count in enumerate((11, 7, 12)):
        walks(tmp_path / "in" / f"walk{i}.csv", count, seed=i)
    return tmp_path / "in"


def run(bundle: Path, source: Path, output: Path, **options: Any) -> Outcome:
    options = {"part_size": PART} | options
    return tokenize(bundle, source, output=output, style=STYLE, run=RunOptions(**options))


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_folder_holds_what_files_hold(tiny_bundle: Path, source: Path, tmp_path: Path) -> None:
    outcome = run(tiny_bundle, source, tmp_path / "tokens")
    table = read_tokens(tmp_path / "tokens")
    assert (outcome.facts["clips"], outcome.facts["parts"]) == (30, 4)
    assert outcome.facts["output"] == str(tmp_path / "tokens")
    assert "30 trajectories read; 3 dropped (not_finite)" in outcome.text
    assert {problem["file"] for problem in outcome.facts["problems"]} == {
        "walk0.csv",
        "walk1.csv",
        "walk2.csv",
    }
    singles = []
    for path in sorted(source.iterdir()):
        output = tmp_path / f"{path.stem}.npz"
        tokenize(tiny_bundle, path, output=output, style=STYLE)
        singles.append(read_tokens(output))
    assert table.info == singles[0].info
    assert table.labels == tuple(label for one in singles for label in one.labels)
    assert table.ids == tuple(
        f"walk{i}.csv:{name}" for i, s in enumerate(singles) for name in s.ids
    )
    np.testing.assert_array_equal(table.tokens, np.concatenate([one.tokens for one in singles]))
    names = sorted(content(tmp_path / "tokens"))
    assert names == ["manifest.json", *(f"part-00000-{i:05}.parquet" for i in range(4))]
    # Any tool that reads Parquet takes the parts as one table.
    parts = pq.read_table([str(tmp_path / "tokens" / name) for name in names[1:]])
    assert parts["id"].to_pylist() == list(table.ids)


def test_one_file_keeps_its_ids(tiny_bundle: Path, source: Path, tmp_path: Path) -> None:
    run(tiny_bundle, source / "walk0.csv", tmp_path / "tokens")
    assert read_tokens(tmp_path / "tokens").ids == tuple(map(str, range(11)))


class Killed(BaseException):
    """Nothing more happens, as after kill -9."""


def killed_after(monkeypatch: pytest.MonkeyPatch, actions: int) -> None:
    """Lets a folder be changed so many times, and then no more."""
    left = [actions]

    def limited(method: Callable[..., None]) -> Callable[..., None]:
        def act(self: object, name: str, *more: bytes) -> None:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            method(self, name, *more)

        return act

    for name in ("write", "remove"):
        monkeypatch.setattr(
            folders._LocalFolder, name, limited(getattr(folders._LocalFolder, name))
        )


def test_a_run_goes_on_from_every_place_where_it_can_stop(
    tiny_bundle: Path, source: Path, tmp_path: Path
) -> None:
    """Between any two changes of its folder."""
    run(tiny_bundle, source, tmp_path / "whole")
    whole = content(tmp_path / "whole")
    actions = 1 + 2 * 4 + 3
    for n in range(actions + 1):
        output = tmp_path / f"stopped{n}"
        with pytest.MonkeyPatch.context() as patch:
            killed_after(patch, n)
            if n < actions:
                with pytest.raises(Killed):
                    run(tiny_bundle, source, output)
            else:
                run(tiny_bundle, source, output)
        if n < 1:
            assert not output.exists()
        elif n < actions - 2:  # Before the manifest, nobody takes it for finished.
            with pytest.raises(InputError, match="holds no finished run"):
                read_tokens(output)
        entries = (path.stem for path in output.glob("journal/*"))
        before = {name: (output / name).stat().st_mtime_ns for name in entries}
        outcome = run(tiny_bundle, source, output, resume=True)
        assert outcome.facts["clips"] == 30
        # What was done isn't done again.
        assert {name: (output / name).stat().st_mtime_ns for name in before} == before
        assert outcome.facts["parts_there_before"] == min(max(0, (n - 1) // 2), 4)
        assert content(output) == whole


def change(source: Path) -> None:
    with (source / "walk1.csv").open("a") as file:
        file.write("more,0,0,a\nmore,1,1,a\n")


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "content": (change, "found another content in the input walk1.csv"),
    "new": (lambda s: walks(s / "walk3.csv", 1), "found a new input: walk3.csv"),
    "gone": (lambda s: (s / "walk2.csv").unlink(), "found one input less: walk2.csv"),
}


def stopped(bundle: Path, source: Path, output: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        killed_after(patch, 5)
        with pytest.raises(Killed):
            run(bundle, source, output)


@pytest.mark.parametrize("changed", CHANGES)
def test_an_input_that_changed_is_refused_and_named(
    tiny_bundle: Path, source: Path, tmp_path: Path, changed: str
) -> None:
    stopped(tiny_bundle, source, tmp_path / "tokens")
    before = content(tmp_path / "tokens")
    act, words = CHANGES[changed]
    act(source)
    with pytest.raises(InputError) as error:
        run(tiny_bundle, source, tmp_path / "tokens", resume=True)
    assert words in str(error.value)
    assert content(tmp_path / "tokens") == before


def test_another_bundle_or_option_is_refused_and_named(
    tiny_bundle: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "tokens"
    stopped(tiny_bundle, source, output)
    with pytest.raises(InputError, match="found part_size 9, not 8"):
        run(tiny_bundle, source, output, resume=True, part_size=9)
    style = StyleOptions(height=16, width=16, frames=2, margin=6)
    options = RunOptions(resume=True, part_size=PART)
    with pytest.raises(InputError, match="found margin 6, not 5"):
        tokenize(tiny_bundle, source, output=output, style=style, run=options)
    monkeypatch.setattr(Door, "graph_sha256", property(lambda _: "0" * 64))
    with pytest.raises(InputError, match="found another encode graph in the bundle"):
        run(tiny_bundle, source, output, resume=True)


def test_what_is_there_already_is_left_alone(
    tiny_bundle: Path, source: Path, tmp_path: Path
) -> None:
    output = tmp_path / "tokens"
    stopped(tiny_bundle, source, output)
    with pytest.raises(InputError, match=r"holds a run already\. Fix: pass --resume"):
        run(tiny_bundle, source, output)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "part-00000-00000.parquet").write_bytes(b"precious")
    with pytest.raises(InputError, match="holds something else"):
        run(tiny_bundle, source, tmp_path / "mine", resume=True)
    assert content(tmp_path / "mine") == {"part-00000-00000.parquet": b"precious"}


def test_a_finished_run_stays_as_it_is(tiny_bundle: Path, source: Path, tmp_path: Path) -> None:
    run(tiny_bundle, source, tmp_path / "tokens")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "tokens").iterdir()}
    outcome = run(tiny_bundle, source, tmp_path / "tokens", resume=True)
    assert (outcome.facts["clips"], outcome.facts["parts_there_before"]) == (30, 4)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "tokens").iterdir()} == before


def test_a_part_that_was_damaged_is_made_again(
    tiny_bundle: Path, source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = tmp_path / "tokens"
    run(tiny_bundle, source, output)
    whole = content(output)
    part = output / "part-00000-00001.parquet"
    damaged = bytearray(part.read_bytes())
    damaged[100] ^= 1
    part.write_bytes(damaged)
    with pytest.raises(InputError, match=r"isn't what its manifest says.*--resume"):
        read_tokens(output)
    run(tiny_bundle, source, output, resume=True)
    assert "isn't as it was written; it is made again" in caplog.text
    assert content(output) == whole


def test_a_folder_that_isnt_its_manifests_is_refused(
    tiny_bundle: Path, source: Path, tmp_path: Path
) -> None:
    output = tmp_path / "tokens"
    run(tiny_bundle, source, output)
    shutil.copy(output / "part-00000-00000.parquet", output / "copy.parquet")
    with pytest.raises(InputError, match=r"found copy.parquet with .* expected no such file"):
        read_tokens(output)
    (output / "copy.parquet").unlink()
    (output / "part-00000-00003.parquet").unlink()
    with pytest.raises(InputError, match=r"found no part-00000-00003.parquet"):
        read_tokens(output)
    with pytest.raises(InputError, match="holds no finished run"):
        read_tokens(source)


@pytest.mark.parametrize("together", [1, 1 << 20], ids=["of files", "of parts"])
def test_jobs_share_the_work(
    tiny_bundle: Path,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    together: int,
) -> None:
    """Each file is a group of its own, or all are one."""
    monkeypatch.setattr("magvit_runtime.runs.inputs.BYTES_TOGETHER", together)
    run(tiny_bundle, source, tmp_path / "whole")
    output = tmp_path / "shared"
    for i in (2, 0):
        facts = run(tiny_bundle, source, output, shard=f"{i}/3").facts
        assert 0 < facts["clips"] < 30
    with pytest.raises(InputError, match="Fix: give its command with --shard 1/3 --resume"):
        read_tokens(output)
    with pytest.raises(InputError, match="holds something else"):
        run(tiny_bundle, source, output, shard="1/4")
    run(tiny_bundle, source, output, shard="1/3", resume=True)
    first, second = read_tokens(tmp_path / "whole"), read_tokens(output)
    assert sorted(first.ids) == sorted(second.ids)
    order = [second.ids.index(name) for name in first.ids]
    np.testing.assert_array_equal(first.tokens, second.tokens[order])
    parts = {n: c for n, c in content(output).items() if n.startswith("part")}
    assert parts.items() <= content(tmp_path / "whole").items()


def test_jobs_of_two_runs_arent_taken_for_one(
    tiny_bundle: Path, source: Path, tmp_path: Path
) -> None:
    run(tiny_bundle, source, tmp_path / "tokens", shard="0/2")
    walks(source / "walk3.csv", 1)
    run(tiny_bundle, source, tmp_path / "tokens", shard="1/2")
    with pytest.raises(InputError, match=r"weren't of one run: found 1/2 has a new input: walk3"):
        read_tokens(tmp_path / "tokens")


@pytest.mark.parametrize("share", ["4/4", "1", "-1/2", "a/b"])
def test_a_share_that_is_none(tiny_bundle: Path, source: Path, tmp_path: Path, share: str) -> None:
    with pytest.raises(InputError, match=f"no share of the work: found {share}, expected I/N"):
        run(tiny_bundle, source, tmp_path / "tokens", shard=share)
    assert not (tmp_path / "tokens").exists()


def test_a_bad_file_doesnt_lose_the_others(tiny_bundle: Path, source: Path, tmp_path: Path) -> None:
    (source / "bad.csv").write_text("id,x\n0,0\n")
    (source / "readme.md").write_text("walks")
    (source / ".hidden.csv").write_text("junk")
    late = b"id,x,y\na,0,0\na,1,1\nb,0,0\nb,1,1\n" + b"c,0,\x81\nc,1,1\n"
    (source / "late.csv").write_bytes(late)
    facts = run(tiny_bundle, source, tmp_path / "tokens").facts
    assert [one["name"] for one in facts["refused"]] == ["bad.csv", "late.csv"]
    assert "late.csv, line 6, isn't UTF-8 text" in facts["refused"][1]["why"]
    assert facts["left_out"] == ["readme.md"]
    ids = read_tokens(tmp_path / "tokens").ids
    late = [name for name in ids if "late" in name]
    assert late == ["late.csv:a", "late.csv:b"][: len(late)]
    assert facts["clips"] == len(ids) == 30 + len(late)
    for path in source.glob("walk*"):
        path.unlink()
    (source / "late.csv").unlink()
    with pytest.raises(InputError, match=r"none of 1 files can be used: .*bad.csv"):
        run(tiny_bundle, source, tmp_path / "none")


@pytest.mark.parametrize("rows", ["id,x\na,0", "id,x,y\na,0,0", None])
def test_an_input_that_cant_be_used_leaves_nothing(
    tiny_bundle: Path, tmp_path: Path, rows: str | None
) -> None:
    if rows is not None:
        (tmp_path / "bad.csv").write_text(rows)
    with pytest.raises(InputError, match=r"bad\.csv"):
        run(tiny_bundle, tmp_path / "bad.csv", tmp_path / "tokens")
    assert not (tmp_path / "tokens").exists()


def test_what_doesnt_go_together_is_refused(
    tiny_bundle: Path, source: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="lie in one another"):
        run(tiny_bundle, source, source / "tokens")
    with pytest.raises(InputError, match="a single file is written at once: found --resume"):
        run(tiny_bundle, source / "walk0.csv", tmp_path / "a.npz", resume=True, part_size=128)
    with pytest.raises(InputError, match=r"a.npz is a file: found .*in, which may be many files"):
        run(tiny_bundle, source, tmp_path / "a.npz")
    np.save(source / "clips.npy", np.zeros((1, 2, 16, 16, 3), np.uint8))
    with pytest.raises(InputError, match=r"several kinds: found .*\), clips.npy \(frames\)"):
        run(tiny_bundle, source, tmp_path / "tokens")
    assert not (tmp_path / "tokens").exists()


def test_a_full_disk_is_one_sentence_and_a_resumed_run_goes_on(
    tiny_bundle: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if "part-00000-00002" in path.name:
            raise OSError(28, "No space left on device")
        return write(path, data)

    run(tiny_bundle, source, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(MagvitError, match=r"can't write .*: found No space left on device"):
            run(tiny_bundle, source, tmp_path / "tokens")
    run(tiny_bundle, source, tmp_path / "tokens", resume=True)
    assert content(tmp_path / "tokens") == content(tmp_path / "whole")


def test_arrays_and_videos_go_on_too(tiny_bundle: Path, tmp_path: Path) -> None:
    from runtime.clips.videos import pictures, write_video  # Skips where PyAV isn't installed.

    random = np.random.default_rng(0)
    for name in ("arrays", "videos"):
        (tmp_path / name).mkdir()
    for i in range(2):
        clips = random.integers(0, 256, (11, 2, 16, 16, 3), np.uint8)
        np.save(tmp_path / "arrays" / f"{i}.npy", clips)
        write_video(tmp_path / "videos" / f"{i}.mkv", pictures(23, 16, 16))
    (tmp_path / "videos" / "short.mkv").write_bytes(b"no video")
    for name, ids in (("arrays", "1.npy:10"), ("videos", "1.mkv:20")):
        run(tiny_bundle, tmp_path / name, tmp_path / f"{name}-whole")
        stopped(tiny_bundle, tmp_path / name, tmp_path / f"{name}-stopped")
        run(tiny_bundle, tmp_path / name, tmp_path / f"{name}-stopped", resume=True)
        assert content(tmp_path / f"{name}-stopped") == content(tmp_path / f"{name}-whole")
        table = read_tokens(tmp_path / f"{name}-whole")
        assert (len(table.ids), table.ids[-1]) == (22, ids)
    assert [place.first_frame for place in table.places[11:13]] == [0, 2]


def in_space(path: Path) -> Path:
    """Ten trajectories; a camera that looks at the first ones doesn't see the last."""
    rows = ["id,x,y,z"]
    for i in range(10):
        rows += [f"{i},{x},{x * i},{1000 * (i == 9)}" for x in (0.0, 0.5, 1.0)]
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(rows) + "\n")
    return path


def test_views_of_a_trajectory_stay_together_and_notes_survive(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    source = in_space(tmp_path / "in.csv")
    camera = tmp_path / "camera.json"
    camera.write_text('{"position": [0, -20, 0], "look_at": [0, 0, 0]}')
    space = SpaceOptions(camera=camera, views=2)

    def make(output: str, *, resume: bool = False) -> dict[str, Any]:
        options = RunOptions(resume=resume, part_size=5)
        outcome = tokenize(
            tiny_bundle, source, output=tmp_path / output, style=STYLE, space=space, run=options
        )
        return outcome.facts

    facts = make("whole")
    assert [problem["problem"] for problem in facts["problems"]] == ["out_of_view"] * 2
    with pytest.MonkeyPatch.context() as patch:
        killed_after(patch, 11)  # All parts are there.
        with pytest.raises(Killed):
            make("stopped")
    again = make("stopped", resume=True)
    assert again["problems"] == facts["problems"]
    assert again["parts_there_before"] == 5
    for part in (tmp_path / "whole").glob("*.parquet"):
        names = pq.read_table(part)["id"].to_pylist()
        assert [name[-2:] for name in names] == ["@0", "@1"] * 2


def test_train_detokenize_and_classify_take_a_folder(
    tiny_bundle: Path, source: Path, tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    tokens = tmp_path / "tokens"
    run(bundle, source, tokens)
    assert train(bundle, tokens).facts["classes"] == ["a", "b"]
    assert detokenize(bundle, tokens, output=tmp_path / "clips.npy").facts["clips"] == 30

    options = RunOptions(part_size=PART)
    outcome = classify(bundle, source, output=tmp_path / "classes", run=options)
    names = sorted(p.name for p in (tmp_path / "classes").iterdir())
    assert names == ["manifest.json", *(f"part-00000-{i:05}.parquet" for i in range(4))]
    rows = pq.read_table([str(tmp_path / "classes" / name) for name in names[1:]]).to_pylist()
    expected = []
    for path in sorted(source.iterdir()):
        classify(bundle, path, output=tmp_path / "one.csv")
        with (tmp_path / "one.csv").open(newline="") as file:
            expected += list(csv.DictReader(file))
    assert [row["predicted"] for row in rows] == [row["predicted"] for row in expected]
    for row, other in zip(rows, expected, strict=True):
        assert row["p_a"] == pytest.approx(float(other["p_a"]), abs=1e-6)
    right = sum(row["label"] == row["predicted"] for row in rows)
    assert (outcome.facts["labelled"], outcome.facts["right"]) == (30, right)
    with pytest.raises(InputError, match="is of another kind: found predictions, expected tokens"):
        read_tokens(tmp_path / "classes")
    again = classify(bundle, source, output=tmp_path / "classes", run=RunOptions(True, None, PART))
    assert again.facts["right"] == right
