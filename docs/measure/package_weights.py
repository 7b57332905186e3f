"""Splits a trained tokenizer's weights as they ship in export/magvit_export/data.

python docs/measure/package_weights.py RUN export/magvit_export/data/trajectory-small

RUN is a folder of `magvit train tokenizer`. Encoder and decoder become a shard each, beside an
index that `--weights` reads, and the run's MODEL_CARD.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

INDEX = "model.safetensors.index.json"


def package(run: Path, folder: Path) -> dict[str, int]:
    """Writes the shards, index and card; returns the size of each shard in bytes."""
    tensors = load_file(run / "weights.safetensors")
    folder.mkdir(parents=True, exist_ok=True)
    places, sizes = {}, {}
    for part in ("encoder", "decoder"):
        name = f"{part}.safetensors"
        mine = {key: value for key, value in tensors.items() if part in key}
        save_file(mine, folder / name, {"origin": f"{run.name}, docs/tokenizer.md"})
        places |= dict.fromkeys(sorted(mine), name)
        sizes[part] = (folder / name).stat().st_size
    assert places.keys() == tensors.keys(), "a tensor is of neither part, or of both"
    total = sum(value.numel() * value.element_size() for value in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    shutil.copyfile(run / "MODEL_CARD.md", folder / "MODEL_CARD.md")
    return sizes


def smoke() -> None:
    """Packages two small tensors, and reads them back."""
    with tempfile.TemporaryDirectory() as made:
        run, folder = Path(made) / "run", Path(made) / "packaged"
        run.mkdir()
        tensors = {"encoder.a": torch.ones(2), "decoder.a": torch.zeros(3)}
        save_file(tensors, run / "weights.safetensors")
        (run / "MODEL_CARD.md").write_text("# A card\n", encoding="utf-8")
        print(package(run, folder))
        found = load_file(folder / "encoder.safetensors") | load_file(
            folder / "decoder.safetensors"
        )
        assert all(torch.equal(found[key], value) for key, value in tensors.items())


def main() -> None:
    """Packages a run's weights."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--smoke", action="store_true", help="packages two small tensors")
    options = parser.parse_args()
    if options.smoke:
        smoke()
    else:
        print(package(options.run, options.folder))


if __name__ == "__main__":
    main()
