"""`magvit bench` as a user runs it, and the peers beside it, on a bundle of small fixed clips."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from runtime.magvit_process import done, done_json, failed, magvit
from runtime.reports.html_reading import read_html
from seeded_checkpoints import TINY

from magvit_export.catalog import find_model
from magvit_export.exporting import export_model
from magvit_export.families.family import ClipSizes
from magvit_export.peers.peers import open_peers
from magvit_runtime import Tokenizer, open_bundle
from magvit_runtime.benchmarks.encoders import NotRun, TimedEncoder
from magvit_runtime.benchmarks.load_test import LoadTest
from magvit_runtime.benchmarks.results import read_benchmark
from magvit_runtime.benchmarks.schemas import SCHEMAS, schema_text
from magvit_runtime.benchmarks.workload import input_sets

QUICK = ("--inputs", "2", "--repetitions", "2", "--rounds", "2", "--threads", "1")
SHAPE = (5, 32, 32, 3)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "bundle"
    sizes = ClipSizes(frames=5, height=32, width=32)
    export_model(
        find_model("trajectory-small"),
        path,
        weights="seeded",
        roles=["encode"],
        config=TINY,
        sizes=sizes,
    )
    return path


@pytest.fixture(scope="module")
def run(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    """What one run printed, its JSON file and its report."""
    folder = tmp_path_factory.mktemp("results")
    files = folder / "new.json", folder / "report.html"
    text = done(
        *("bench", bundle, "--batch-sizes", "1,2", *QUICK),
        *("--output", files[0], "--report", files[1]),
    )
    return text, *files


def test_all_backends_are_timed_at_all_batch_sizes(run: tuple[str, Path, Path]) -> None:
    result = read_benchmark(run[1])
    found = [(row.encoder, row.batch) for row in result.rows]
    assert found == [
        *(("native fp32", 1), ("onnxruntime fp32", 1)),
        *(("native fp32", 2), ("onnxruntime fp32", 2)),
    ]
    for row in result.rows:
        assert row.samples.shape == (2, 2)
        assert 0 < row.median.low <= row.latency.p50 <= row.latency.max
        assert row.kept_full[2].value > 0
        assert row.parts["run"] < row.latency.p50
        assert set(row.parts) == {"render", "checks and copies", "run"}
        assert row.agreement is not None
        assert row.agreement > 0.99
    assert result.settings.clip_shape == SHAPE
    for cold in result.cold_starts.values():
        assert min(cold.imports, cold.load, cold.first_call, cold.second_call) > 0
        assert 20 < cold.host_mib < 1000


def test_the_roofline_is_of_the_work_that_the_bundle_records(
    run: tuple[str, Path, Path], bundle: Path
) -> None:
    _, graph = open_bundle(bundle).graph("encode")
    assert graph.work is not None
    recorded = (graph.work.flop, graph.work.weight_bytes, graph.work.map_bytes)
    work = read_benchmark(run[1]).work
    assert work is not None
    assert (work.flop, work.weight_bytes, work.map_bytes) == recorded


def test_the_tables_and_the_report_are_there(run: tuple[str, Path, Path]) -> None:
    text, output, report = run
    assert "native fp32" in text
    assert text.endswith(f"{output} written\n{report} written\n")
    titles = [part.text for part in read_html(report.read_text()).find("h2")]
    assert titles == [
        *("Latency", "Latency distribution", "Batch scaling", "Where the time goes"),
        *("Roofline", "Cold start", "Cost", "What ran"),
    ]


def test_a_run_is_no_slower_than_itself_but_than_a_faster_one(
    run: tuple[str, Path, Path], tmp_path: Path
) -> None:
    new = run[1]
    same = done_json("bench", "--compare", new, new)
    assert {one["change"] for one in same["compared"]} == {"no change"}
    facts = json.loads(new.read_bytes())
    for row in facts["rows"]:
        row["median"] = {name: value / 10 for name, value in row["median"].items()}
    old = tmp_path / "old.json"
    old.write_bytes(msgspec.json.encode(facts))
    process = magvit("bench", "--compare", old, new)
    assert process.returncode == 1
    assert process.stdout.count("slower") == 4


def test_wrong_usage_is_refused_before_any_work(bundle: Path, tmp_path: Path) -> None:
    assert failed(2, "bench").startswith("there is nothing to time")
    assert "--batch-sizes" in failed(2, "bench", bundle, "--batch-sizes", "1,x")
    for wrong in ("nan", "", "c7i"):
        line = failed(2, "bench", bundle, "--instance-type", wrong)
        assert f"is none of the price table's: found {wrong!r}, expected c7i.large, " in line
    assert "--rounds is out of range: found 0" in failed(2, "bench", bundle, "--rounds", 0)
    prices = tmp_path / "prices.toml"
    prices.write_text("date = 1")
    assert "is no price table" in failed(2, "bench", bundle, "--prices", prices)
    assert "tensorrt" in failed(1, "bench", bundle, "--backend", "tensorrt")


@pytest.mark.slow
def test_requests_that_arrive_by_themselves(bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "load.json"
    text = done(
        *("bench", bundle, "--rate", "50%", "--duration", "3", "--threads", "1"),
        *("--workers", "1", "--output", file),
    )
    assert text.splitlines()[-1] == f"{file} written"
    assert "capacity: " in text
    test = msgspec.json.decode(file.read_bytes(), type=LoadTest)
    (one,) = test.runs
    assert one.rate == pytest.approx(test.capacity / 2)
    assert one.requests == pytest.approx(3 * one.rate, abs=1)
    assert (one.held, test.best_rate, test.objective, test.workers) == (None, None, "", 1)
    facts = done_json("bench", bundle, "--slo", "p90=10s", "--threads", "1", "--workers", "1")
    assert facts["objective"] == "p90=10000ms"
    assert facts["best_rate"] == pytest.approx(0.95 * facts["capacity"])
    assert [one["requests"] for one in facts["runs"]] == [64, 128]
    process = magvit("bench", bundle, "--slo", "p90=0.001ms", "--threads", "1", "--workers", "1")
    assert process.returncode == 1
    assert "p90=0.001ms holds at no rate" in process.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--rate", "fast"), "--rate can't be read: found 'fast'"),
        (("--rate", "0"), "--rate can't be read"),
        (("--rate", "100%"), "--rate can't be read"),
        (("--slo", "p99"), "--slo can't be read: found 'p99', expected as p99=50ms"),
        (("--slo", "p99=5ms", "--rate", "3"), "--slo finds the rate"),
        (("--rate", "3", "--duration", "0"), "--duration is out of range"),
        (("--rate", "3", "--peers"), "--rate and --slo take no --peers"),
        (("--workers", "two"), "--workers can't be read"),
    ],
)
def test_load_tests_that_make_no_sense(bundle: Path, options: tuple[str, ...], words: str) -> None:
    assert words in failed(2, "bench", bundle, *options)


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_schemas_of_json_files_are_those_in_the_docs(name: str) -> None:
    file = Path(__file__).parents[3] / "docs" / "schemas" / name
    assert file.read_bytes() == schema_text(name), "python docs/measure/json_schemas.py"


@pytest.mark.slow
def test_peers_give_the_same_ids_or_say_why_they_do_not_run(bundle: Path) -> None:
    (one,) = input_sets("drawn", SHAPE, 1, 2)
    with Tokenizer.open(bundle, backend="onnxruntime", batch_size=2) as tokenizer:
        expected = tokenizer(one.clips)
    ran = []
    for peer in open_peers(open_bundle(bundle), "fp32", 1, None):
        if isinstance(peer, NotRun):
            assert "isn't installed" in peer.why
            continue
        assert isinstance(peer, TimedEncoder)
        assert np.mean(peer.encode(one.clips) == expected) > 0.99
        peer.close()
        ran.append(peer.record.name)
    assert {"ONNX Runtime, plain", "PyTorch eager", "torch.compile"} <= set(ran)
