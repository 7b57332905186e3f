"""A conv as cuDNN's own graph, through NVIDIA's `nvidia-cudnn-frontend` (Python module `cudnn`).

Written against version 1.32 of it, without torch.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from magvit_runtime.backends.native.cuda.conv_plans import ConvGeometry, ConvPlan, Padding
from magvit_runtime.errors import BackendError
from magvit_runtime.hardware.packages import missing_package

_INSTALL = "pip install 'magvit-runtime[native-cuda]'"
# Versions before 9.15 are wrong (https://github.com/pytorch/pytorch/issues/163539) or several times
# slower (https://github.com/pytorch/pytorch/issues/166122) in 3-D convs of 16 bits.
_OLDEST_CUDNN = 91500

Role = Literal["image", "weight", "output"]


@dataclass(frozen=True)
class Candidate:
    """A plan that cuDNN lists for a conv.

    Attributes:
        graph: The `cudnn.pygraph`.
        index: Index of the plan in the graph.
        tensors: Its tensors by role.
    """

    graph: Any
    index: int
    tensors: dict[Role, Any]

    @property
    def engine(self) -> int:
        """The number that cuDNN has for the engine."""
        return int(self.graph.get_engine_and_knobs_at_index(self.index)[0])

    @property
    def knobs(self) -> dict[str, int]:
        """Its settings by cuDNN's names."""
        knobs = self.graph.get_engine_and_knobs_at_index(self.index)[1]
        return {knob.name: int(value) for knob, value in knobs.items()}

    def build(self) -> BuiltConv:
        """Makes it ready to run.

        Raises:
            Exception: What `rejections` lists: it can't be built.
        """
        self.graph.build_plan_at_index(self.index)
        size = int(self.graph.get_workspace_size_plan_at_index(self.index))
        return BuiltConv(self.graph, self.index, self.tensors, size)


@dataclass(frozen=True)
class BuiltConv:
    """A plan that is ready to run.

    Attributes:
        graph: The `cudnn.pygraph`.
        index: Index of the plan in the graph.
        tensors: Its tensors by role.
        workspace: Bytes of extra memory that it needs.
    """

    graph: Any
    index: int
    tensors: dict[Role, Any]
    workspace: int

    def execute(self, queue: Any, addresses: dict[Role, int], workspace: int) -> None:
        """Starts the conv on a queue; addresses are on the GPU."""
        pack = {tensor: addresses[role] for role, tensor in self.tensors.items()}
        self.graph.execute_plan_at_index(pack, workspace, self.index, queue)


def conv_graph(
    cudnn: Any,
    geometry: ConvGeometry,
    padding: Padding,
    *,
    handle: Any = None,
    device_property: Any = None,
) -> tuple[Any, dict[Role, Any]]:
    """A conv as a graph of cuDNN, and its tensors.

    Some plans are left out: those that sum in half precision, that round float32 operands to half,
    or whose results differ from run to run. In fp32, plans on tensor cores (TF32) are left out too.

    Args:
        cudnn: The module `cudnn`.
        geometry: The conv.
        padding: Whether the input has its zeros in memory.
        handle: A handle of cuDNN, on the GPU to plan for.
        device_property: Properties of a GPU that isn't here (`create_device_properties`).
    """
    types, notes = cudnn.data_type, cudnn.numerical_note
    is_half = geometry.precision == "fp16"
    graph = cudnn.pygraph(
        io_data_type=types.HALF if is_half else types.FLOAT,
        intermediate_data_type=types.FLOAT,
        compute_data_type=types.FLOAT,
        handle=handle,
        device_property=device_property,
    )
    # Images run as 2-D convs, for which cuDNN has more kernels.
    first = 1 if (geometry.padded_sizes[0], geometry.kernel[0]) == (1, 1) else 0
    has_border = padding == "border"
    sizes = geometry.padded_sizes if has_border else geometry.sizes
    no_pads = (0, 0, 0)
    shapes: dict[Role, list[int]] = {
        "image": [geometry.batch, geometry.in_channels, *sizes[first:]],
        "weight": [geometry.out_channels, geometry.in_channels, *geometry.kernel[first:]],
    }
    tensors: dict[Role, Any] = {
        role: graph.tensor(name=role, dim=dims, stride=_channels_last(dims))
        for role, dims in shapes.items()
    }
    output = graph.conv_fprop(
        image=tensors["image"],
        weight=tensors["weight"],
        pre_padding=list((no_pads if has_border else geometry.pads_before)[first:]),
        post_padding=list((no_pads if has_border else geometry.pads_after)[first:]),
        stride=list(geometry.stride[first:]),
        dilation=[1, 1, 1][first:],
    )
    dims = [geometry.batch, geometry.out_channels, *geometry.output_sizes[first:]]
    output.set_output(True).set_dim(dims).set_stride(_channels_last(dims))
    output.set_data_type(types.HALF if is_half else types.FLOAT)
    tensors["output"] = output
    refused = [notes.REDUCED_PRECISION_REDUCTION, notes.DOWN_CONVERT_INPUTS, notes.NONDETERMINISTIC]
    if geometry.precision == "fp32":
        refused.append(notes.TENSOR_CORE)
    graph.deselect_numeric_notes(refused)
    return graph, tensors


def plan_candidates(
    cudnn: Any,
    geometry: ConvGeometry,
    padding: Padding,
    *,
    handle: Any = None,
    device_property: Any = None,
) -> list[Candidate]:
    """The plans that cuDNN has for a conv, its own favourite first; none of them is built.

    Args:
        cudnn: The module `cudnn`.
        geometry: The conv.
        padding: Whether the input has its zeros in memory.
        handle: A handle of cuDNN, on the GPU to plan for.
        device_property: Properties of a GPU that isn't here (`create_device_properties`).

    Raises:
        Exception: What `rejections` lists: cuDNN has none.
    """
    graph, tensors = conv_graph(
        cudnn, geometry, padding, handle=handle, device_property=device_property
    )
    modes = cudnn.heur_mode
    graph.create_execution_plans([modes.A, modes.B, modes.FALLBACK])
    return [Candidate(graph, i, tensors) for i in range(graph.get_execution_plan_count())]


def restore(
    cudnn: Any,
    geometry: ConvGeometry,
    plan: ConvPlan,
    *,
    handle: Any = None,
    device_property: Any = None,
) -> BuiltConv:
    """Builds only one plan, which was found before; arguments as `plan_candidates`.

    The plan is looked up among those that cuDNN lists. Asking for it by its engine and knobs fails
    if an engine has a knob that the frontend has no name for ("NOT_SET").

    Raises:
        LookupError: cuDNN doesn't list it.
        Exception: What `rejections` lists: it can't be built.
    """
    for candidate in plan_candidates(
        cudnn, geometry, plan.padding, handle=handle, device_property=device_property
    ):
        if (candidate.engine, candidate.knobs) == (plan.engine, plan.knobs):
            return candidate.build()
    raise LookupError(f"cuDNN lists no plan of engine {plan.engine} with {plan.knobs}")


def rejections(cudnn: Any) -> tuple[type[Exception], ...]:
    """The exceptions that mean "cuDNN rejects this plan or engine", which is an expected answer."""
    return (cudnn.cudnnGraphNotSupportedError, NotImplementedError, RuntimeError, ValueError)


def import_cudnn() -> Any:
    """The module `cudnn`, with cuDNN itself loaded.

    Raises:
        BackendError: One of the two isn't installed, can't be loaded, or is too old.
    """
    try:
        cudnn = import_module("cudnn")
        found = int(cudnn.backend_version())
    except ModuleNotFoundError as error:
        raise missing_package("cudnn", "the native backend on a GPU") from error
    except (ImportError, RuntimeError) as error:
        raise BackendError(
            "the native backend needs cuDNN 9 and nvidia-cudnn-frontend on a GPU",
            found=str(error),
            mend=_INSTALL,
        ) from error
    if found < _OLDEST_CUDNN:
        raise BackendError(
            "this cuDNN is wrong or slow in 3-D convs of 16 bits",
            found=version_text(found),
            expected=f"{version_text(_OLDEST_CUDNN)} or newer",
            mend=f"{_INSTALL} --upgrade",
        )
    return cudnn


def version_text(number: int) -> str:
    """A version as people write it: 91501 is "9.15.1"."""
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def _channels_last(dims: Sequence[int]) -> list[int]:
    """Strides of a tensor [N, C, ...] that lies in memory as [N, ..., C]."""
    _, channels, *extents = dims
    steps = list(itertools.accumulate([channels, *reversed(extents)], operator.mul))
    return [steps[-1], 1, *reversed(steps[:-1])]
