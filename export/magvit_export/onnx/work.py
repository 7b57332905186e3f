"""How much a module computes and moves for one item, counted without computing it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from magvit_runtime.bundle.manifest import GraphWork, TensorSpec


def count_work(
    module: nn.Module, example: Sequence[Tensor], inputs: Sequence[TensorSpec]
) -> GraphWork:
    """The work of one call.

    Args:
        module: The module that becomes the graph, its parameters on the device "meta".
        example: Its inputs, one item.
        inputs: Their names in the graph.
    """
    counter = _Counter(module.to("meta"))  # Tables that are no parameters have memory.
    with torch.no_grad(), counter:
        module(*(tensor.to("meta") for tensor in example))
    return GraphWork(
        shapes={spec.name: tuple(x.shape) for spec, x in zip(inputs, example, strict=True)},
        flop=counter.flop,
        weight_bytes=sum(parameter.nbytes for parameter in module.parameters()),
        map_bytes=counter.map_bytes,
    )


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch types none of it.
    """Sums over all convs, matrix products and residual sums that run while it is active."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flop = 0
        self.map_bytes = 0
        self._weights = {_storage(parameter) for parameter in module.parameters()}
        # Padded tensors, by storage, with the tensor before padding. Holding them keeps the
        # storages' numbers from being reused; on "meta" they take no memory.
        self._padded: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        flop: Callable[..., int] | None = flop_registry.get(func.overloadpacket)
        if flop is not None:
            self.flop += flop(*args, **(kwargs or {}), out_val=out)
            tensors = [x for x in tree_leaves(args) if isinstance(x, Tensor)]
            self.map_bytes += out.nbytes + sum(map(self._read_bytes, tensors))
        elif func is torch.ops.aten.constant_pad_nd.default:
            self._padded[_storage(out)] = (out, args[0])
        elif func is torch.ops.aten.add.Tensor and _is_residual_sum(*args):
            # The other summand is the result of the conv or matrix product before it.
            self.map_bytes += args[0].nbytes
        return out

    def _read_bytes(self, operand: Tensor) -> int:
        storage = _storage(operand)
        if storage in self._weights:
            return 0
        _, unpadded = self._padded.get(storage, (operand, operand))
        return unpadded.nbytes


def _is_residual_sum(left: object, right: object) -> bool:
    return isinstance(left, Tensor) and isinstance(right, Tensor) and left.shape == right.shape


def _storage(tensor: Tensor) -> int:
    """Views of one weight count as that weight."""
    return int(tensor.untyped_storage()._cdata)
