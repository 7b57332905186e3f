"""The exporter's interface to a family of models, and the search for installed families."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
import torch
from torch import Tensor, nn

from magvit_runtime.bundle.manifest import (
    GenerationSpec,
    Postprocessing,
    Preprocessing,
    Role,
    TensorSpec,
    TokenSpec,
)
from magvit_runtime.bundle.reading import EXPORT_AGAIN
from magvit_runtime.errors import BundleError, InputError, MissingPackageError
from magvit_runtime.sampling import Sampling

ENTRY_POINTS = "magvit.families"

DDCONFIG = "ddconfig"
# Keys of taming's ddconfig. Empty or zero, they change nothing in a family that lacks them.
_INERT = frozenset({"attn_resolutions", "dropout"})

# How configurations of OmegaConf and of Lightning hold what a class is made with.
_ARGUMENTS = ("params", "init_args")

Config = TypeVar("Config", bound=msgspec.Struct)


LARGEST_SIZE = 65_535  # Of one axis: more is a slip of the hand.


@dataclass(frozen=True)
class ClipSizes:
    """Sizes that the exported graph takes; None leaves a size to the caller.

    Attributes:
        batch: Clips at once.
        frames: Frames per clip; images have none.
        height, width: Pixels.
        tokens: Positions of a graph over tokens.
    """

    batch: int | None = None
    frames: int | None = None
    height: int | None = None
    width: int | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        for name in ("batch", "frames", "height", "width", "tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"`{name}` must be positive", found=value)
            if value is not None and value > LARGEST_SIZE:
                raise InputError(
                    f"`{name}` is too large", found=value, expected=f"≤ {LARGEST_SIZE}"
                )


@dataclass(frozen=True)
class RoleExport(Generic[Config]):
    """How a family exports one role: the module that becomes the graph, its inputs and outputs.

    Attributes:
        prefixes: The checkpoint's keys that the role needs begin with one of these.
        wrap: Makes the module that becomes the graph from the family's model. The paths of its
            modules name the graph's nodes.
        inputs, outputs: Tensors of the graph, for a config and sizes; a size that is left to the
            caller is a name.
        example: Inputs to trace with; no two of the sizes that a caller may choose are equal.
        nominal: Sizes of the one item that the model is made for.
        set_precision: Converts the wrapped module in place to a type for computing and a type for
            the residual stream. None exports float32 only.
        quantize: Gives the wrapped module weights of 8 bits, in place. None has no such export.
        cuts: The modules after which the graph can be cut, with their paths; for bisection.
        preprocessing: What is done to its pixels.
        postprocessing: How the graph makes pixels.
        on_request: Whether it is exported only where it is named.
        stored_with: A role whose graph has the same weights: where a bundle holds that graph, this
            one takes them from its file.
    """

    prefixes: tuple[str, ...]
    wrap: Callable[[Any], nn.Module]
    inputs: Callable[[Config, ClipSizes], tuple[TensorSpec, ...]]
    outputs: Callable[[Config, ClipSizes], tuple[TensorSpec, ...]]
    example: Callable[[Config, ClipSizes], tuple[Tensor, ...]]
    nominal: Callable[[Config], ClipSizes]
    set_precision: Callable[[nn.Module, torch.dtype, torch.dtype], None] | None = None
    quantize: Callable[[nn.Module], None] | None = None
    cuts: Callable[[nn.Module], Iterator[tuple[str, nn.Module]]] | None = None
    preprocessing: Callable[[Config], Preprocessing] | None = None
    postprocessing: Callable[[Config], Postprocessing] | None = None
    on_request: bool = False
    stored_with: Role | None = None


@dataclass(frozen=True)
class Family(Generic[Config]):
    """One architecture in all its sizes.

    Attributes:
        name: Its name in bundle.json and the catalog.
        config: Type of its configurations.
        build: An empty model, whose parameters have shapes but no memory yet (device "meta"), to be
            loaded with `assign=True`.
        roles: What can be exported of it.
        tokens: What its ids mean; None for a family that makes none.
        generation: What it makes of classes, with the settings of a model; None for a family that
            makes nothing of them.
        spellings: Names under which a key may stand in a checkpoint, the reference's own first.
        shared: Tensors that graphs of several roles hold, and the file of a bundle in which each
            is stored once for all of them: its type doesn't depend on a graph's precision.
        passed_over: Beginnings of the keys in published checkpoints that no role needs.
        read_folder: Reads the config that lies beside weights; None where weights come without one.
        section: Where the reference's configurations hold `config`, however deep.
        training_fields: Fields of theirs that say nothing of the architecture.
    """

    name: str
    config: type[Config]
    build: Callable[[Config], nn.Module]
    roles: Mapping[Role, RoleExport[Config]]
    tokens: Callable[[Config], TokenSpec] | None = None
    generation: Callable[[Config, Sampling], GenerationSpec] | None = None
    spellings: Callable[[str], tuple[str, ...]] = field(default=lambda key: (key,))
    shared: Mapping[str, str] = field(default_factory=dict)
    passed_over: tuple[str, ...] = ()
    read_folder: Callable[[Path], Config | None] | None = None
    section: str = DDCONFIG
    training_fields: frozenset[str] = frozenset()


def feature_specs(
    batch: int | str, channels: int, grid: tuple[int | str, ...]
) -> tuple[TensorSpec, TensorSpec]:
    """The outputs of a graph that gives an encoder's feature map, and its mean."""
    return (
        TensorSpec(
            "features",
            "float32",
            (batch, channels, *grid),
            "features",
            "the last feature map before it is projected to latents, without unit",
        ),
        TensorSpec(
            "pooled", "float32", (batch, channels), "pooled", "mean of the features over positions"
        ),
    )


def refuse_other_sizes(sizes: ClipSizes, nominal: ClipSizes) -> None:
    """Refuses frames, height or width other than those of a model that has one size.

    Raises:
        InputError: One of them is given, and is another.
    """
    for name in ("frames", "height", "width"):
        given, own = getattr(sizes, name), getattr(nominal, name)
        if given is not None and own is not None and given != own:
            raise InputError(
                f"`{name}` of this model is fixed",
                found=given,
                expected=own,
                mend="leave it out: clips of any size are fitted when they are run",
            )


def read_config(
    path: Path,
    kind: type[Config],
    base: msgspec.Struct | None = None,
    *,
    section: str = DDCONFIG,
    training_fields: frozenset[str] = frozenset(),
) -> Config:
    """Reads a family's config from a JSON or YAML file.

    Args:
        path: The file: the reference's section, or a whole configuration with one in it.
        kind: `Family.config`, whose fields are the keys.
        base: Config of the named model, which says what the file doesn't.
        section: `Family.section`.
        training_fields: `Family.training_fields`.

    Raises:
        InputError: The file can't be read, or a key is unknown, mistyped or out of range.
        MissingPackageError: It is YAML, and PyYAML isn't installed.
    """
    fields = kind.__struct_fields__
    try:
        content = _parse(path.read_bytes())
        given = _section(content, section, fields) or content
        if isinstance(given, dict):
            inert = {key for key in _INERT & given.keys() if key not in fields and not given[key]}
            left = training_fields | inert
            given = {key: value for key, value in given.items() if key not in left}
            given = ({} if base is None else msgspec.to_builtins(base)) | given
        return msgspec.convert(given, kind)
    except OSError as error:
        raise InputError(f"can't read config {path}", found=error.strerror) from error
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InputError(
            f"config {path} isn't one of this family",
            found=" ".join(str(error).split()),
            expected=f"JSON or YAML with keys of {', '.join(fields)}",
        ) from error


def _parse(text: bytes) -> object:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        try:
            return msgspec.yaml.decode(text)
        except ImportError as error:
            purpose = "a config in YAML"
            raise MissingPackageError("PyYAML", "export", purpose=purpose) from error


def has_section(path: Path, section: str) -> bool:
    """Whether a configuration that can be read holds a section.

    Raises:
        MissingPackageError: It is YAML, and PyYAML isn't installed.
    """
    try:
        return _section(_parse(path.read_bytes()), section, ()) is not None
    except (OSError, msgspec.MsgspecError, RecursionError):
        return False


def _section(content: object, name: str, fields: Container[str]) -> object:
    """The first section of a name in a configuration, however deep; None where there is none.

    Fields of the family may stand beside it, as IBQ's `n_embed` does. Where the section names a
    class, it is what that class is made with.
    """
    if not isinstance(content, dict):
        return None
    if isinstance(inner := content.get(name), dict):
        arguments = next((inner[key] for key in _ARGUMENTS if key in inner), inner)
        if not isinstance(arguments, dict):
            return arguments
        return {key: value for key, value in content.items() if key in fields} | arguments
    if name in content:
        return content[name]
    values = content.values()
    return next((found for value in values if (found := _section(value, name, fields))), None)


def stored_config(path: Path, stored: Mapping[str, Any], kind: type[Config]) -> Config:
    """A family's config as a bundle's manifest states it.

    Args:
        path: The bundle.
        stored: The config in its manifest.
        kind: `Family.config`.

    Raises:
        BundleError: It isn't a config of this family.
    """
    try:
        return msgspec.convert(stored, kind)
    except msgspec.ValidationError as error:
        raise BundleError(
            f"the config in {path} is none of its model's family",
            found=str(error),
            mend=EXPORT_AGAIN,
        ) from error


def find_family(name: str) -> Family[Any]:
    """An installed family, ours or another package's (entry points `magvit.families`).

    Raises:
        InputError: None of this name is installed, or none at all.
    """
    found = entry_points(group=ENTRY_POINTS)
    for point in found:
        if point.name == name:
            family: Family[Any] = point.load()
            return family
    if not found:
        raise InputError(
            "no family of models is installed",
            mend="pip install this package: a mere copy of its files has no entry points",
        )
    raise InputError(
        f"models of the family {name!r} can't be exported yet",
        expected=", ".join(sorted(point.name for point in found)),
        mend="`magvit models` lists those that can",
    )
