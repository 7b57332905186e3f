"""The model card of a bundle: what it does, how it is opened, what was verified, whose it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from magvit_export.publishing.licences import publisher
from magvit_runtime.backends.trt.engines import Engine
from magvit_runtime.bundle.manifest import Component, Metrics, ParityStamp, TensorSpec
from magvit_runtime.bundle.reading import Bundle, graph_sha256
from magvit_runtime.bundle.weights_label import weights_label
from magvit_runtime.hub.addresses import HubAddress

LIBRARY = "magvit-runtime"
UNKNOWN_LICENCE = "unknown"

# By role: a class and a call of it, and a command.
_WAYS = {
    "encode": (
        *("Tokenizer", "ids = model(clips)"),
        "magvit tokenize {address} trajectories.csv -o tokens.parquet",
    ),
    "features": (
        *("FeatureExtractor", "features = model(clips)"),
        "magvit features {address} clips.npy -o features.parquet",
    ),
    "context": (
        *("Generator", "ids = model([207, 88])"),
        "magvit generate {address} --classes 207,88 -o images",
    ),
    "decode": (
        *("Detokenizer", "clips = model(ids)"),
        "magvit detokenize {address} tokens.parquet -o clips.npy",
    ),
    "classify": (
        *("Classifier", "labels = model(ids).labels"),
        "magvit classify {address} trajectories.csv -o predictions.csv",
    ),
}


def model_card(
    bundle: Bundle, address: HubAddress, engines: Sequence[Engine] = (), licence: str | None = None
) -> str:
    """README.md of a bundle on the hub, with the metadata that the hub reads at its head.

    Args:
        bundle: The bundle.
        address: Where it will be.
        engines: Those of its engines that go with it.
        licence: The weights' licence, as the hub names licences; None where it isn't known.
    """
    from huggingface_hub import ModelCardData

    manifest = bundle.manifest
    head = ModelCardData(
        license=licence or UNKNOWN_LICENCE,
        library_name=LIBRARY,
        pipeline_tag=_pipeline_tag(bundle),
        tags=_tags(bundle, engines),
    ).to_yaml()
    parts = [
        f"---\n{head.strip()}\n---",
        f"# {manifest.model}",
        f"A bundle of [{LIBRARY}](https://pypi.org/project/{LIBRARY}/): ONNX graphs with what the "
        f"runtime knows about them. Weights: {weights_label(bundle)}.",
        "## Open it",
        _opening(bundle, address),
        "## Graphs",
        _graphs(bundle),
        *_meaning(bundle),
        "## Parity",
        _parity(bundle, engines),
        *_engines(engines),
        "## Weights and licence",
        _weights(bundle, licence),
        "## Made by",
        ", ".join(f"{name} {version}" for name, version in sorted(manifest.made_by.items()))
        + f"; {manifest.created}. bundle.json has the sha256 of every file, and each is checked "
        "before it runs.",
    ]
    return "\n\n".join(parts) + "\n"


def _pipeline_tag(bundle: Bundle) -> str | None:
    """The hub's name of what it does; tokenizers have none."""
    graphs = bundle.manifest.graphs
    if "context" in graphs:
        return "unconditional-image-generation"
    of_clips = any(len(spec.shape) == 5 for spec in _inputs(bundle) if spec.kind == "pixels")
    if bundle.manifest.heads:
        return "video-classification" if of_clips else "image-classification"
    if bundle.manifest.tokens is None and "features" in graphs:
        return "feature-extraction" if of_clips else "image-feature-extraction"
    return None


def _inputs(bundle: Bundle) -> Iterable[TensorSpec]:
    for graphs in bundle.manifest.graphs.values():
        for graph in graphs.values():
            yield from graph.inputs


def _tags(bundle: Bundle, engines: Sequence[Engine]) -> list[str]:
    manifest = bundle.manifest
    families = [component.family for component in manifest.components.values()]
    tags = ["onnx", *(["tensorrt"] if engines else []), *families]
    if manifest.tokens is not None:
        tags += ["tokenizer", msgspec.to_builtins(manifest.tokens.quantizer)["kind"]]
    return list(dict.fromkeys(tags))


def _opening(bundle: Bundle, address: HubAddress) -> str:
    ways = [way for role, way in _WAYS.items() if role in bundle.manifest.graphs]
    if not ways:
        return f"`open_bundle({str(address)!r})`"
    kind, call, _ = ways[0]
    commands = [command.format(address=address) for _, _, command in ways]
    return "\n".join(
        (
            "```sh",
            f"pip install '{LIBRARY}[hub]'   # and [cpu], [cuda], … as the machine has it",
            *commands,
            "```",
            "",
            "```python",
            f"from magvit_runtime import {kind}",
            "",
            f'with {kind}.open("{address}") as model:',
            f"    {call}",
            "```",
            "",
            "`@COMMIT` after the name holds one version fast.",
        )
    )


def _graphs(bundle: Bundle) -> str:
    rows = []
    for role, graphs in bundle.manifest.graphs.items():
        for precision, graph in graphs.items():
            files = (bundle.manifest.files[name].size for name in (graph.file, *graph.data))
            rows.append(
                (
                    f"`{role}`",
                    precision,
                    "; ".join(map(_tensor, graph.inputs)),
                    "; ".join(map(_tensor, graph.outputs)),
                    f"{sum(files) / 1e6:.1f}",
                    f"`{graph_sha256(bundle, graph)[:12]}`",
                )
            )
    return _table(("role", "precision", "in", "out", "MB", "sha256"), rows)


def _tensor(spec: TensorSpec) -> str:
    ends = ["" if end is None else f"{end:g}" for end in (spec.minimum, spec.maximum)]
    bounds = f" {ends[0]}..{ends[1]}" if any(ends) else ""
    shape = ", ".join(map(str, spec.shape))
    return f"{spec.name}: {spec.dtype} [{shape}]{bounds}"


def _meaning(bundle: Bundle) -> list[str]:
    parts = []
    if (tokens := bundle.manifest.tokens) is not None:
        facts = msgspec.to_builtins(tokens.quantizer)
        words = ", ".join(f"{name} {value}" for name, value in facts.items() if name != "kind")
        parts.append(
            f"Tokens: {facts['kind']} ({words}); one covers "
            f"{tokens.temporal_stride}×{tokens.spatial_stride}×{tokens.spatial_stride} "
            "(frames, height, width)."
        )
    for name, head in bundle.manifest.heads.items():
        training = ", ".join(f"{key} {value}" for key, value in head.training.items())
        parts.append(
            f"`{name}` knows {len(head.labels)} classes: {', '.join(head.labels)}. "
            f"Training: {training}."
        )
    return ["## What it means", *parts] if parts else []


def _parity(bundle: Bundle, engines: Sequence[Engine]) -> str:
    """The stamps that hold for the very bytes that are pushed."""
    digests = {
        f"{role} {precision}": graph_sha256(bundle, graph)
        for role, graphs in bundle.manifest.graphs.items()
        for precision, graph in graphs.items()
    }
    plans = {engine.plan.name: engine.record.plan.sha256 for engine in engines}
    rows = []
    for name, stamp in bundle.manifest.stamps.items():
        role, _, subject = name.partition(" ")
        present = plans.get(subject) or digests.get(f"{role} {subject.rpartition(' ')[2]}")
        if stamp.sha256 == present:
            rows.append((f"`{role}`", subject, *_stamp_cells(stamp)))
    if not rows:
        return "Nothing of it has been compared with a reference by `magvit verify`."
    columns = ("role", "what", "compared with", "figures", "on", "when")
    return "`magvit verify` compared these very files.\n\n" + _table(columns, rows)


def _stamp_cells(stamp: ParityStamp) -> tuple[str, ...]:
    return stamp.reference, _figures(stamp.metrics), stamp.machine, stamp.created[:10]


def _figures(metrics: Metrics) -> str:
    facts = msgspec.to_builtins(metrics)
    return ", ".join(
        f"{name.replace('_', ' ')} {value:.3g}"
        if isinstance(value, float)
        else f"{name.replace('_', ' ')} {value}"
        for name, value in facts.items()
        if name != "kind" and value is not None
    )


def _engines(engines: Sequence[Engine]) -> list[str]:
    if not engines:
        return []
    rows = [
        (
            f"`{engine.plan.name}`",
            f"{engine.record.key.flavour} {engine.record.key.version}",
            engine.record.key.gpu or f"compute capability {', '.join(engine.record.key.sms)}",
        )
        for engine in engines
    ]
    words = "Each runs on its GPU and version alone; `magvit build` makes others."
    return ["## Engines", f"{words}\n\n{_table(('engine', 'built with', 'for'), rows)}"]


def _weights(bundle: Bundle, licence: str | None) -> str:
    lines = [
        f"- `{name}` ({component.family}): {_source(component)}"
        for name, component in bundle.manifest.components.items()
    ]
    known = f"Licence: {licence}." if licence else "Whoever pushed this named no licence."
    return "\n".join([*lines, "", known])


def _source(component: Component) -> str:
    weights = component.weights
    if weights.source == "seeded":
        return f"generated ({weights.name}), never trained"
    words = f"{weights.name}, {weights.variant} weights"
    if weights.sha256:
        words += f", sha256 `{weights.sha256}`"
    entry = publisher(component)
    if entry is None:
        return words
    theirs = f"[{entry.repo}](https://huggingface.co/{entry.repo}), licence: {entry.licence}"
    if weights.source == "hub":
        return f"{words}; published as {theirs}"
    return f"{words}; of the architecture of {theirs}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    cells = ((cell.replace("|", "\\|") for cell in line) for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
