"""`magvit export all`: a bundle a model, whatever becomes of the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from runtime.magvit_process import failed
from seeded_checkpoints import SMALL_AR, TINY, TINY_IBQ

from magvit_export import catalog
from magvit_export.catalog import CatalogEntry
from magvit_export.cli.export import export
from magvit_runtime import open_bundle
from magvit_runtime.sampling import Sampling

SMALL_CATALOG = (
    CatalogEntry("video", "magvit", "tiny", TINY, repo="someone/video", file="video.ckpt"),
    CatalogEntry("image", "ibq", "tiny", TINY_IBQ),
    CatalogEntry("later", "videomae", "can't be exported yet"),
    CatalogEntry("ar", "autoregressive", "generates", SMALL_AR, sampling=Sampling()),
)


@pytest.fixture(autouse=True)
def small_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    """All models, but of a size that takes seconds."""
    monkeypatch.setattr(catalog, "CATALOG", SMALL_CATALOG)
    monkeypatch.setattr(catalog, "ENTRY_POINTS", "magvit.no-models")


@pytest.mark.slow
def test_every_model_that_can_be_exported_has_a_bundle(tmp_path: Path) -> None:
    outcome = export("all", weights="seeded", output=tmp_path, roles="encode", precision="fp16")
    assert outcome.passed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image", "video"]
    for name in ("image", "video"):
        manifest = open_bundle(tmp_path / name).manifest
        assert manifest.model == name
        assert {role: list(graphs) for role, graphs in manifest.graphs.items()} == {
            "encode": ["fp16"]
        }
        facts = outcome.facts["models"][name]
        assert facts["seconds"] > facts["roles"]["encode"]["seconds"] > 0
        assert facts["files"] == {file: record.size for file, record in manifest.files.items()}
    assert outcome.text.splitlines()[-1].startswith(f"2 of 2 models -> {tmp_path} (")


@pytest.mark.slow
def test_one_that_fails_stops_no_other(tmp_path: Path) -> None:
    (tmp_path / "video").write_text("in the way")
    outcome = export("all", weights="seeded", output=tmp_path, roles="encode")
    assert not outcome.passed
    assert str(tmp_path / "video") in outcome.facts["models"]["video"]["error"]
    assert open_bundle(tmp_path / "image").manifest.model == "image"
    first, *_, last = outcome.text.splitlines()
    assert first == f"video: FAILED: {outcome.facts['models']['video']['error']}"
    assert last.startswith("1 of 2 models -> ")


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--weights", "some.ckpt"], "--weights some.ckpt"),
        (["--weights", "hubble"], "--weights hubble"),
        (["--weights", "seeded", "--config", "my.yaml"], "--config my.yaml"),
    ],
)
def test_what_is_one_models_alone_is_refused(
    options: list[str], found: str, tmp_path: Path
) -> None:
    message = failed(2, "export", "all", *options, "-o", tmp_path / "models")
    assert message == (
        "`magvit export all` takes every model as it was published: "
        f"found {found}, expected --weights seeded, seeded:N or hub, and no --config"
    )
    assert not list(tmp_path.iterdir())
