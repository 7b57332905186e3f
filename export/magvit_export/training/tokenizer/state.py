"""The state of a run, all that its next step depends on, in one file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from magvit_export.checkpoints.keys import ema_name
from magvit_export.families.magvit.config import TokenizerConfig
from magvit_export.families.magvit.tokenizer import MagvitTokenizer
from magvit_export.training.tokenizer.options import TokenizerOptions
from magvit_runtime.errors import InputError
from magvit_runtime.files.atomic_write import atomic_path

_MOMENTS = ("exp_avg", "exp_avg_sq")
# As the reference's moving average begins (LitEma).
_EARLY = 10


@dataclass
class TrainingState:
    """A run after some steps. No random numbers are kept: those of a step come from its number.

    Attributes:
        model: The tokenizer in training.
        average: Moving average of its weights, by key.
        optimizer: AdamW, and its moments.
        step: Steps done.
    """

    model: MagvitTokenizer
    average: dict[str, Tensor]
    optimizer: torch.optim.AdamW
    step: int

    @torch.no_grad()
    def update_average(self, decay: float) -> None:
        """Takes the model's weights into the average, after a step."""
        decay = min(decay, (1 + self.step) / (_EARLY + self.step))
        for key, value in self.model.state_dict().items():
            self.average[key].lerp_(value, 1 - decay)

    def averaged(self) -> MagvitTokenizer:
        """A tokenizer of the averaged weights, rounded to float16 as they are written."""
        model = MagvitTokenizer(self.model.config).to(next(self.model.parameters()).device)
        model.load_state_dict({key: value.half().float() for key, value in self.average.items()})
        return model.eval().requires_grad_(False)


def start(
    config: TokenizerConfig, weights: dict[str, Tensor], options: TokenizerOptions
) -> TrainingState:
    """The state before the first step."""
    model = MagvitTokenizer(config)
    model.load_state_dict(weights)
    model.to(options.device)
    if options.compile:
        model.encoder.compile(dynamic=False)
        model.decoder.compile(dynamic=False)
    average = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW(
        model.parameters(),
        options.learning_rate,
        betas=(0.9, 0.99),
        weight_decay=options.weight_decay,
    )
    return TrainingState(model, average, optimizer, 0)


def save_state(path: Path, state: TrainingState) -> None:
    """Writes a state; the file is whole or the old one."""
    tensors = {f"model.{key}": value for key, value in state.model.state_dict().items()}
    tensors |= {f"average.{key}": value for key, value in state.average.items()}
    for key, parameter in state.model.named_parameters():
        moments = state.optimizer.state[parameter]
        tensors |= {f"{moment}.{key}": moments[moment] for moment in _MOMENTS}
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with atomic_path(path) as partial:
        partial.write_bytes(save(tensors, {"step": str(state.step)}))


def load_state(path: Path, state: TrainingState) -> None:
    """Reads a state into one of the same architecture.

    Raises:
        InputError: The file is damaged, or of another architecture.
    """
    try:
        with safe_open(path, "pt", device="cpu") as file:
            state.step = int(file.metadata()["step"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        state.model.load_state_dict(_named(tensors, "model"))
        for key, value in _named(tensors, "average").items():
            state.average[key].copy_(value)
        moments = {moment: _named(tensors, moment) for moment in _MOMENTS}
        for key, parameter in state.model.named_parameters():
            state.optimizer.state[parameter] = {
                "step": torch.tensor(float(state.step)),
                **{name: moments[name][key].to(parameter.device) for name in _MOMENTS},
            }
    except (SafetensorError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is no state of this run",
            found=str(error).splitlines()[0],
            mend="take it from a copy, or train anew in another folder",
        ) from error


def write_weights(path: Path, state: TrainingState, origin: str) -> None:
    """Writes the averaged weights as float16, named as the reference names its moving average.

    `magvit export … --weights` reads this.

    Args:
        path: The file.
        state: Whose average.
        origin: What the file says of where it came from.
    """
    tensors = {ema_name(key): value.half().cpu() for key, value in state.average.items()}
    with atomic_path(path) as partial:
        # One entry: safetensors writes several in any order, and the file would differ each time.
        partial.write_bytes(save(tensors, {"origin": origin}))


def _named(tensors: dict[str, Tensor], group: str) -> dict[str, Tensor]:
    start = f"{group}."
    return {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}
