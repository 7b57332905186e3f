"""Bundles and a checkpoint that many tests read. A test that changes one works on a copy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """References are computed in each run of the tests, and leave nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAGVIT_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two levels, seeded: [N, T, H, W, 3] -> [N, T, H/2, W/2]."""
    from seeded_checkpoints import TINY

    from magvit_export.catalog import find_model
    from magvit_export.exporting import export_model

    path = tmp_path_factory.mktemp("tiny") / "bundle"
    export_model(find_model("trajectory-small"), path, weights="seeded", config=TINY)
    return path


@pytest.fixture(scope="session")
def fixed_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The encoder of `tiny_bundle` for clips of 5 x 16 x 16 pixels alone, so `verify` is quick."""
    from seeded_checkpoints import TINY

    from magvit_export.catalog import find_model
    from magvit_export.exporting import ClipSizes, export_model

    path = tmp_path_factory.mktemp("fixed") / "bundle"
    sizes = ClipSizes(frames=5, height=16, width=16)
    entry = find_model("trajectory-small")
    export_model(entry, path, weights="seeded", roles=["encode"], config=TINY, sizes=sizes)
    return path


@pytest.fixture(scope="session")
def tiny_ibq_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two levels with attention and a codebook, seeded, in both precisions: images to rows."""
    from seeded_checkpoints import TINY_IBQ

    from magvit_export.catalog import find_model
    from magvit_export.exporting import export_model

    path = tmp_path_factory.mktemp("tiny-ibq") / "bundle"
    for precision in ("fp32", "fp16"):
        entry = find_model("ibq-1024")
        export_model(entry, path, weights="seeded", config=TINY_IBQ, precision=precision)
    return path


@pytest.fixture(scope="session")
def ar_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden values' transformer with a tiny first stage, seeded; and with 8-bit weights."""
    from seeded_checkpoints import FIRST_STAGE, SMALL_AR

    from magvit_export.catalog import find_model
    from magvit_export.exporting import export_model

    path = tmp_path_factory.mktemp("ar") / "bundle"
    entry = find_model("open-magvit2-ar-b")
    export_model(
        entry,
        path,
        weights="seeded",
        config=SMALL_AR,
        tokenizer="seeded",
        tokenizer_config=FIRST_STAGE,
    )
    export_model(entry, path, weights="seeded", config=SMALL_AR, precision="int8")
    return path


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The preset `trajectory-small`, seeded with the golden fixtures' raw weights."""
    from magvit_export.catalog import find_model
    from magvit_export.exporting import export_model

    path = tmp_path_factory.mktemp("small") / "bundle"
    export_model(find_model("trajectory-small"), path, weights="seeded")
    return path


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw and EMA weights of `trajectory-small`, in a file as Open-MAGVIT2 publishes its own."""
    from seeded_checkpoints import SMALL, published_tensors, write_checkpoint

    path = tmp_path_factory.mktemp("checkpoint") / "small.ckpt"
    return write_checkpoint(path, published_tensors(SMALL))


@pytest.fixture(scope="session")
def videomae_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny VideoMAE as transformers saves it, its processor's file as the hub has it."""
    from transformers_folders import VIDEOMAE_PROCESSOR, save, videomae

    return save(videomae(), tmp_path_factory.mktemp("videomae"), VIDEOMAE_PROCESSOR)


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny image encoder of CLIP, likewise."""
    from transformers_folders import CLIP_PROCESSOR, clip, save

    return save(clip(), tmp_path_factory.mktemp("clip"), CLIP_PROCESSOR)


@pytest.fixture(scope="session")
def videomae_bundle(videomae_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """[N, 4, 32, 32, 3] -> [N, 8, 48], in both precisions."""
    return _exported("videomae-base", videomae_folder, tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="session")
def clip_bundle(clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """[N, 32, 32, 3] -> [N, 24], in both precisions."""
    return _exported("clip-vit-base-patch32", clip_folder, tmp_path_factory.mktemp("bundle"))


def _exported(model: str, weights: Path, folder: Path) -> Path:
    from magvit_export.catalog import find_model
    from magvit_export.exporting import export_model

    for precision in ("fp32", "fp16"):
        export_model(find_model(model), folder, weights=str(weights), precision=precision)
    return folder
