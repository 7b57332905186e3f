"""The whole of `magvit bench`: opens, warms up, times and compares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime

from magvit_runtime.backends.backend import Candidate
from magvit_runtime.backends.native.lowering import lower
from magvit_runtime.backends.opening import open_role
from magvit_runtime.benchmarks.cold_start import Start, measure_cold_start
from magvit_runtime.benchmarks.comparison import YARDSTICK
from magvit_runtime.benchmarks.encoders import Ids, NotRun, TimedEncoder, open_option
from magvit_runtime.benchmarks.machine import describe_machine
from magvit_runtime.benchmarks.measuring import Advance, encode_once, measure_rows
from magvit_runtime.benchmarks.results import (
    SCHEMA_VERSION,
    Benchmark,
    ColdStart,
    Row,
    Settings,
    Work,
)
from magvit_runtime.benchmarks.work import encoder_work, measure_ceilings, recorded_work
from magvit_runtime.benchmarks.workload import InputSet, id_sets, input_sets
from magvit_runtime.bundle.manifest import Role
from magvit_runtime.bundle.onnx_file import read_graph
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.bundle.stamps import graph_subject
from magvit_runtime.bundle.weights_label import weights_label
from magvit_runtime.classifier import Classifier
from magvit_runtime.errors import BackendError, BundleError
from magvit_runtime.hardware.gpu_states import gpu_states

Peers = Iterable[TimedEncoder | NotRun]


def run_benchmark(
    bundle: Bundle,
    options: Sequence[Candidate],
    settings: Settings,
    batches: Sequence[int],
    *,
    peers: Peers = (),
    advance: Advance = lambda _: None,
) -> Benchmark:
    """Times a role of a bundle in every way asked for, in turn.

    Args:
        bundle: The bundle.
        options: Our own ways to run it, one or more.
        settings: How to measure.
        batches: Batch sizes.
        peers: Other ways; each is opened when its turn comes.
        advance: Called with the number of steps done, `steps` in all.

    Raises:
        BackendError: None of our own ways can be opened, or takes these batches.
        BundleError: A file was changed.
    """
    machine = describe_machine()
    not_run: dict[str, str] = {}
    cold_starts = _cold_starts(bundle, options, settings, not_run)
    rows: list[Row] = []
    with ExitStack() as stack:
        encoders = _open(bundle, options, peers, max(batches), settings.threads, not_run, stack)
        classifier = None
        if settings.role == "encode" and bundle.manifest.heads.get("classifier") is not None:
            classifier = stack.enter_context(
                Classifier.open(bundle.path, threads=settings.threads, batch_size=max(batches))
            )
        for batch in batches:
            inputs = request_sets(bundle, settings, batch)
            ids, failures = encode_once(encoders, inputs, advance)
            not_run |= {f"{name}, batch {batch}": why for name, why in failures.items()}
            running = [encoder for encoder in encoders if encoder.record.name in ids]
            if not running or running[0].record.kind != "ours":
                continue  # None of ours takes this batch, so there is nothing to compare with.
            rows += measure_rows(
                running,
                inputs,
                settings,
                classifier=classifier,
                ids=ids,
                reference=_reference(bundle, settings.role, running, ids, inputs),
                advance=advance,
            )
        records = [encoder.record for encoder in encoders]
    if not rows:
        raise BackendError("none of our encoders ran", found="; ".join(not_run.values()))
    work = _work(bundle, settings.role, settings.clip_shape)
    return Benchmark(
        schema_version=SCHEMA_VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model=bundle.manifest.model,
        weights=weights_label(bundle),
        reference=_reference_name(bundle, settings.role),
        machine=machine,
        settings=settings,
        encoders=records,
        rows=rows,
        not_run=not_run,
        cold_starts=cold_starts,
        work=work,
        ceilings=measure_ceilings() if work else None,
        gpus_after=list(gpu_states()),
    )


def steps(encoders: int, batches: int, settings: Settings) -> int:
    """The most steps that `advance` gets, for this many encoders and batch sizes."""
    full = settings.repetitions * len(settings.workers)
    rounds = settings.repetitions * settings.rounds
    return batches * (encoders * settings.inputs + rounds + full)


def _cold_starts(
    bundle: Bundle, options: Sequence[Candidate], settings: Settings, not_run: dict[str, str]
) -> dict[str, ColdStart]:
    found: dict[str, ColdStart] = {}
    for option in options:
        start = Start(
            str(bundle.path),
            option.backend,
            option.precision,
            settings.threads,
            settings.clip_shape,
            settings.role,
        )
        try:
            found[option.subject] = measure_cold_start(start)
        except BackendError as error:
            not_run[f"{option.subject}, in a fresh process"] = str(error)
    return found


def _open(
    bundle: Bundle,
    options: Sequence[Candidate],
    peers: Peers,
    largest_batch: int,
    threads: int | None,
    not_run: dict[str, str],
    stack: ExitStack,
) -> list[TimedEncoder]:
    encoders: list[TimedEncoder] = []
    for option in options:
        try:
            encoders.append(open_option(bundle, option, largest_batch, threads))
        except BackendError as error:
            not_run[option.subject] = str(error)
            continue
        stack.callback(encoders[-1].close)
    if not encoders:
        raise BackendError("no backend could be opened", found="; ".join(not_run.values()))
    for peer in peers:
        if isinstance(peer, NotRun):
            not_run[peer.name] = peer.why
        else:
            encoders.append(peer)
            stack.callback(peer.close)
    return encoders


def request_sets(bundle: Bundle, settings: Settings, batch: int) -> list[InputSet]:
    """Inputs of calls of one batch size: drawn clips or noise, or ids to decode."""
    given = bundle.graph(settings.role)[1].inputs[0]
    if given.kind == "ids":
        assert given.maximum is not None  # Of ids, every manifest says it.
        vocabulary = int(given.maximum) + 1
        return id_sets(settings.clip_shape, vocabulary, settings.inputs, batch)
    return input_sets(settings.clips, settings.clip_shape, settings.inputs, batch)


def _reference_name(bundle: Bundle, role: Role) -> str:
    return graph_subject("onnxruntime", bundle.graph(role)[0])


def _reference(
    bundle: Bundle,
    role: Role,
    encoders: Sequence[TimedEncoder],
    ids: dict[str, list[Ids]],
    inputs: Sequence[InputSet],
) -> list[Ids] | None:
    """What the most precise graph gives in ONNX Runtime: that of the run where it took part.

    None of features and probabilities: no two of those are equal, and `magvit verify` says how far
    they are apart.
    """
    if role not in ("encode", "decode"):
        return None
    precision = bundle.graph(role)[0]
    for record in (encoder.record for encoder in encoders):
        if (
            record.name in (_reference_name(bundle, role), YARDSTICK)
            and record.precision == precision
        ):
            return ids[record.name]
    try:
        graph, session = open_role(bundle, role, backend="onnxruntime", precision=precision)
    except BackendError:
        return None
    given, made = graph.inputs[0].name, graph.outputs[0].name
    try:
        return [session.run({given: one.clips}, [made])[0] for one in inputs]
    finally:
        session.close()


def _work(bundle: Bundle, role: Role, clip_shape: tuple[int, ...]) -> Work | None:
    """As recorded, or counted; None where the graph isn't made of convs that can be read here."""
    graph = bundle.graph(role)[1]
    if graph.work and (recorded := recorded_work(graph.work, clip_shape)):
        return recorded
    try:
        return encoder_work(lower(read_graph(bundle.verified_graph(graph))), clip_shape)
    except (BackendError, BundleError):
        return None
