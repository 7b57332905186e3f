"""`magvit generate`: what it writes, says and refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image
from runtime.magvit_process import done_json, failed

from magvit_runtime import BundleError, Detokenizer, Generator, InputError, open_bundle
from magvit_runtime.cli.detokenize import detokenize
from magvit_runtime.cli.generate import SamplingOptions, generate
from magvit_runtime.results.token_files import read_tokens


def test_it_writes_images_a_sheet_and_tokens(ar_bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    outcome = generate(ar_bundle, classes="7,3", count=2, seed=5, output=output)
    assert sorted(path.name for path in output.iterdir()) == [
        *("3-0.png", "3-1.png", "7-0.png", "7-1.png"),
        *("sheet.png", "tokens.npz"),
    ]
    table = read_tokens(output / "tokens.npz")
    assert table.ids == ("7-0", "7-1", "3-0", "3-1")
    assert table.labels == ("7", "7", "3", "3")
    with Generator.open(ar_bundle) as generator, Detokenizer.open(ar_bundle) as detokenizer:
        np.testing.assert_array_equal(table.tokens, generator([7, 7, 3, 3], seed=5))
        images = detokenizer(table.tokens)
    np.testing.assert_array_equal(np.array(Image.open(output / "3-0.png")), images[2])
    assert Image.open(output / "sheet.png").size == (2 * 12 + 4, 2 * 12 + 4)
    assert outcome.facts["images"] == 4
    assert outcome.facts["sampling"]["guidance"] == (1.9, 2.0)
    assert "never trained" in outcome.text


def test_detokenize_reads_its_tokens(ar_bundle: Path, tmp_path: Path) -> None:
    generate(ar_bundle, classes="1", output=tmp_path / "out")
    outcome = detokenize(ar_bundle, tmp_path / "out" / "tokens.npz", output=tmp_path / "images.npy")
    assert outcome.facts["warning"] is None
    picture = np.array(Image.open(tmp_path / "out" / "1-0.png"))
    np.testing.assert_array_equal(np.load(tmp_path / "images.npy")[0], picture)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_batch_makes_no_difference(ar_bundle: Path, tmp_path: Path, batch_size: int) -> None:
    for size, name in ((batch_size, "a"), (4, "b")):
        generate(ar_bundle, classes="1,2", count=2, output=tmp_path / name, batch_size=size)
    first, second = (read_tokens(tmp_path / name / "tokens.npz").tokens for name in "ab")
    np.testing.assert_array_equal(first, second)


def test_settings_are_pairs(ar_bundle: Path, tmp_path: Path) -> None:
    settings = SamplingOptions("0.9,1.1", "0,3", "20,300", "0.9,0.8")
    outcome = generate(ar_bundle, classes="4", output=tmp_path / "out", sampling=settings)
    assert outcome.facts["sampling"] == {
        "guidance": (0.0, 3.0),
        "temperature": (0.9, 1.1),
        "top_k": (20, 300),
        "top_p": (0.9, 0.8),
    }


def test_a_bundle_without_a_decoder_writes_tokens_and_says_how_to_get_pictures(
    ar_bundle: Path, tmp_path: Path
) -> None:
    path = shutil.copytree(ar_bundle, tmp_path / "bundle")
    manifest = open_bundle(path).manifest
    graphs = {role: graph for role, graph in manifest.graphs.items() if role != "decode"}
    changed = msgspec.structs.replace(manifest, graphs=graphs)
    (path / "bundle.json").write_bytes(msgspec.json.encode(changed))
    outcome = generate(path, classes="4", output=tmp_path / "out")
    assert [one.name for one in (tmp_path / "out").iterdir()] == ["tokens.npz"]
    assert outcome.facts["pictures"] is False
    assert "Fix: magvit export open-magvit2-ar-b" in outcome.text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"classes": "10"}, "no such class: found 10, expected 0 to 9"),
        ({"classes": "cat"}, "--classes can't be read"),
        ({"classes": ""}, "--classes can't be read"),
        ({"classes": "1", "count": 0}, "--count is out of range"),
        ({"classes": "1", "seed": -1}, "seed"),
        ({"classes": "1", "sampling": SamplingOptions(top_p="1")}, "`top_p`"),
        ({"classes": "1", "sampling": SamplingOptions(guidance="a,b")}, "--guidance can't be"),
        ({"classes": "1", "sampling": SamplingOptions(top_k="1.5,2")}, "--top-k can't be"),
    ],
)
def test_what_makes_no_sense_is_refused_and_leaves_nothing(
    ar_bundle: Path, tmp_path: Path, options: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        generate(ar_bundle, output=tmp_path / "out", **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_it_writes_over_nothing(ar_bundle: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="is there already"):
        generate(ar_bundle, classes="1", output=tmp_path)
    with pytest.raises(BundleError, match="generates nothing"):
        generate(tiny_bundle, classes="1", output=tmp_path / "out")


@pytest.mark.slow
def test_the_command(ar_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    facts = done_json(
        *("generate", ar_bundle, "--classes", "1,2", "--temperature", "1,0.5", "-o", out)
    )
    assert facts["classes"] == [1, 2]
    assert facts["sampling"]["temperature"] == [1.0, 0.5]
    line = failed(2, "generate", ar_bundle, "--classes", "77", "-o", tmp_path / "no")
    assert "no such class" in line
