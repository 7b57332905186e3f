"""Numbers that a command's option lists."""

from __future__ import annotations

from magvit_runtime.errors import InputError


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
    return tuple(dict.fromkeys(int(number) for number in numbers))
