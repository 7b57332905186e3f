"""Unpickles what torch's restricted unpickler refuses, and runs none of its code.

Training tools pickle more than tensors: callbacks, configurations, paths. Here every class and
function that a pickle names, but for the few that rebuild tensors, is an inert stand-in: nothing is
imported, and calling it makes an empty dict, which keeps the items or attributes that the object
had. So a state dict is found wherever it lies.

Reading is by `pickle`'s own unpickler in Python, with every way to call something replaced.
"""

from __future__ import annotations

import io
import pickle
import types
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import torch

from magvit_export.checkpoints.torch_files import torch_load

_utils: Any = torch._utils  # Without types.

# Nobody's data: a pickle that names these is an attack, and is refused as a whole.
_RUNNING_MODULES = frozenset({"nt", "os", "posix", "pty", "runpy", "socket", "subprocess", "sys"})
_RUNNING_BUILTINS = frozenset({"__import__", "compile", "eval", "exec", "open"})


class RunsCodeError(Exception):
    """A pickle names a function that only an attack would.

    Args:
        name: Its full name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(name)


class StandIn(dict[Any, Any]):
    """In the place of an object of a class that isn't loaded: its items and attributes."""

    # Objects may be keys and members of sets.
    __hash__ = object.__hash__  # type: ignore[assignment]
    __eq__ = object.__eq__

    def append(self, item: object) -> None:
        """Passes over an item of a list."""

    def add(self, item: object) -> None:
        """Passes over a member of a set."""


def load_with_stand_ins(path: Path, *, is_zip: bool) -> tuple[object, frozenset[str]]:
    """Reads a pickle that torch.load(weights_only=True) refused as one with more than tensors.

    That has ruled out what torch.load would read in other ways: TorchScript and tar archives.

    Args:
        path: The file.
        is_zip: Whether it is a zip archive; else it is one of torch's older files or a plain
            pickle, of protocol 0 to 5.

    Returns:
        Its content, and the full names of all that a stand-in stands for.

    Raises:
        RunsCodeError: It would run code.
        Exception: It is damaged, in any way.
    """
    reader = _pickle_module()
    if is_zip or _is_torch_pickle(path):
        # Nothing is imported or called but the functions below.
        content = torch_load(path, is_zip=is_zip, weights_only=False, pickle_module=reader)
    else:
        with path.open("rb") as file:
            content = reader.load(file)
    return content, frozenset(reader.Unpickler.named)


def _is_torch_pickle(path: Path) -> bool:
    """Whether a file begins with the number that torch's older files begin with."""
    with path.open("rb") as file:
        head = file.read(32)
    magic = torch.serialization.MAGIC_NUMBER
    return any(head.startswith(pickle.dumps(magic, protocol)) for protocol in range(6))


def _rebuild_tensor(storage: Any, offset: int, size: Any, stride: Any, *_: object) -> Any:
    return _utils._rebuild_tensor(storage, offset, size, stride)


def _rebuild_tensor_of_type(
    storage: Any,
    offset: int,
    size: Any,
    stride: Any,
    _grad: object,
    _hooks: object,
    dtype: Any,
    *_: object,
) -> Any:
    return _utils._rebuild_tensor_v3(storage, offset, size, stride, False, OrderedDict(), dtype)


def _rebuild_parameter(tensor: Any, *_: object) -> Any:
    return tensor


def _encode(text: str, _encoding: str = "latin1") -> bytes:
    return text.encode("latin1")


def _ordered_dict(*items: Any) -> OrderedDict[Any, Any]:
    return OrderedDict(*items)


# By full name, all that is ever called; each makes data of data.
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v3": _rebuild_tensor_of_type,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
    "torch.Size": torch.Size,
    "collections.OrderedDict": _ordered_dict,
    "_codecs.encode": _encode,
}
_DATA: Mapping[str, Any] = {
    "torch.storage.UntypedStorage": torch.UntypedStorage,
    **{str(kind): kind for kind in vars(torch).values() if isinstance(kind, torch.dtype)},
}


class _Unpickler(pickle._Unpickler):
    """Calls `_FUNCTIONS` alone.

    Attributes:
        named: Full names of all other classes and functions; each load has a class of its own.
    """

    named: ClassVar[set[str]] = set()
    functions: ClassVar[Mapping[str, Callable[..., Any]]] = _FUNCTIONS
    proto: int
    stack: list[Any]
    append: Callable[[Any], None]

    def find_class(self, module: str, name: str) -> Any:
        if self.proto < 3:  # These write names as Python 2 had them.
            module, name = NAME_MAPPING.get((module, name), (module, name))
            module = IMPORT_MAPPING.get(module, module)
        full = f"{module}.{name}"
        if full in self.functions:
            return self.functions[full]
        if full in _DATA:
            return _DATA[full]
        is_builtin = full.removeprefix("builtins.") in _RUNNING_BUILTINS
        if is_builtin or module.split(".")[0] in _RUNNING_MODULES:
            raise RunsCodeError(full)
        self.named.add(full)
        return type(full, (StandIn,), {})

    def made(self, function: Any, arguments: Any) -> Any:
        """What calling something gives: rebuilt data, or a stand-in."""
        if any(function is known for known in self.functions.values()):
            return function(*arguments)
        return (
            function()
            if isinstance(function, type) and issubclass(function, StandIn)
            else StandIn()
        )

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self.made(self.stack[-1], arguments)

    def load_newobj_ex(self) -> None:
        self.stack.pop()
        self.load_reduce()

    def _instantiate(self, kind: Any, arguments: Any) -> None:  # For OBJ and INST.
        self.append(self.made(kind, arguments))

    def load_build(self) -> None:
        state = self.stack.pop()
        attributes = state if isinstance(state, tuple) else (state,)
        if isinstance(self.stack[-1], StandIn):
            for part in attributes:
                self.stack[-1].update(part if isinstance(part, dict) else {})

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **pickle._Unpickler.dispatch,
        pickle.REDUCE[0]: load_reduce,
        pickle.NEWOBJ[0]: load_reduce,
        pickle.NEWOBJ_EX[0]: load_newobj_ex,
        pickle.BUILD[0]: load_build,
    }


def _pickle_module() -> Any:
    """A module as torch.load asks for one, with a class of its own to note names in."""

    def load_storage(content: bytes) -> Any:
        # How plain pickles hold tensors: each storage as a file of torch's older kind.
        if content.startswith(b"PK"):
            raise ValueError("a storage is no zip archive")
        file = io.BytesIO(content)
        return torch.load(file, map_location="cpu", pickle_module=reader, weights_only=False)

    class Unpickler(_Unpickler):
        named: ClassVar[set[str]] = set()
        functions = {**_FUNCTIONS, "torch.storage._load_from_bytes": load_storage}  # noqa: RUF012

    def load(file: BinaryIO, **options: Any) -> object:
        return Unpickler(file, **options).load()

    reader = types.SimpleNamespace(__name__=__name__, Unpickler=Unpickler, load=load)
    return reader
