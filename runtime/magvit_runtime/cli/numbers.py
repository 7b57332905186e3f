"""Numbers that a command's options take."""

from __future__ import annotations

from magvit_runtime.errors import InputError

MOST = 1_000_000


def in_range(option: str, value: int, least: int) -> int:
    """A number that can be counted to in a lifetime.

    Args:
        option: The option, for the error.
        value: What was given to it.
        least: The smallest that it takes.

    Raises:
        InputError: It is less, or more than a million.
    """
    if not least <= value <= MOST:
        raise InputError(f"{option} is out of range", found=value, expected=f"{least} to {MOST}")
    return value


def positive_numbers(option: str, text: str) -> tuple[int, ...]:
    """The different numbers of a list like "1,4", in its order.

    Args:
        option: The option, for the error.
        text: What was given to it.

    Raises:
        InputError: The text is no such list.
    """
    numbers = text.split(",")
    if not all(number.strip().isdecimal() and int(number) > 0 for number in numbers):
        raise InputError(f"{option} can't be read", found=text, expected="positive numbers, as 1,2")
    return tuple(dict.fromkeys(in_range(option, int(number), 1) for number in numbers))
