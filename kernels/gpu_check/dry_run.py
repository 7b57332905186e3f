"""Shows what a run would do: every step's command and needs, and the sum of the budgets."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from shutil import which

from needs import module_place
from steps import FIRST_SET_SECONDS, Step, Workplace, first_set, second_set


def dry_run(chosen: Sequence[Step], place: Workplace) -> bool:
    """Prints steps; says whether nothing is missing and the first set is short enough.

    Files that another step makes count as there.
    """
    makers = {
        path: step.name for step in (*first_set(place), *second_set(place)) for path in step.made
    }
    lacking: list[str] = []
    total = 0
    for step in chosen:
        total += step.seconds
        print(f"{step.name}: {step.seconds} s, {total} s so far")
        print(f"    {shlex.join(step.command)}")
        needs = [(module, module_place(module, place.wheels)) for module in step.modules]
        needs += [(tool, which(tool)) for tool in step.tools]
        needs += [
            (str(path), "there" if path.exists() else _made_by(makers.get(path)))
            for path in step.inputs
        ]
        for need, found in needs:
            print(f"    {need}: {found or 'MISSING'}")
            if found is None and need not in lacking:
                lacking.append(need)
    first = sum(step.seconds for step in first_set(place))
    print(f"the first set: {first} s of {FIRST_SET_SECONDS} s")
    print(f"missing here: {', '.join(lacking) or 'nothing'}")
    return first <= FIRST_SET_SECONDS and not lacking


def _made_by(step: str | None) -> str | None:
    return None if step is None else f"made by the step {step}"
