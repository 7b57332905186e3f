"""TensorRT and TensorRT-RTX as backends: a bundle's engines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from magvit_runtime.backends.backend import Candidate, Opening, Session, Unfit
from magvit_runtime.backends.trt.engines import (
    Engine,
    check_plan,
    find_engines,
    first_mismatch,
    is_stripped,
    rebuild_command,
)
from magvit_runtime.bundle.manifest import Role
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.hardware.machine import Machine

# An engine that was tuned for one GPU is faster than one that was built for many.
_TUNED_RANK, _PORTABLE_RANK = 0, 10


class TensorRtBackend:
    """Engines of both flavours."""

    names = ("tensorrt", "tensorrt-rtx")

    def candidates(
        self, bundle: Bundle, role: Role, machine: Machine
    ) -> Iterator[Candidate | Unfit]:
        """See `Backend.candidates`."""
        for engine in find_engines(bundle):
            if isinstance(engine, Engine):
                if engine.record.key.role == role:
                    yield _candidate(engine, bundle, machine)
            elif role == "encode":  # Its role is unknown; most engines are encoders.
                flavour = engine.flavour
                yield Unfit(engine.plan.name, role, flavour, None, engine.why, is_engine=True)


def _candidate(engine: Engine, bundle: Bundle, machine: Machine) -> Candidate | Unfit:
    key, name = engine.record.key, engine.plan.name
    if mismatch := first_mismatch(engine, bundle, machine):
        why = f"{mismatch.what}: built for {mismatch.engine}, here {mismatch.here}"
        fix = rebuild_command(engine)
        return Unfit(name, key.role, key.flavour, key.precision, why, fix, is_engine=True)
    graph = bundle.graphs(key.role)[key.precision]
    profiles = [profile[graph.inputs[0].name] for profile in key.profiles]
    # Verification and the canary run clips of one size; a session takes those of all profiles.
    clip_shape = profiles[0].optimum[1:]
    same_size = [shapes for shapes in profiles if shapes.optimum[1:] == clip_shape]
    batches = {n for shapes in same_size for n in range(shapes.minimum[0], shapes.maximum[0] + 1)}
    usual = {min(batches), *(n for one in same_size for n in (one.optimum[0], one.maximum[0]))}
    weights = partial(bundle.verified_graph, graph) if is_stripped(engine) else None
    return Candidate(
        subject=name,
        role=key.role,
        backend=key.flavour,
        precision=key.precision,
        device="cuda",
        sha256=engine.record.plan.sha256,
        graph=graph,
        rank=_PORTABLE_RANK if key.gpu is None else _TUNED_RANK,
        reason=f"{name} was built for this machine",
        clip_shape=clip_shape,
        batches=sorted(batches),
        usual_batches=tuple(sorted(usual)),
        is_engine=True,
        check=partial(check_plan, engine),
        open=partial(open_engine, engine, weights=weights),
        has_changed=key.plugin_interface is not None
        and engine.record.plugin_sha256 != machine.plugin_sha256,
    )


def open_engine(
    engine: Engine, opening: Opening, weights: Callable[[], Path] | None = None
) -> Session:
    """Opens an engine that fits this machine.

    Args:
        engine: The engine.
        opening: How.
        weights: Of one without weights, gives the ONNX file that has them, its digests checked.

    Raises:
        InputError: The number of workers isn't positive.
        BundleError: The plan is missing or damaged, or the graph's weights are.
        BackendError: TensorRT can't load it, or its weights don't fit.
    """
    from magvit_runtime.backends.trt.session import TensorRtSession

    return TensorRtSession(
        engine,
        precision=engine.record.key.precision,
        workers=1 if opening.workers is None else opening.workers,
        reason=opening.reason,
        gpu=opening.gpu or 0,
        graph=None if weights is None else weights(),
    )


BACKEND = TensorRtBackend()
