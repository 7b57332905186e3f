"""config.pbtxt as Triton itself reads it: by Protocol Buffers, which refuse unknown fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def parsed(text: str) -> Any:
    """A text as a ModelConfig message."""
    model_config = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="tritonclient")
    from google.protobuf import text_format

    return text_format.Parse(text, model_config.ModelConfig())


def config(repository: Path, model: str) -> Any:
    """The configuration of a model of a repository."""
    return parsed((repository / model / "config.pbtxt").read_text(encoding="utf-8"))
