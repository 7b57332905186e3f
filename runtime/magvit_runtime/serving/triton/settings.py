"""How a model of the repository runs: the parameters of its config.pbtxt."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from magvit_runtime.bundle.manifest import Role
from magvit_runtime.errors import InputError
from magvit_runtime.types import Pool, Precision, Shape


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the Python backend's model is told. Every value is a text in config.pbtxt.

    Attributes:
        role: The role of the bundle.
        backend: What runs it; "auto" takes the best of the server's machine.
        precision: Which graph; None takes the most precise, or any engine.
        pool: How features are pooled.
        threads: CPU threads of an instance; None is the backend's own choice for one instance, and
            shares out the CPUs among several.
        batch_size: Items that run at once.
        canary: Whether a model that doesn't give what `magvit verify` kept is refused at load.
        warm_up: Sizes of an item that runs at load, with commas between.
    """

    role: Role
    backend: str = "auto"
    precision: Precision | None = None
    pool: Pool = "none"
    threads: int | None = None
    batch_size: int = 1
    canary: bool = False
    warm_up: str

    @property
    def item(self) -> Shape:
        """Shape of the item that runs at load.

        Raises:
            InputError: It is malformed.
        """
        try:
            return tuple(int(size) for size in self.warm_up.split(","))
        except ValueError as error:
            raise InputError(
                "the parameter warm_up of config.pbtxt is malformed",
                found=self.warm_up,
                expected="sizes with commas between, as 17,128,128,3",
            ) from error

    def cpu_threads(self, instances: int, cpus: int) -> int | None:
        """CPU threads of one of several instances, which would else take all CPUs each."""
        if self.threads is not None or instances == 1:
            return self.threads
        return max(1, cpus // instances)

    def parameters(self) -> dict[str, str]:
        """The parameters of config.pbtxt, by name; those of no value are left out."""
        values = msgspec.structs.asdict(self)
        return {
            name: str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in values.items()
            if value is not None
        }


def read_settings(parameters: Mapping[str, str]) -> ModelSettings:
    """The settings of a model's parameters.

    Args:
        parameters: Of config.pbtxt, by name; those that aren't ours are Triton's.

    Raises:
        InputError: One is missing or malformed.
    """
    try:
        return msgspec.convert(dict(parameters), ModelSettings, strict=False)
    except msgspec.ValidationError as error:
        raise InputError(
            "the parameters of config.pbtxt are malformed",
            found=error,
            mend="write the repository again with `magvit triton`",
        ) from error
