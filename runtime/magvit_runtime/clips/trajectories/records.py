"""What reading a trajectory file gives: trajectories, and a report of what was wrong in it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.errors import TrajectoryError

# Differences and small multiples of coordinates up to this size never overflow float64.
LARGEST_NUMBER = 1e300

Action = Literal["dropped", "repaired", "refused", "noted"]
Kind = Literal["point", "space", "box"]
BoxesFrom = Literal["top left", "middle", "two corners"]


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The path of one moving point, in the plane or in space, or of a box.

    Attributes:
        id: Name of the trajectory, unique in its file.
        xy: float64 [points, 2], finite, in any unit; y grows downward, as in images, unless
            `RenderStyle.y_axis` says otherwise. Of a box, its centre. In space, x and y are as the
            camera's `up` has them.
        t: float64 [points], strictly increasing, in seconds or any unit; the sample index where
            the file has no times.
        label: Class of the trajectory, or None.
        first_row: Where the trajectory starts in its file: the line of a CSV (its header is
            line 1), the row of a Parquet file or of an npz file's columns (the first is 1), or
            the place in an npz file's `xy` (the first is 1).
        z: float64 [points], finite, in the unit of xy, of a point in space; else None.
        size: float64 [points, 2], width and height of a box, from 0 on, in the unit of xy; else
            None.

    Raises:
        TrajectoryError: The arrays break one of these promises.
    """

    id: str
    xy: NDArray[np.float64]
    t: NDArray[np.float64]
    label: str | None = None
    first_row: int = 1
    z: NDArray[np.float64] | None = None
    size: NDArray[np.float64] | None = None

    @property
    def kind(self) -> Kind:
        """What moves: a point in the plane, a point in space, or a box."""
        return (
            "point"
            if self.z is None and self.size is None
            else "box"
            if self.z is None
            else "space"
        )

    def __post_init__(self) -> None:
        points = self.t.size
        self._check_further(points)
        if points < 2 or self.t.shape != (points,) or self.xy.shape != (points, 2):
            raise TrajectoryError(
                f"trajectory {self.id!r} has the wrong shape",
                found=f"xy {self.xy.shape} and t {self.t.shape}",
                expected="xy [points, 2] and t [points], at least 2 points",
            )
        if self.xy.dtype != np.float64 or self.t.dtype != np.float64:
            raise TrajectoryError(
                f"trajectory {self.id!r} has the wrong type",
                found=f"xy {self.xy.dtype} and t {self.t.dtype}",
                expected="float64",
                mend="convert both with .astype(np.float64)",
            )
        # Written so that NaN fails too.
        if not max(np.abs(self.xy).max(), np.abs(self.t).max()) <= LARGEST_NUMBER:
            raise TrajectoryError(
                f"trajectory {self.id!r} holds a number that is not finite, "
                f"or beyond ±{LARGEST_NUMBER:g}"
            )
        if not (self.t[1:] > self.t[:-1]).all():
            raise TrajectoryError(
                f"the times of trajectory {self.id!r} don't increase from each point to the next",
                mend="sort the points by time and keep one point of each time",
            )

    def _check_further(self, points: int) -> None:
        """Checks z and size; `__post_init__` says what of the rest."""
        if self.z is not None and self.size is not None:
            raise TrajectoryError(f"trajectory {self.id!r} is a point in space and a box")
        shape = (points,) if self.size is None else (points, 2)
        further = self.z if self.size is None else self.size
        if further is None:
            return
        name = "z" if self.size is None else "size"
        if further.shape != shape or further.dtype != np.float64:
            raise TrajectoryError(
                f"trajectory {self.id!r} has the wrong {name}",
                found=f"{further.dtype} {list(further.shape)}",
                expected=f"float64 {list(shape)}",
            )
        low = 0 if name == "size" else -LARGEST_NUMBER
        if not (further.min(initial=0) >= low and further.max(initial=0) <= LARGEST_NUMBER):
            raise TrajectoryError(
                f"trajectory {self.id!r} holds a {name} that can't be used",
                expected=f"finite numbers in {low:g} to {LARGEST_NUMBER:g}",
            )


@dataclass(frozen=True)
class RowProblem:
    """One thing that was wrong in a file, and what was done about it.

    Attributes:
        row: Row of the file, numbered as `Trajectory.first_row`.
        trajectory: Id of the trajectory, where it is known.
        problem: Short stable name; `repair` lists them all.
        message: One sentence for people.
        action: The row was "dropped", the trajectory "repaired" or "refused"; or nothing was done
            and it was "noted".
    """

    row: int
    trajectory: str | None
    problem: str
    message: str
    action: Action


@dataclass
class ReadReport:
    """What reading one file met; it grows while the file is read.

    Attributes:
        trajectories: Number of usable trajectories so far.
        problems: The first `KEPT_PROBLEMS` problems, in file order of discovery.
        counts: Number of all problems so far, by (action, problem).
        kinds: Number of usable trajectories so far, by `Trajectory.kind`.
        boxes_from: What x and y of boxes were taken for; None where there are none.
    """

    KEPT_PROBLEMS = 1000

    trajectories: int = 0
    problems: list[RowProblem] = field(default_factory=list)
    counts: Counter[tuple[Action, str]] = field(default_factory=Counter)
    kinds: Counter[Kind] = field(default_factory=Counter)
    boxes_from: BoxesFrom | None = None

    def add(self, problem: RowProblem) -> None:
        """Counts a problem, and keeps it if it is among the first."""
        self.counts[problem.action, problem.problem] += 1
        if len(self.problems) < self.KEPT_PROBLEMS:
            self.problems.append(problem)

    def summary(self) -> str:
        """Says in one line what was read, dropped, repaired and refused."""
        parts = [f"{self.trajectories} trajectories read"]
        for (action, problem), count in sorted(self.counts.items()):
            parts.append(f"{count} {action} ({problem})")
        return "; ".join(parts)
