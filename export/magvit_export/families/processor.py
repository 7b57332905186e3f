"""What transformers' image processors do to pixels: read from their files, and as our records."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import msgspec

from magvit_export.families.transformers_files import import_transformers, read_json
from magvit_runtime.bundle.manifest import Preprocessing
from magvit_runtime.bundle.pixel_rules import ResizeFilter, Resizing
from magvit_runtime.errors import InputError

Positive = Annotated[int, msgspec.Meta(ge=1)]
Three = tuple[float, float, float]

# Where the rules may lie, transformers' own order: the file, and the entry of it.
_PLACES = (
    ("processor_config.json", "image_processor"),
    ("preprocessor_config.json", None),
    ("processor_config.json", "video_processor"),
    ("video_preprocessor_config.json", None),
)
# By Pillow's numbers.
_FILTERS: tuple[ResizeFilter, ...] = (
    "nearest",
    "lanczos",
    "bilinear",
    "bicubic",
    "box",
    "hamming",
)


class Processor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is done to frames: resized, cropped, then (byte · scale − mean) / std.

    Attributes:
        resizing: How frames are resized; None where they aren't.
        crop: Height and width of what is cut from the middle; None where nothing is cut.
        scale: What bytes are multiplied by.
        mean, std: Of red, green and blue, after that.
        source: Where this was read.
    """

    resizing: Resizing | None
    crop: tuple[Positive, Positive] | None
    scale: float
    mean: Three
    std: Three
    source: str

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.scale, *self.mean, *self.std))) or 0 in self.std:
            raise ValueError("pixels can't be normalised by these numbers")

    def rules(self, frames: int | None = None) -> Preprocessing:
        """As a bundle records it.

        Args:
            frames: Frames that a model of clips takes; None for one of images.
        """
        numbers = (
            ", ".join(f"{value:.9g}" for value in values) for values in (self.mean, self.std)
        )
        mean, std = numbers
        return Preprocessing(
            layout="NHWC" if frames is None else "NTHWC",
            color="RGB",
            formula=f"(x * {self.scale:.9g} - [{mean}]) / [{std}]",
            frames=frames,
            resizing=self.resizing,
            crop=self.crop,
            source=self.source,
        )

    def check_size(self, sizes: tuple[int, int]) -> None:
        """Refuses rules that never lead to a model's height and width.

        Raises:
            InputError: They lead to another size.
        """
        made = self.crop or (None if self.resizing is None else self.resizing.sizes)
        if made is not None and made != sizes:
            raise InputError(
                f"what {self.source} does to pixels doesn't fit the model",
                found=f"frames of {made[0]}x{made[1]}",
                expected=f"{sizes[0]}x{sizes[1]}, as config.json says",
                mend="put the model's own preprocessor_config.json beside its config.json",
            )


def read_processor(folder: Path, kind: str, sizes: tuple[int, int]) -> Processor:
    """The rules of a folder; where no file says any, a class's defaults, at the model's size.

    Args:
        folder: Of config.json and the weights.
        kind: The class's name.
        sizes: Height and width that the model takes.

    Raises:
        InputError: The file can't be read, asks for what isn't done here, or leads to other sizes.
        MissingPackageError: transformers or Pillow isn't installed.
    """
    for name, entry in _PLACES:
        content = read_json(folder / name) if (folder / name).is_file() else None
        if content is not None and entry is not None:
            content = content.get(entry)
        if isinstance(content, dict):
            found = processor_of(kind, content, name)
            found.check_size(sizes)
            return found
    height, width = sizes
    size = {"shortest_edge": height} if height == width else {"height": height, "width": width}
    content = {"size": size, "crop_size": {"height": height, "width": width}}
    return processor_of(kind, content, f"defaults of transformers' {kind}")


def processor_of(kind: str, content: dict[str, Any], source: str) -> Processor:
    """The rules that a class of transformers makes of a file's content, of whatever generation.

    Args:
        kind: The class's name.
        content: The file's content; what it doesn't say is the class's default.
        source: Where it is from, for the record.

    Raises:
        InputError: It asks for what isn't done here.
        MissingPackageError: transformers or Pillow isn't installed.
    """
    found = getattr(import_transformers(), kind)
    try:
        made = found.from_dict(content)
        crop = made.crop_size if made.do_center_crop else None
        if getattr(made, "do_pad", False):
            raise ValueError("do_pad")
        return Processor(
            resizing=_resizing(made.size, _filter(made.resample)) if made.do_resize else None,
            crop=None if crop is None else _height_and_width(crop),
            scale=float(made.rescale_factor) if made.do_rescale else 1.0,
            mean=_three(made.image_mean) if made.do_normalize else (0.0, 0.0, 0.0),
            std=_three(made.image_std) if made.do_normalize else (1.0, 1.0, 1.0),
            source=source,
        )
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"{source} asks for what isn't done to pixels here",
            found=" ".join(str(error).split()),
            expected="resizing by the shorter edge or to height and width, a crop of the middle, "
            "rescaling and normalisation",
        ) from error


def _resizing(size: Any, kind: ResizeFilter) -> Resizing:
    # Another limit, such as of the longer edge, would change what the shorter edge says.
    others = {name for name, value in dict(size).items() if value is not None}
    if others == {"shortest_edge"}:
        return Resizing(kind, shorter_edge=int(size.shortest_edge))
    return Resizing(kind, sizes=_height_and_width(size))


def _height_and_width(size: Any) -> tuple[int, int]:
    given = {name: value for name, value in dict(size).items() if value is not None}
    if given.keys() != {"height", "width"}:
        raise ValueError(f"a size of {given}")
    return int(given["height"]), int(given["width"])


def _filter(resample: Any) -> ResizeFilter:
    if isinstance(resample, str):
        name: ResizeFilter = msgspec.convert(resample.lower(), ResizeFilter)
        return name
    return _FILTERS[int(resample)]


def _three(values: Any) -> Three:
    red, green, blue = (values,) * 3 if isinstance(values, int | float) else values
    return float(red), float(green), float(blue)
