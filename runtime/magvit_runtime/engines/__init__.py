"""TensorRT engines: which flavours and GPUs are here, and what an engine depends on."""

from magvit_runtime.engines.flavours import Flavour, import_flavour, installed_flavours
from magvit_runtime.engines.gpus import Gpu, list_gpus
from magvit_runtime.engines.records import BatchProfile, EngineKey, EngineRecord

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
