"""The bundle of a soak: a tiny model with a classifier. A process of its own, for its torch.

python docs/measure/soak_bundle.py FOLDER
"""

import sys
from pathlib import Path

import numpy as np
from smoke import tiny_bundle

from magvit_export.training.classifier_training import train_classifier
from magvit_export.training.options import TrainingOptions
from magvit_runtime import open_bundle
from magvit_runtime.results.token_files import TokenTable, token_file_info

if __name__ == "__main__":
    bundle = tiny_bundle(Path(sys.argv[1]))
    tokens = np.random.default_rng(0).integers(2**18, size=(12, 3, 4, 4), dtype=np.int32)
    info = token_file_info(open_bundle(bundle), tokens.shape[1:])
    table = TokenTable(info, tuple(map(str, range(12))), ("circle", "line") * 6, tokens)
    train_classifier(bundle, table, TrainingOptions(holdout=0, epochs=1))
