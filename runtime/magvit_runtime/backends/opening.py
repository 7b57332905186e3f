"""Opens a role of a bundle in the best backend for it, and says which and why."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from magvit_runtime.backends.backend import Candidate, Opening, Session, Unfit
from magvit_runtime.backends.candidates import (
    Candidates,
    backend_names,
    fastest_first,
    list_candidates,
)
from magvit_runtime.backends.device_pool import open_pool
from magvit_runtime.bundle.manifest import GraphRecord, Precision, Role
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.bundle.stamps import check_stamp
from magvit_runtime.errors import BackendError, BundleError, InputError
from magvit_runtime.hardware.devices import DeviceNames, device_name, gpu_number, gpu_numbers
from magvit_runtime.hardware.machine import Machine
from magvit_runtime.tracing import add_facts, span

# Our backends, for editors and commands. Other packages' backends also work by name.
BackendName = Literal["auto", "native", "native-cuda", "onnxruntime", "tensorrt", "tensorrt-rtx"]

MOST_THREADS = 4096  # More than any machine's CPUs; a library may die of trying.

logger = logging.getLogger(__name__)


def open_role(
    bundle: Bundle,
    role: Role,
    *,
    backend: BackendName | str = "auto",
    precision: Precision | None = None,
    threads: int | None = None,
    workers: int | None = None,
    require_parity: bool = False,
    canary: bool = False,
    device: str | None = None,
    devices: DeviceNames | None = None,
) -> tuple[GraphRecord, Session]:
    """Opens a role of a bundle.

    "auto" takes the fastest candidate that `magvit tune` timed on this machine, else the first of
    `list_candidates` that can be opened; the session's `capabilities.reason` says why.

    Args:
        bundle: The bundle.
        role: What is to be run.
        backend: Which backend.
        precision: Which graph. None takes any engine, or else the most precise graph.
        threads: CPU threads of one run; None is the backend's own choice.
        workers: Batches at once on a GPU; None is one. Only a GPU's backends take it.
        require_parity: Refuse a candidate without a valid parity stamp; no other is tried instead.
        canary: Run an item whose outputs are known, and refuse a session that gives others. Of an
            engine whose plugins have changed since its build this is done anyhow, where the bundle
            has such items.
        device: "cpu", "cuda:1" or a UUID; None leaves it to the backend, whose GPU is CUDA's first.
        devices: Several that share the work, or "all" GPUs; each opens a session of its own.

    Returns:
        The graph, for its inputs and outputs, and the session.

    Raises:
        InputError: No backend has this name, `threads` or `workers` is out of range, the backend
            chosen has no workers, or a device's name is none.
        BundleError: The bundle has no such graph, a file was changed, or a stamp or the canary is
            missing.
        BackendError: The backend isn't installed, has no engine here, can't load it, or gives
            something else than the model.
    """
    check_options(backend, threads, workers)
    here = Machine()
    opening = Opening("asked for", threads, workers)

    def open_on(machine: Machine, device: str | None = None) -> tuple[GraphRecord, Session]:
        on_it = replace(opening, gpu=machine.gpu_number)
        return _open_on(
            bundle, role, machine, device, backend, precision, on_it, require_parity, canary
        )

    if devices is None and device is None:
        return open_on(here)
    if devices is None:
        number = gpu_number(str(device), here)
        return open_on(here.on(number), device_name(number))
    if device is not None:
        raise InputError("`device` and `devices` exclude each other", mend="pass one of them")
    numbers = gpu_numbers(devices, here)
    names = [device_name(number) for number in numbers]
    if len(numbers) == 1:
        return open_on(here.on(numbers[0]), names[0])
    return open_pool(names, lambda place: open_on(here.on(numbers[place]), names[place]))


def _open_on(
    bundle: Bundle,
    role: Role,
    machine: Machine,
    device: str | None,
    backend: str,
    precision: Precision | None,
    opening: Opening,
    require_parity: bool,
    canary: bool,
) -> tuple[GraphRecord, Session]:
    """Opens a role on a machine; on a device of it, where one is named."""
    chosen, _ = bundle.graph(role, precision)
    found = list_candidates(bundle, role, machine).for_precision(
        chosen, any_engine=precision is None
    )
    if device is not None:
        found = found.on("cpu" if machine.gpu_number is None else "cuda", device)
    _log_unfit(found)
    if not found.fit:
        raise _cannot_run(bundle, chosen, found)
    if backend == "auto":
        candidates = fastest_first(bundle, _with_reasons(found))
        return _open_first(bundle, candidates, found.unfit, opening, require_parity, canary)
    asked_for = next(iter(found.of(backend).fit), None)
    if asked_for is None:
        raise _backend_cannot_run(bundle, role, backend, chosen, found.of(backend))
    if require_parity:
        check_stamp(bundle, role, asked_for.subject, asked_for.sha256)
    return asked_for.graph, _open_one(bundle, asked_for, opening, canary)


def check_options(backend: str, threads: int | None, workers: int | None = None) -> None:
    """Refuses options that no backend takes.

    Raises:
        InputError: No backend has this name, or a number is out of range.
    """
    names = backend_names()
    if backend != "auto" and backend not in names:
        raise InputError(
            f"no backend is named {backend!r}", expected=", ".join(("auto", *sorted(names)))
        )
    for name, value in (("threads", threads), ("workers", workers)):
        if value is not None and value < 1:
            raise InputError(f"`{name}` must be positive", found=value)
        if value is not None and value > MOST_THREADS:
            raise InputError(f"`{name}` is too large", found=value, expected=f"≤ {MOST_THREADS}")


def _with_reasons(found: Candidates) -> tuple[Candidate, ...]:
    """Candidates that also say why no engine was taken, if none could be."""
    why, (first, *others) = found.why_no_engine, found.fit
    if not why:
        return found.fit
    # A candidate of the last rank is chosen for the reasons that rule out the others.
    others_cannot = next((one.why for one in found.unfit if not one.is_engine), "")
    reasons = ", and ".join(filter(None, [why, first.reason or others_cannot]))
    return (replace(first, reason=reasons), *(replace(one, reason=why) for one in others))


def _open_first(
    bundle: Bundle,
    candidates: Sequence[Candidate],
    unfit: Sequence[Unfit],
    opening: Opening,
    require_parity: bool,
    canary: bool,
) -> tuple[GraphRecord, Session]:
    """The first candidate that can be opened; each that is tried must have its stamp.

    If all fail, the message says what an installation would fix.
    """
    failures: list[str] = []
    for candidate in candidates:
        if require_parity:
            check_stamp(bundle, candidate.role, candidate.subject, candidate.sha256)
        reason = "; ".join([*failures, candidate.reason])
        try:
            opened = _open_one(bundle, candidate, replace(opening, reason=reason), canary)
            return candidate.graph, opened
        except (BackendError, BundleError) as error:
            # A damaged plan costs only one engine; a damaged graph makes the bundle unusable.
            is_damaged_graph = isinstance(error, BundleError) and not candidate.is_engine
            failures.append(f"{candidate.subject} can't be opened: {error}")
            mendable = next((one for one in unfit if one.fix), None)
            if is_damaged_graph or (candidate is candidates[-1] and mendable is None):
                raise
            if candidate is candidates[-1] and mendable is not None:
                found = "; ".join([*failures, mendable.why])
                what = f"no backend can open {bundle.path} here"
                raise BackendError(what, found=found, mend=mendable.fix) from error
            said = {"role": candidate.role, "subject": candidate.subject, "error": str(error)}
            logger.warning("%s; another backend is used instead", failures[-1], extra=said)
    raise AssertionError("there is one candidate at least")


def _open_one(bundle: Bundle, candidate: Candidate, opening: Opening, canary: bool) -> Session:
    """Opens a candidate, and tries it on the canary where that is asked for or called for."""
    said = {"role": candidate.role, "bundle": str(bundle.path), "subject": candidate.subject}
    with span("open", lambda: said) as opened:
        session = candidate.open(opening)
        if canary or (candidate.has_changed and candidate.role in bundle.manifest.canaries):
            # Imported here: what it needs would be a fifth of this package's import.
            from magvit_runtime.backends.canary import run_canary

            try:
                run_canary(bundle, candidate, session)
            except BaseException:
                session.close()
                raise
        facts = session.capabilities
        said |= {
            "backend": facts.backend,
            "version": facts.version,
            "precision": facts.precision,
            "device": facts.device,
            "reason": facts.reason,
        }
        add_facts(opened, said)
    logger.info(
        "%s of %s runs as %s on %s: %s",
        candidate.role,
        bundle.path,
        candidate.subject,
        facts.device,
        facts.reason,
        extra=said,
    )
    return session


def _log_unfit(found: Candidates) -> None:
    """Logs which ways can't be taken, and engines so that whoever built them sees it."""
    for one in found.unfit:
        logger.log(
            logging.INFO if one.is_engine else logging.DEBUG,
            "%s isn't taken for %s: %s",
            one.subject,
            one.role,
            one.why,
            extra={"role": one.role, "subject": one.subject, "why": one.why, "fix": one.fix},
        )


def _cannot_run(bundle: Bundle, precision: Precision, found: Candidates) -> BackendError:
    """No backend runs a graph here; reasons that an installation would fix come first."""
    why = sorted(found.unfit, key=lambda one: not one.fix)
    return BackendError(
        f"no backend can run the {precision} graph of {bundle.path} here",
        found="; ".join(dict.fromkeys(one.why for one in why)) or "none is installed",
        mend=(why[0].fix if why else "") or "magvit doctor",
    )


def _backend_cannot_run(
    bundle: Bundle, role: Role, backend: str, precision: Precision, found: Candidates
) -> BackendError:
    if backend in ("tensorrt", "tensorrt-rtx"):
        return BackendError(
            f"{bundle.path} has no engine that {backend} can run here",
            found=found.why_no_engine,
            mend=f"magvit build {bundle.path} --flavour {backend}"
            + ("" if role == "encode" else f" --role {role}"),
        )
    unfit = next(iter(found.unfit), None)
    return BackendError(
        f"{backend} can't run the {precision} graph of {bundle.path} here",
        found=unfit.why if unfit else "it doesn't run such graphs",
        mend=(unfit.fix if unfit else "") or "use another precision or backend",
    )
