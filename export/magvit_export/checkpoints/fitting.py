"""Finds a model's keys among the names of a file, whatever stands in front of them.

Training tools put things around a state dict: a dict with an entry for it, a prefix on every key
(`module.`), a level inside (`encoder._orig_mod.`). So entries of dicts and parts of keys are one
dotted name here, and the model's own keys are looked for at its end.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Literal

from torch import Tensor

from magvit_export.checkpoints.errors import CheckpointError
from magvit_export.checkpoints.keys import EMA_PREFIX, is_training_only

Variant = Literal["ema", "raw"]
# Names under which a key may stand in a file, the reference's own first.
Spellings = Callable[[str], tuple[str, ...]]

# Levels that tools put anywhere between a model's own: DDP, torch.compile, FSDP, activation
# checkpoints, and modules that were pickled whole.
_LEVELS = (
    "_orig_mod",
    "module",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "_modules",
    "_parameters",
    "_buffers",
)
# Of several places that hold the whole model, the one that begins with the first of these.
_PREFERRED = ("", "state_dict", "model", "model_state_dict", "module", "net")
# Words that mark a place as that of a moving average.
_AVERAGE = re.compile(r"(?<![a-z])ema(?![a-z])")
_EMA = EMA_PREFIX.rstrip(".")
_DEPTH = 40
_MOST_ENTRIES = 200_000


@dataclass(frozen=True)
class Entry:
    """A value of a file that is no dict.

    Attributes:
        name: Keys of all dicts on its way, joined by dots.
        holder: The same, of the dict that it lies in.
        value: A tensor, or anything else.
    """

    name: str
    holder: str
    value: object


@dataclass(frozen=True)
class Fit:
    """One place in a file that holds keys of a model.

    Attributes:
        place: What stands in front of the keys, with its dot: "" or "state_dict.module.".
        variant: Whether it is that of a moving average.
        names: Entries' names by the model's keys.
    """

    place: str
    variant: Variant
    names: dict[str, str]

    @property
    def base(self) -> str:
        """The place of the raw keys that it belongs to: the reference's EMA lies beside them."""
        return self.place.split(EMA_PREFIX)[0]


def list_entries(path: Path, content: object) -> list[Entry]:
    """All values that the dicts of a file lead to.

    Raises:
        CheckpointError: There are more than any checkpoint has, or two tensors of one name.
    """
    entries: list[Entry] = []
    names: set[str] = set()
    for entry in _walk(content, "", ()):
        entries.append(entry)
        if isinstance(entry.value, Tensor) and entry.name in names:
            raise CheckpointError(
                f"{path} holds two tensors of one name",
                found=entry.name,
                mend="save one of them alone",
            )
        if isinstance(entry.value, Tensor):
            names.add(entry.name)
        if len(entries) > _MOST_ENTRIES:
            raise CheckpointError(f"{path} is no checkpoint: found over {_MOST_ENTRIES} entries")
    return entries


def _walk(content: object, holder: str, above: tuple[int, ...]) -> Iterator[Entry]:
    # A dict may lie in itself, where objects point at one another.
    if not isinstance(content, dict) or id(content) in above or len(above) > _DEPTH:
        return
    for key, value in content.items():
        if isinstance(key, str):
            # TensorFlow's and JAX's tools put slashes between levels.
            own = key.replace("/", ".")
            name = f"{holder}.{own}" if holder else own
            if isinstance(value, dict) and value:
                yield from _walk(value, name, (*above, id(content)))
            else:
                yield Entry(name, holder, value)


def find_fits(entries: list[Entry], keys: list[str], spellings: Spellings) -> list[Fit]:
    """All places that hold some of a model's keys, those with most of them first."""
    aliases = {alias: key for key in keys for alias in reversed(spellings(key))}
    levels = [level for level in _LEVELS if not any(level in alias for alias in aliases)]
    undotted = {alias.replace(".", ""): key for alias, key in aliases.items()}
    tails: dict[str, dict[str, str]] = defaultdict(dict)
    for alias, key in aliases.items():
        group, _, tail = alias.partition(".")
        tails[group][tail] = key
    fits: dict[str, dict[str, str]] = defaultdict(dict)
    # By place, group and what lies between the group and the rest of its keys.
    inner: dict[tuple[str, str, str], dict[str, str]] = defaultdict(dict)
    for entry in entries:
        parts = entry.name.split(".")
        if parts[-2:-1] == [_EMA]:
            if found := _undotted_end(parts[-1], undotted, levels):
                place = ".".join(parts[:-1]) + "." + found[0]
                fits[place].setdefault(found[1], entry.name)
            continue
        for index, group in enumerate(parts):
            if group in tails and (end := _dotted_end(parts[index + 1 :], tails[group], levels)):
                place = "".join(f"{part}." for part in parts[:index])
                inner[place, group, end[0]].setdefault(end[1], entry.name)
    for place, group in {(place, group) for place, group, _ in inner}:
        fits[place] |= _fullest(
            {between: names for (*at, between), names in inner.items() if at == [place, group]}
        )
    every = [
        Fit(place, "ema" if _AVERAGE.search(place.lower()) else "raw", names)
        for place, names in fits.items()
    ]
    return sorted(every, key=lambda fit: (-len(fit.names), len(fit.place)))


def find_bare(
    entries: list[Entry], shapes: Mapping[str, tuple[int, ...]], spellings: Spellings
) -> list[Entry]:
    """The entries of a file that holds one group of a model, such as the encoder, by bare names.

    Returns:
        Those of the one dict whose tensors are exactly a group's, by name and shape, named as the
        model names them; none where there is no such dict, or where it might be several groups.
    """
    found = []
    holders = {entry.holder for entry in entries if isinstance(entry.value, Tensor)}
    for group, holder in product(dict.fromkeys(key.split(".")[0] for key in shapes), holders):
        inside = [
            replace(entry, name=_in_group(entry, group))
            for entry in entries
            if entry.holder == holder and isinstance(entry.value, Tensor)
        ]
        of_group = {key: tuple(shapes[key]) for key in shapes if key.startswith(f"{group}.")}
        sizes = {
            entry.name: tuple(entry.value.shape)
            for entry in inside
            if isinstance(entry.value, Tensor)
        }
        fit = next(iter(find_fits(inside, list(of_group), spellings)), None)
        names = fit.names if fit else {}
        same_size = len(names) == len(inside) == len(of_group)
        if same_size and all(sizes[names[key]] == shape for key, shape in of_group.items()):
            found.append(inside)
    return found[0] if len(found) == 1 else []


def _in_group(entry: Entry, group: str) -> str:
    holder = f"{entry.holder}." if entry.holder else ""
    return f"{holder}{group}.{entry.name.removeprefix(holder)}"


def _fullest(choices: Mapping[str, dict[str, str]]) -> dict[str, str]:
    """The names with most keys, or with nothing in between; none where two are equal in that."""

    def fullness(between: str) -> tuple[int, bool]:
        return len(choices[between]), not between

    first, *others = sorted(choices, key=fullness, reverse=True)
    return {} if others and fullness(others[0]) == fullness(first) else choices[first]


def _dotted_end(
    parts: list[str], tails: Mapping[str, str], levels: list[str]
) -> tuple[str, str] | None:
    """The longest end of a name that a model has, and what is in front of it."""
    parts = [part for part in parts if part not in levels]
    for index in range(len(parts)):
        if key := tails.get(".".join(parts[index:])):
            return ".".join(parts[:index]), key
    return ("", tails[""]) if not parts and "" in tails else None


def _undotted_end(
    name: str, undotted: Mapping[str, str], levels: list[str]
) -> tuple[str, str] | None:
    """The same of an EMA name, which has no dots."""
    if name in undotted:
        return "", undotted[name]
    short = name
    for level in levels:
        short = short.replace(level, "")
    for index in range(len(short)):
        if key := undotted.get(short[index:]):
            return short[:index], key
    return None


def choose_fit(path: Path, fits: list[Fit], needed: set[str], variant: Variant) -> Fit | None:
    """The place to read from: of those that hold all that is needed, the first by `_PREFERRED`.

    Returns:
        Where none holds all, the one with most of it; None where there is none.

    Raises:
        CheckpointError: Several hold all, and nothing says which is meant.
    """
    fits = [fit for fit in fits if fit.variant == variant and fit.names.keys() & needed]
    whole = [fit for fit in fits if fit.names.keys() >= needed]
    if not whole:
        return max(fits, key=lambda fit: len(fit.names.keys() & needed), default=None)
    whole = _distinct(whole, needed)
    first, *others = sorted(whole, key=_preference)
    if others and _preference(others[0]) == _preference(first):
        places = sorted(fit.place.rstrip(".") or "the top" for fit in whole)
        raise CheckpointError(
            f"{path} holds this model's {variant} weights more than once",
            found=", ".join(places),
            mend="save the one that is meant as a state dict of its own",
        )
    return first


def _distinct(fits: list[Fit], needed: set[str]) -> list[Fit]:
    """One fit for the same entries, which may be seen as two places."""
    seen: dict[frozenset[str], Fit] = {}
    for fit in fits:
        seen.setdefault(frozenset(fit.names[key] for key in needed), fit)
    return list(seen.values())


def _preference(fit: Fit) -> tuple[int, int]:
    first, *rest = fit.base.rstrip(".").split(".")
    rank = _PREFERRED.index(first) if first in _PREFERRED else len(_PREFERRED)
    return rank, len(rest)


def strangers(
    entries: list[Entry], fit: Fit, fits: list[Fit], passed_over: tuple[str, ...] = ()
) -> list[str]:
    """Names beside a model's keys, in the same dicts, that are none of its keys.

    They say that the file is another model's. Keys of training alone, what lies beside the place,
    and keys whose beginnings are `passed_over` say nothing.
    """
    known = {name for other in fits for name in other.names.values()}
    own = set(fit.names.values())
    holders = {entry.holder for entry in entries if entry.name in own}
    return sorted(
        entry.name
        for entry in entries
        if isinstance(entry.value, Tensor)
        and entry.holder in holders
        and entry.name.startswith(fit.base)
        and entry.name not in known
        and not is_training_only(_own_name(entry.name, fit))
        and not (passed_over and _own_name(entry.name, fit).startswith(passed_over))
    )


def _own_name(name: str, fit: Fit) -> str:
    if fit.place != fit.base and name.startswith(fit.place):
        return EMA_PREFIX + name.removeprefix(fit.place)
    return name.removeprefix(fit.base)
