"""A classifier whose encoder is trained too, on each training part anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors.torch import save_file

from magvit_export.catalog import find_model
from magvit_export.evaluation.clip_outputs import clip_tokens
from magvit_export.evaluation.labelled import Labelled, Split
from magvit_export.evaluation.methods import Probabilities, classifier_of
from magvit_export.evaluation.model_choice import ModelChoice
from magvit_export.exporting import export_model
from magvit_export.families.magvit.tokenizer import MagvitTokenizer
from magvit_export.training.fine_tuning import FineTuneOptions, fine_tune
from magvit_export.training.options import FitOptions
from magvit_export.verification.pytorch_reference import component_model
from magvit_runtime.errors import InputError


def fine_tuned(
    model: ModelChoice, data: Labelled, head: FitOptions, epochs: int, copies: int
) -> Callable[[Split], Probabilities]:
    """Trains encoder and head on what a split trains on, and predicts the rest.

    Args:
        model: A tokenizer of signs, and the source of its weights.
        data: The trajectories.
        head: How the head is trained.
        epochs: Passes of the encoder over the training trajectories.
        copies: Varied copies of each, for the head; with any, the encoder sees varied ones too.

    Raises:
        InputError: The model isn't of signs; or it is a bundle of a checkpoint, which has to be
            given as NAME=CHECKPOINT.
    """

    def predict(split: Split) -> Probabilities:
        loaded = component_model(model.bundle, ["encode"], model.source)
        if not isinstance(loaded.module, MagvitTokenizer):
            raise InputError(f"{model.name} can't be fine-tuned", expected="a model of sign tokens")
        fine_tune(
            loaded.module.encoder,
            [data.trajectories[i] for i in split.train],
            data.groups[split.train].tolist(),
            data.style,
            data.cameras,
            head,
            FineTuneOptions(True, epochs),
            bits=loaded.module.config.z_channels,
            vary=copies > 0,
        )
        state = loaded.module.state_dict()
        tensors = {key: value for key, value in state.items() if key.startswith("encoder.")}
        with TemporaryDirectory() as temporary:
            weights = Path(temporary, "tuned.safetensors")
            save_file(tensors, weights)
            entry = find_model(model.bundle.manifest.model)
            bundle = export_model(
                entry,
                Path(temporary, "bundle"),
                weights=str(weights),
                roles=["encode"],
                config=loaded.config,
            )
            tokens = clip_tokens(bundle.path, data, copies, head.seed)
        return classifier_of(tokens, data, head, copies)(split)

    return predict
