"""`magvit generate-trajectories` as a user runs it."""

from __future__ import annotations

from pathlib import Path

from runtime.magvit_process import done, done_json, failed


def test_the_four_kinds_by_default(tmp_path: Path) -> None:
    facts = done_json("generate-trajectories", "-o", tmp_path / "a.csv", "--count", 2)
    assert facts["kinds"] == ["linear", "circular", "helical", "parabolic"]
    assert facts["trajectories"] == 8
    text = done(
        *("generate-trajectories", "-o", tmp_path / "b.csv", "--count", 2, "--seed", 0),
        *("--kinds", "linear, circular,helical,parabolic"),
    )
    assert text == f"8 trajectories of 4 kinds -> {tmp_path / 'b.csv'}\n"
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_they_are_rendered(tmp_path: Path) -> None:
    made = tmp_path / "made.json"
    done("generate-trajectories", "-o", made, "--kinds", "all", "--count", 1, "--samples", 16)
    facts = done_json("render", made, "-o", tmp_path / "clips.npy", "--frames", 5)
    assert facts["shape"] == [8, 5, 128, 128, 3]
    assert facts["problems"] == []


def test_bad_arguments_are_sentences(tmp_path: Path) -> None:
    made = tmp_path / "made.csv"
    assert failed(2, "generate-trajectories", "-o", made, "--kinds", "square").startswith(
        "a kind is unknown: found 'square', expected linear, circular, helical, parabolic, spiral"
    )
    assert failed(2, "generate-trajectories", "-o", made, "--noise", "2") == (
        "`noise` is out of range: found 2.0, expected 0 to 1"
    )
    assert "is of an unknown kind" in failed(2, "generate-trajectories", "-o", tmp_path / "a.txt")
    assert not list(tmp_path.iterdir())
