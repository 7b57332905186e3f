"""Profiles as a user writes them: 1/4/16, or several: 1,4,8,16 or 1/4/16,1/1/2@17x256x256."""

from __future__ import annotations

from magvit_runtime.types import Shape

Batches = tuple[int, int, int]


def read_profiles(text: str, usual: Shape) -> list[tuple[Batches, Shape]]:
    """The batches and the clips of each profile.

    Args:
        text: Profiles, separated by commas. Each is minimum/optimum/maximum, or the largest batch
            alone, whose minimum follows the largest of the profile before it of the same size. A
            size of its own follows an @, as 17x256x256.
        usual: Size of clips where a profile has none of its own: [T, H, W] or [H, W].

    Returns:
        Minimum, optimum and maximum batch of each profile, and the size of its clips.

    Raises:
        ValueError: It makes no sense.
    """
    profiles: list[tuple[Batches, Shape]] = []
    largest: dict[Shape, int] = {}
    for part in text.split(","):
        written, has_size, size_text = part.partition("@")
        size = _numbers(size_text, "x") if has_size else usual
        if len(size) != len(usual):
            raise ValueError(f"{size_text} isn't a size of {len(usual)} numbers")
        match _numbers(written, "/"):
            case (most,):
                batches = (largest.get(size, 0) + 1, most, most)
            case (minimum, optimum, maximum):
                batches = (minimum, optimum, maximum)
            case _:
                raise ValueError(f"{written} is neither one batch nor three")
        if min(*batches, *size) < 1:
            raise ValueError("sizes must be positive")
        if (batches, size) in profiles:
            raise ValueError(f"{part} comes twice")
        largest[size] = batches[-1]
        profiles.append((batches, size))
    return profiles


def _numbers(text: str, separator: str) -> Shape:
    return tuple(int(number) for number in text.split(separator))
