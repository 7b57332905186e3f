"""The models this package knows: where their weights are published and what shape they have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points

import msgspec

from magvit_export.families.autoregressive.config import AutoregressiveConfig
from magvit_export.families.clip.config import ClipConfig
from magvit_export.families.ibq.config import IbqConfig
from magvit_export.families.magvit.config import TokenizerConfig
from magvit_export.families.videomae.config import VideoMaeConfig
from magvit_runtime.errors import InputError
from magvit_runtime.sampling import Sampling

# Other packages add models by entry points of this group, each a tuple of `CatalogEntry`.
ENTRY_POINTS = "magvit.models"


@dataclass(frozen=True)
class CatalogEntry:
    """One model.

    Attributes:
        name: What commands call it.
        family: Which architecture.
        summary: Input, output and size, in a few words.
        config: Its architecture, where the family can be exported.
        repo: Repository on the Hugging Face hub; None for presets that have no published weights.
        file: Checkpoint file in that repository; None where the repository is a whole model.
        licence: What the publisher says of the weights.
        published: Figures that the publisher gives for these weights, by name and unit.
        sampling: The settings that its publisher generates with; None for models that don't.
        first_stage: The tokenizer whose ids it generates; None for models that don't.
    """

    name: str
    family: str
    summary: str
    config: msgspec.Struct | None = None
    repo: str | None = None
    file: str | None = None
    licence: str = "none named: do not redistribute weights or engines"
    published: Mapping[str, float] = field(default_factory=dict)
    sampling: Sampling | None = None
    first_stage: str | None = None


IMAGE_16X = (1, 1, 2, 2, 4)
RFID, PSNR, SSIM, LPIPS = "rFID", "PSNR (dB)", "SSIM", "LPIPS"
CODES_USED = "codes used (%)"
# On ImageNet's validation images, by SEED-Voken's docs/Open-MAGVIT2.md and docs/IBQ.md.
IBQ_PUBLISHED = {
    1024: {RFID: 2.24, LPIPS: 0.2580, CODES_USED: 99},
    8192: {RFID: 1.87, LPIPS: 0.2437, CODES_USED: 98},
    16384: {RFID: 1.37, LPIPS: 0.2235, CODES_USED: 96},
    262144: {RFID: 1.00, LPIPS: 0.2030, CODES_USED: 84},
}
IBQ_PRETRAIN_PUBLISHED = {
    16384: {RFID: 2.06, PSNR: 22.01, SSIM: 0.61},
    262144: {RFID: 1.53, PSNR: 22.69, SSIM: 0.64},
}

# Sizes and settings of SEED-Voken's configs and of its scripts for sampling.
AUTOREGRESSIVE = (
    (
        *("B", "343 M"),
        AutoregressiveConfig(),
        Sampling(guidance=(1.9, 2.0)),
    ),
    (
        *("L", "804 M"),
        AutoregressiveConfig(
            spatial_n_layer=36, factorized_n_layer=3, dim=1280, cond_dim=1280, n_head=20
        ),
        Sampling(guidance=(1.9, 1.9), temperature=(1.1, 1.0)),
    ),
    (
        *("XL", "1.49 B"),
        AutoregressiveConfig(
            spatial_n_layer=48, factorized_n_layer=4, dim=1536, cond_dim=1536, n_head=24
        ),
        Sampling(guidance=(1.75, 1.85), temperature=(1.1, 1.0)),
    ),
)

CATALOG: tuple[CatalogEntry, ...] = (
    CatalogEntry(
        "open-magvit2-video-128",
        "magvit",
        "17x128x128 clips, 18 bits, 5x16x16 tokens, 144.9 M encoder",
        TokenizerConfig(),
        "TencentARC/Open-MAGVIT2-Tokenizer-262144-Video",
        "video_128_262144.ckpt",
    ),
    CatalogEntry(
        "trajectory-small",
        "magvit",
        "17x128x128 clips, 18 bits, 5x16x16 tokens; small preset for seeded weights",
        TokenizerConfig(ch=32, num_res_blocks=1),
        licence="seeded weights: nobody's",
    ),
    CatalogEntry(
        "open-magvit2-image-256",
        "magvit",
        "256x256 images, 18 bits, 16x16 tokens, 49.8 M encoder",
        TokenizerConfig(ch_mult=IMAGE_16X, resolution=256, dims=2),
        "TencentARC/Open-MAGVIT2-Tokenizer-256-resolution",
        "imagenet_256_L.ckpt",
        published={RFID: 1.17, PSNR: 21.90, CODES_USED: 100},
    ),
    CatalogEntry(
        "open-magvit2-image-128",
        "magvit",
        "128x128 images, 18 bits, 16x16 tokens, 48.4 M encoder",
        TokenizerConfig(dims=2),
        "TencentARC/Open-MAGVIT2-Tokenizer-128-resolution",
        "imagenet_128_L.ckpt",
        published={RFID: 1.18, PSNR: 25.08, CODES_USED: 100},
    ),
    CatalogEntry(
        "open-magvit2-pretrain-262144",
        "magvit",
        "256x256 images, 18 bits, 16x16 tokens",
        TokenizerConfig(ch_mult=IMAGE_16X, resolution=256, dims=2),
        "TencentARC/Open-MAGVIT2-Tokenizer-262144-Pretrain",
        "pretrain256_262144.ckpt",
        published={RFID: 1.67, PSNR: 22.70, SSIM: 0.64},
    ),
    CatalogEntry(
        "open-magvit2-pretrain-16384",
        "magvit",
        "256x256 images, 14 bits, 16x16 tokens",
        TokenizerConfig(ch_mult=IMAGE_16X, resolution=256, z_channels=14, dims=2),
        "TencentARC/Open-MAGVIT2-Tokenizer-16384-Pretrain",
        "pretrain256_16384.ckpt",
        published={RFID: 2.55, PSNR: 22.21, SSIM: 0.62},
    ),
    *(
        CatalogEntry(
            f"ibq-{size}",
            "ibq",
            f"256x256 images, {size} codes, 16x16 tokens, 46.8 M encoder",
            IbqConfig(n_embed=size),
            f"TencentARC/IBQ-Tokenizer-{size}",
            f"imagenet256_{size}.ckpt",
            published=published,
        )
        for size, published in IBQ_PUBLISHED.items()
    ),
    *(
        CatalogEntry(
            f"ibq-pretrain-{size}",
            "ibq",
            f"256x256 images, {size} codes, 16x16 tokens, 46.8 M encoder",
            IbqConfig(n_embed=size),
            f"TencentARC/IBQ-Tokenizer-{size}-Pretrain",
            f"IBQ_pretrain_{size}.ckpt",
            published=published,
        )
        for size, published in IBQ_PRETRAIN_PUBLISHED.items()
    ),
    *(
        CatalogEntry(
            f"open-magvit2-ar-{size.lower()}",
            "autoregressive",
            f"256x256 images from classes, 256 tokens, {parameters}",
            config,
            f"TencentARC/Open-MAGVIT2-AR-{size}-256-resolution",
            f"AR_256_{size}.ckpt",
            sampling=sampling,
            first_stage="open-magvit2-image-256",
        )
        for size, parameters, config, sampling in AUTOREGRESSIVE
    ),
    CatalogEntry(
        "videomae-base",
        "videomae",
        "16x224x224 clips, 1568x768 features, 86.2 M",
        VideoMaeConfig(),
        repo="MCG-NJU/videomae-base",
        licence="CC-BY-NC-4.0: never ship its weights or engines",
    ),
    CatalogEntry(
        "clip-vit-base-patch32",
        "clip",
        "224x224 images, 512 features, 87.8 M",
        ClipConfig(),
        repo="openai/clip-vit-base-patch32",
        licence="see the repository",
    ),
)


def all_models() -> tuple[CatalogEntry, ...]:
    """The models of this package, then those of others that are installed."""
    found = entry_points(group=ENTRY_POINTS)
    return (*CATALOG, *(entry for point in found for entry in point.load()))


def find_model(name: str) -> CatalogEntry:
    """The catalog's entry of a model.

    Raises:
        InputError: No model has this name.
    """
    models = all_models()
    for entry in models:
        if entry.name == name:
            return entry
    raise InputError(
        f"no model is named {name!r}",
        expected=", ".join(entry.name for entry in models),
        mend="magvit models",
    )
