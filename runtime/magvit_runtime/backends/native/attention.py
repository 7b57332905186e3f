"""The step of a program that lets every position of a map see every other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from magvit_runtime.backends.native.clip_shape import ClipShape
from magvit_runtime.errors import BackendError


@dataclass(frozen=True)
class Attention:
    """Attention with one head over all positions of a clip, in float32.

    At each position: the values' sum by the softmax over positions of q·k / √C.

    Attributes:
        queries, keys, values: The maps that it reads, of one shape.
        output: The map that it writes, of that shape.
    """

    queries: str
    keys: str
    values: str
    output: str

    @property
    def reads(self) -> tuple[str, ...]:
        """The values that it reads."""
        return (self.queries, self.keys, self.values)

    def output_shape(self, shapes: Mapping[str, ClipShape]) -> ClipShape:
        """The output's shape for those of the values before.

        Raises:
            BackendError: The three maps aren't of one shape.
        """
        queries, keys, values = (shapes[name] for name in self.reads)
        if not queries == keys == values:
            raise BackendError(
                "the native backend's attention takes maps of one shape",
                found=f"{list(queries)}, {list(keys)} and {list(values)}",
                mend="use backend='onnxruntime'",
            )
        return values
