"""One of the graphs that generate behind a Python class: opened, checked, and run with a state."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self, cast

from magvit_runtime.backends.backend import Capabilities, State, StatefulSession
from magvit_runtime.backends.opening import BackendName, open_role
from magvit_runtime.backends.tensor_check import check_array, check_result
from magvit_runtime.bundle.manifest import Precision, Role
from magvit_runtime.bundle.reading import EXPORT_AGAIN, open_bundle
from magvit_runtime.door import Door
from magvit_runtime.errors import BackendError, BundleError
from magvit_runtime.types import Array


class StatefulRole(Door):
    """Base of the graphs that generate.

    Attributes:
        ROLE: What the graph does.
    """

    ROLE: ClassVar[Role]

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        backend: BackendName | str,
        precision: Precision | None,
        threads: int | None,
        require_parity: bool,
    ) -> Self:
        """Opens a bundle's graph for this role; the options are those of `Generator.open`.

        Raises:
            BundleError, BackendError, InputError: As of `Generator.open`.
        """
        options = {
            "backend": backend,
            "precision": precision,
            "threads": threads,
            "require_parity": require_parity,
        }
        bundle = open_bundle(path)
        graph, session = open_role(
            bundle,
            cls.ROLE,
            backend=backend,
            precision=precision,
            threads=threads,
            require_parity=require_parity,
        )
        if not session.capabilities.stateful:
            session.close()
            raise BackendError(
                f"{session.capabilities.backend} keeps no state between runs",
                mend="leave `backend` out",
            )
        return cls(bundle, graph, session, options)

    @property
    def capabilities(self) -> Capabilities:
        """What it runs on, and why."""
        return self._session.capabilities

    def new_state(self, batch: int, rows: int) -> State:
        """An empty state; see `StatefulSession.new_state`."""
        return cast(StatefulSession, self._session).new_state(batch, rows)

    def run(self, inputs: Mapping[str, Array], output: str, state: State | None = None) -> Array:
        """One output of a run; see `StatefulSession.run`.

        Raises:
            BackendError: The backend failed.
            BundleError: The graph gives something else than its manifest says.
        """
        session = cast(StatefulSession, self._session)
        (result,) = session.run(inputs, [output], state)
        spec = next((spec for spec in self._graph.outputs if spec.name == output), None)
        if spec is None:
            raise BundleError(f"{self._graph.file} gives no {output}", mend=EXPORT_AGAIN)
        check_result(result, spec, len(next(iter(inputs.values()))))
        return result

    def check(self, what: str, name: str, array: object) -> None:
        """Checks an array against an input of the graph.

        Args:
            what: Name of the array in the message.
            name: Name of the input.
            array: The array.

        Raises:
            InputError: It is of another type or shape, or an integer is out of range.
        """
        for spec in self._graph.inputs:
            if spec.name == name:
                check_array(what, array, spec)
