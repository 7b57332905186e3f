"""TensorRT engines: what an engine depends on, and which flavours and GPUs are here."""

from magvit_runtime.engines.records import BatchProfile, EngineKey, EngineRecord
from magvit_runtime.hardware.flavours import Flavour, import_flavour, installed_flavours
from magvit_runtime.hardware.gpus import Gpu, list_gpus

__all__ = [
    "BatchProfile",
    "EngineKey",
    "EngineRecord",
    "Flavour",
    "Gpu",
    "import_flavour",
    "installed_flavours",
    "list_gpus",
]
