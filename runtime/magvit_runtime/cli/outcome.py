"""What a command ends in: facts for programs, and the same as text for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """The result of a command.

    Attributes:
        facts: What `--json` prints: JSON-ready values by name.
        text: What is printed otherwise.
        passed: False makes the exit code 1: the work was done, and a check failed.
    """

    facts: dict[str, Any]
    text: str
    passed: bool = True
