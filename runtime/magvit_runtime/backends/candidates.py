"""The one list of ways to run a role of a bundle on this machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

from magvit_runtime.backends.backend import Backend, Candidate, Unfit
from magvit_runtime.bundle.manifest import Precision, Role
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.bundle.tuning_file import tuned_seconds
from magvit_runtime.hardware.machine import Machine

ENTRY_POINTS = "magvit.backends"


@dataclass(frozen=True)
class Candidates:
    """Every way to run a role here, and every way that can't be taken.

    Attributes:
        fit: The ways that can be taken, the best first as long as nothing was timed.
        unfit: The ways that can't be taken, in the backends' order.
    """

    fit: tuple[Candidate, ...]
    unfit: tuple[Unfit, ...]

    @property
    def why_no_engine(self) -> str:
        """Why no engine can be taken; "" if one can."""
        if any(candidate.is_engine for candidate in self.fit):
            return ""
        for unfit in self.unfit:
            if unfit.is_engine:
                return f"{unfit.subject} doesn't run here ({unfit.why})"
        return "the bundle has no engine for it"

    @property
    def graphs(self) -> list[Candidate | Unfit]:
        """All except the engines; those that can't be taken come last."""
        return [one for one in self._every if not one.is_engine]

    @property
    def engines(self) -> list[Candidate | Unfit]:
        """All engines by name, including those that can't be taken."""
        return sorted((one for one in self._every if one.is_engine), key=lambda one: one.subject)

    @property
    def _every(self) -> list[Candidate | Unfit]:
        return [*self.fit, *self.unfit]

    def of(self, backend: str) -> Candidates:
        """The ways of one backend."""
        return Candidates(
            tuple(one for one in self.fit if one.backend == backend),
            tuple(one for one in self.unfit if one.backend == backend),
        )

    def on(self, kind: str, device: str) -> Candidates:
        """The ways that use a kind of device; the others can't be taken.

        Args:
            kind: "cpu" or "cuda".
            device: Name of the device, for the reason.
        """
        others = tuple(
            Unfit(
                one.subject,
                one.role,
                one.backend,
                one.precision,
                f"{one.subject} runs on {'a CPU' if one.device == 'cpu' else 'a GPU'}, "
                f"not on {device}",
                is_engine=one.is_engine,
            )
            for one in self.fit
            if one.device != kind
        )
        return Candidates(
            tuple(one for one in self.fit if one.device == kind), (*self.unfit, *others)
        )

    def for_precision(self, precision: Precision, *, any_engine: bool) -> Candidates:
        """The ways of one precision; with `any_engine` also the engines of every precision."""

        def belongs(one: Candidate | Unfit) -> bool:
            return one.precision in (None, precision) or (any_engine and one.is_engine)

        return Candidates(
            tuple(filter(belongs, self.fit)),
            tuple(filter(belongs, self.unfit)),
        )


def list_candidates(
    bundle: Bundle, role: Role = "encode", machine: Machine | None = None
) -> Candidates:
    """Looks once at a bundle and a machine.

    Args:
        bundle: The bundle.
        role: What is to be run.
        machine: The machine, which may have known facts already; None is this one.

    Raises:
        BundleError: The folder of engines is a link to outside the bundle.
    """
    here = Machine() if machine is None else machine
    fit: list[Candidate] = []
    unfit: list[Unfit] = []
    for backend in installed_backends():
        for one in backend.candidates(bundle, role, here):
            if isinstance(one, Candidate):
                fit.append(one)
            else:
                unfit.append(one)
    # Stable: candidates of one rank stay in the backends' order.
    fit.sort(key=lambda candidate: candidate.rank)
    return Candidates(tuple(fit), tuple(unfit))


def installed_backends() -> tuple[Backend, ...]:
    """All backends, ours and other packages', by the names of their entry points."""
    # Imported here, because it takes longer than all the rest of `import magvit_runtime`.
    from importlib.metadata import entry_points

    points = sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name)
    return tuple(point.load() for point in points)


def backend_names() -> tuple[str, ...]:
    """The names that `backend=` takes besides "auto"."""
    return tuple(name for backend in installed_backends() for name in backend.names)


def fastest_first(bundle: Bundle, candidates: tuple[Candidate, ...]) -> list[Candidate]:
    """Candidates that `magvit tune` timed on this machine by their time, then the others.

    Raises:
        BundleError: The file of times is malformed.
    """
    if not candidates:
        return []
    digests = {one.subject: one.sha256 for one in candidates}
    seconds = tuned_seconds(bundle, digests, candidates[0].role)
    timed = [
        replace(one, reason=f"the fastest of {len(seconds)} that `magvit tune` timed here")
        for one in sorted(candidates, key=lambda one: seconds.get(one.subject, inf))
        if one.subject in seconds
    ]
    return timed + [one for one in candidates if one.subject not in seconds]
