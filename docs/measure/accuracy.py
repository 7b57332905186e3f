"""Measures docs/accuracy.md: what tokens are worth, beside features and coordinates.

    python docs/measure/accuracy.py --trained WEIGHTS.safetensors -o build/accuracy
    python docs/measure/accuracy.py --features …     # VideoMAE and CLIP too: longer, once
    python docs/measure/accuracy.py --smoke

Writes libras and generated as .json, .md and .html into a folder, and prints the Markdown tables.
Without --trained, the weights that ship with the package are the trained ones, if there are any.
Of Libras it also prints accuracies on the movements that `magvit train tokenizer` holds out, which
such a tokenizer has never seen. Tokens and features are kept in MAGVIT_CACHE_DIR, so that another
run with other weights makes only those tokens anew.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from magvit_export.cli.evaluate_classes import classes
from magvit_export.evaluation.class_options import (
    DEFAULT_GENERATED,
    GeneratedOptions,
    MethodOptions,
)
from magvit_export.evaluation.model_choice import default_tokenizers
from magvit_export.training.tokenizer.clips import libras_split
from magvit_runtime.clips.trajectories import StyleOptions
from magvit_runtime.evaluation.class_tables import estimate_text
from magvit_runtime.evaluation.estimates import share_estimate

SEEDED_FEATURES = ["videomae-base=seeded", "clip-vit-base-patch32=seeded"]


def unseen(comparison: dict[str, Any]) -> str:
    """Accuracies on the movements that no tokenizer of `magvit train tokenizer` was trained on."""
    kept = {item.id for item in libras_split().held_out}
    places = [i for i, name in enumerate(comparison["tested"]) if name in kept]
    lines = [f"accuracy, %, on the {len(places)} movements that the tokenizer never saw\n"]
    lines += ["| method | never seen | seen, without labels |", "|---|---|---|"]
    for method in comparison["methods"]:
        right = np.array(method["right"])
        parts = (right[places], np.delete(right, places))
        texts = [estimate_text(share_estimate(x, np.ones(len(x))), 1, 100) for x in parts]
        lines.append(f"| {method['name']} | {' | '.join(texts)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trained", help="weights of trajectory-small, or a bundle")
    parser.add_argument("--features", action="store_true")
    parser.add_argument("--epochs", type=int, help="of conv, on Libras")
    parser.add_argument("--members", type=int, default=1, help="convs whose mean is taken")
    parser.add_argument("--augment", type=int, default=12, help="varied copies, on Libras")
    parser.add_argument("--variations", type=int, default=12, help="of tested ones, on Libras")
    parser.add_argument("--fine-tune", type=int, default=0, help="epochs, on Libras: hours")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--smoke", action="store_true", help="few steps on tiny clips")
    given = parser.parse_args()
    sys.argv = ["magvit", "evaluate classes, by", "docs/measure/accuracy.py", *sys.argv[1:]]
    with TemporaryDirectory() as temporary:
        folder = given.output or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        tokenizers = default_tokenizers()
        if given.trained is not None:
            tokenizers = [tokenizers[0], f"trained={given.trained}"]
        style, methods = (
            StyleOptions(),
            MethodOptions(
                epochs=given.epochs,
                members=given.members,
                augment=given.augment,
                variations=given.variations,
                fine_tune=given.fine_tune,
            ),
        )
        kinds = GeneratedOptions()
        steps = methods.net_steps
        if given.smoke:
            style, steps = StyleOptions(height=32, width=32, frames=3), 2
            methods = MethodOptions(epochs=1, net_steps=steps)
            kinds = GeneratedOptions("2,4", "0.05", 3, 1)
        for data, options in (
            ("libras", methods),
            ("generated", MethodOptions(heads="linear", net_steps=steps)),
        ):
            outcome = classes(
                data,
                tokenizer=tokenizers,
                features=SEEDED_FEATURES if given.features and data == "libras" else None,
                methods=options,
                generated=kinds if data == "generated" else DEFAULT_GENERATED,
                style=style,
                output=folder / f"{data}.json",
                markdown=folder / f"{data}.md",
                report=folder / f"{data}.html",
            )
            print((folder / f"{data}.md").read_text())
            print(f"{data}: {outcome.facts['seconds']:.0f} s, {outcome.facts['date']}\n")
            if data == "libras":
                print(unseen(outcome.facts["comparisons"][0]) + "\n", flush=True)
        machine = outcome.facts["machine"]
        versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
        print(f"{machine['cpu']}, {machine['cpus']} CPUs; {versions}")


if __name__ == "__main__":
    main()
