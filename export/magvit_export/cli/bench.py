"""`magvit bench`: how fast a bundle's encoder or decoder runs here, in every way there is."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import msgspec

from magvit_export.cli.load_test import load_goal, load_outcome
from magvit_export.peers.peers import TORCH_PEERS, open_peers
from magvit_runtime.backends.candidates import list_candidates
from magvit_runtime.backends.opening import check_options
from magvit_runtime.benchmarks.benchmark import run_benchmark, steps
from magvit_runtime.benchmarks.comparison import compare_benchmarks
from magvit_runtime.benchmarks.costs import costs, read_prices
from magvit_runtime.benchmarks.results import ClipKind, Settings, read_benchmark
from magvit_runtime.benchmarks.tables import benchmark_text, comparison_text
from magvit_runtime.bundle.manifest import Precision, Role
from magvit_runtime.bundle.reading import open_bundle
from magvit_runtime.cli.numbers import in_range, positive_numbers
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.cli.places import OptionalBundle
from magvit_runtime.cli.progress import progress_bar
from magvit_runtime.errors import BackendError, InputError
from magvit_runtime.files.atomic_write import atomic_path
from magvit_runtime.files.outputs import check_outputs
from magvit_runtime.hardware.cpu import usable_cpus
from magvit_runtime.reports import check_report_packages
from magvit_runtime.verification.samples import sample_shapes


def bench(
    bundle: OptionalBundle = None,
    *,
    role: Role = "encode",
    compare: tuple[Path, Path] | None = None,
    backend: list[str] | None = None,
    precision: Precision | None = None,
    batch_sizes: str = "1",
    threads: int | None = None,
    clips: ClipKind = "drawn",
    inputs: int = 3,
    repetitions: int = 7,
    rounds: int = 3,
    workers: str = "2",
    rate: str | None = None,
    duration: float = 60.0,
    slo: str | None = None,
    peers: bool = False,
    weights: str | None = None,
    prices: Path | None = None,
    instance_type: str | None = None,
    output: Path | None = None,
    report: Path | None = None,
) -> Outcome:
    """Times one of a bundle's graphs in every way that this machine can run it, all in turn.

    docs/benchmarking.md says what each figure is, and how the others are set up.

    Args:
        bundle: Directory of the exported model, or hf://OWNER/NAME@REVISION on the hub.
        role: What is timed: encode, decode, features, classify or classify-clips.
        compare: Two files of --output, the old one first, to compare instead of measuring; exit
            code 1 where something became slower beyond the noise.
        backend: What to time; may be given several times. All that run here by default.
        precision: Which of the bundle's graphs; engines, and the most precise graph by default.
        batch_sizes: Clips of a call, separated by commas.
        threads: CPU threads of one run, the same for all; one for each CPU by default.
        clips: What is encoded: drawn trajectories, or noise, which shares no background. Ids to
            decode are seeded.
        inputs: Input sets that rotate.
        repetitions: Parts of the run whose scatter makes the 95 % intervals.
        rounds: Calls of each encoder in a repetition.
        workers: Threads that call at once in the mode "kept full", or several numbers of them,
            separated by commas; 0 leaves that out.
        rate: Let requests arrive at random instead, so many a second, or a share of the capacity
            as 80%. They wait in one queue, and their latency holds the wait.
        duration: Seconds for which they arrive.
        slo: Find the highest rate at which a latency objective holds, as p99=50ms.
        peers: Time other ways to run the same weights too: plain ONNX Runtime, OpenVINO, PyTorch
            eager and compiled, Torch-TensorRT, as far as they are installed.
        weights: What the bundle was made of, for PyTorch; seeded bundles generate theirs.
        prices: A price table to use instead of the one that comes with the package.
        instance_type: This machine's type in the price table; on EC2 it is known.
        output: A JSON file to write, for --compare.
        report: An HTML file to write: plots and tables.
    """
    if compare is not None:
        return _compare(*compare)
    if bundle is None:
        raise InputError("there is nothing to time", mend="magvit bench DIR")
    if report is not None:
        check_report_packages()
    check_outputs(output, report, inputs=(bundle, prices, Path(weights) if weights else None))
    table = read_prices(prices)
    types = [instance.type for instance in table.instances]
    if instance_type is not None and instance_type not in types:
        raise InputError(
            "--instance-type is none of the price table's",
            found=repr(instance_type),
            expected=", ".join(types),
            mend="leave it out, or give a table that has it with --prices",
        )
    check_options("auto", threads)
    opened = open_bundle(bundle)
    batches = positive_numbers("--batch-sizes", batch_sizes)
    chosen, graph = opened.graph(role, precision)
    given = graph.inputs[0]
    settings = Settings(
        threads=usable_cpus() if threads is None else threads,
        clip_shape=sample_shapes(given, given.shape[1:])[0],
        clips=clips,
        inputs=in_range("--inputs", inputs, 1),
        repetitions=in_range("--repetitions", repetitions, 1),
        rounds=in_range("--rounds", rounds, 1),
        workers=() if workers.strip() == "0" else positive_numbers("--workers", workers),
        role=role,
    )
    found = list_candidates(opened, role).for_precision(chosen, any_engine=precision is None)
    options = [option for option in found.fit if backend is None or option.backend in backend]
    if not options:
        raise BackendError(f"none of these backends runs {bundle} here", found=backend)
    if rate is not None or slo is not None:
        if peers or report is not None:
            raise InputError("--rate and --slo take no --peers and no --report")
        goal = load_goal(rate, slo)
        return load_outcome(opened, options[0], settings, batches[0], goal, duration, output)
    others = open_peers(opened, chosen, settings.threads, weights, role)
    total = steps(len(options) + peers * (2 + len(TORCH_PEERS)), len(batches), settings)
    with ExitStack() as stack:
        # Files are opened before the work, so that none is spent on what can't be written.
        json_file = None if output is None else stack.enter_context(atomic_path(output))
        html_file = None if report is None else stack.enter_context(atomic_path(report))
        with progress_bar("steps", total) as advance:
            result = run_benchmark(
                opened,
                options,
                settings,
                batches,
                peers=others if peers else (),
                advance=advance,
            )
        spent = costs(result, table, instance_type or result.machine.instance_type)
        if json_file is not None:
            json_file.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))
        if html_file is not None:
            from magvit_runtime.reports.benchmark_report import benchmark_report

            html_file.write_text(benchmark_report(result, spent, table), encoding="utf-8")
    facts = msgspec.to_builtins(result)
    facts["costs"] = [
        msgspec.to_builtins(cost) | {"usd_per_million": cost.usd_per_million} for cost in spent
    ]
    written = [f"{path} written" for path in (output, report) if path is not None]
    return Outcome(facts, "\n".join([benchmark_text(result, spent, table), *written]))


def _compare(old: Path, new: Path) -> Outcome:
    compared = compare_benchmarks(read_benchmark(old), read_benchmark(new))
    facts = {"old": str(old), "new": str(new), "compared": msgspec.to_builtins(compared)}
    slower = any(one.change == "slower" for one in compared)
    return Outcome(facts, comparison_text(compared), passed=not slower)
