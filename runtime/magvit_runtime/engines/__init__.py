"""TensorRT engines: what an engine depends on, and which flavours and GPUs are here."""

from magvit_runtime.engines.records import EngineKey, EngineRecord, Profile, ShapeRange
from magvit_runtime.hardware.flavours import Flavour, import_flavour, installed_flavours
from magvit_runtime.hardware.gpus import Gpu, list_gpus

__all__ = [
    "EngineKey",
    "EngineRecord",
    "Flavour",
    "Gpu",
    "Profile",
    "ShapeRange",
    "import_flavour",
    "installed_flavours",
    "list_gpus",
]
