"""Encoders of the family, as small ONNX graphs: made by hand, or drawn by Hypothesis."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from magvit_export.onnx.functions import FUNCTIONS, OPSET

FRAMES = "frames"


class Encoder:
    """A graph that grows node by node; weights come from one generator.

    Args:
        is_video: Frames are [N, T, H, W, 3], else [N, H, W, 3].
        random: Draws weights.
    """

    def __init__(self, is_video: bool, random: np.random.Generator) -> None:
        self.is_video = is_video
        self.random = random
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self.channels: dict[str, int] = {}

    def __repr__(self) -> str:
        return "\n".join(helper.printable_node(node) for node in self.nodes)

    @property
    def dims(self) -> int:
        return 3 if self.is_video else 2

    def pixels(self) -> str:
        """Bytes to channels first, -1 to 1."""
        axes = self.dims + 2
        self.tensor("divisor", np.float32(127.5))
        self.tensor("one", np.float32(1))
        self.add("Cast", [FRAMES], "float", to=TensorProto.FLOAT)
        self.add("Div", ["float", "divisor"], "scaled")
        self.add("Sub", ["scaled", "one"], "centred")
        self.add("Transpose", ["centred"], "pixels", perm=[0, axes - 1, *range(1, axes - 1)])
        self.channels["pixels"] = 3
        return "pixels"

    def conv(
        self,
        source: str,
        channels: int,
        kernel: tuple[int, ...],
        *,
        stride: tuple[int, ...] | None = None,
        pads: tuple[int, ...] | None = None,
        has_bias: bool = True,
        **attributes: object,
    ) -> str:
        name = f"conv{len(self.nodes)}"
        taps = self.channels[source] * int(np.prod(kernel))
        shape = (channels, self.channels[source], *kernel)
        inputs = [source, f"{name}.weight"]
        self.tensor(inputs[1], self.random.standard_normal(shape) / np.sqrt(taps))
        if has_bias:
            inputs.append(f"{name}.bias")
            self.tensor(inputs[2], self.random.standard_normal(channels) / 4)
        self.channels[name] = channels
        return self.add(
            "Conv",
            inputs,
            name,
            kernel_shape=kernel,
            strides=stride or (1,) * self.dims,
            pads=pads or tuple(size // 2 for size in kernel) * 2,
            **attributes,
        )

    def norm(self, source: str, groups: int, operator: str = "GroupNormSiLU") -> str:
        name = f"norm{len(self.nodes)}"
        channels = self.channels[source]
        self.tensor(f"{name}.weight", 1 + self.random.standard_normal(channels) / 4)
        self.tensor(f"{name}.bias", self.random.standard_normal(channels) / 4)
        self.channels[name] = channels
        inputs = [source, f"{name}.weight", f"{name}.bias"]
        options = {"num_groups": groups, "epsilon": 1e-6, "domain": "magvit"}
        return self.add(operator, inputs, name, **options)

    def attention(self, queries: str, keys: str, values: str) -> str:
        name = f"attention{len(self.nodes)}"
        self.channels[name] = self.channels[queries]
        return self.add("SpatialAttention", [queries, keys, values], name, domain="magvit")

    def sum(self, first: str, second: str) -> str:
        name = f"sum{len(self.nodes)}"
        self.channels[name] = self.channels[first]
        return self.add("Add", [first, second], name)

    def add(self, operator: str, inputs: list[str], output: str, **attributes: object) -> str:
        node = helper.make_node(operator, inputs, [output], name=f"{output}/node", **attributes)
        self.nodes.append(node)
        return output

    def tensor(self, name: str, values: NDArray[np.floating] | np.floating) -> None:
        self.tensors.append(numpy_helper.from_array(np.asarray(values, np.float32), name))

    def model(self, latents: str, rows: int | None = None) -> onnx.ModelProto:
        """Ends in LFQ of the latents, or in the search of a codebook of some rows."""
        if rows is None:
            self.add("LFQ", [latents], "ids", domain="magvit")
        else:
            codebook = self.random.standard_normal((rows, self.channels[latents]))
            self.tensor("codebook", codebook)
            node = helper.make_node(
                "CodebookArgmax",
                [latents, "codebook"],
                ["ids", "margins"],
                name="ids/node",
                domain="magvit",
                tile=rows,
            )
            self.nodes.append(node)
        shape = ["batch", *(["time"] if self.is_video else []), "height", "width"]
        graph = helper.make_graph(
            self.nodes,
            "encoder",
            [helper.make_tensor_value_info(FRAMES, TensorProto.UINT8, [*shape, 3])],
            [
                helper.make_tensor_value_info("ids", TensorProto.INT32, None),
                *(
                    [helper.make_tensor_value_info("margins", TensorProto.FLOAT, None)]
                    if rows
                    else []
                ),
                helper.make_tensor_value_info(latents, TensorProto.FLOAT, None),
            ],
            self.tensors,
        )
        used = {node.op_type for node in self.nodes if node.domain == "magvit"}
        return helper.make_model(
            graph,
            functions=[FUNCTIONS[name]() for name in sorted(used)],
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("magvit", 1)],
            ir_version=10,
        )

    def save(self, latents: str, path: Path) -> Path:
        onnx.save(self.model(latents), path)
        return path


def plain_encoder(is_video: bool = True, seed: int = 0) -> tuple[Encoder, str]:
    """Two levels: conv, residual block, stride, residual block with a shortcut, norm, latents."""
    encoder = Encoder(is_video, np.random.default_rng(seed))
    time_pads = ([2], [0]) if is_video else ([], [])
    kernel, pads = (3,) * encoder.dims, (*time_pads[0], 1, 1, *time_pads[1], 1, 1)

    def conv(source: str, channels: int, step: int = 1) -> str:
        stride = (step,) * encoder.dims
        return encoder.conv(source, channels, kernel, stride=stride, pads=pads)

    x = conv(encoder.pixels(), 32)
    x = encoder.sum(conv(encoder.norm(conv(encoder.norm(x, 8), 32), 8), 32), x)
    x = conv(x, 32, step=2)
    shortcut = encoder.conv(x, 48, (1,) * encoder.dims, has_bias=False)
    x = encoder.sum(conv(encoder.norm(conv(encoder.norm(x, 8), 48), 16), 48), shortcut)
    return encoder, encoder.conv(encoder.norm(x, 16), 18, (1,) * encoder.dims)


@st.composite
def encoders(draw: st.DrawFn) -> tuple[Encoder, str]:
    """Any encoder of a few convs that the native backend should run."""
    encoder = Encoder(draw(st.booleans()), np.random.default_rng(draw(st.integers(0, 2**32))))
    sizes = st.integers(1, 3)
    widths = st.sampled_from((1, 5, 16, 24, 40, 64))
    x = encoder.pixels()
    for _ in range(draw(st.integers(1, 4))):
        kernel = tuple(draw(sizes) for _ in range(encoder.dims))
        if draw(st.booleans()):
            kernel = (*kernel[:-2], 3, 3)  # Those that the fast way takes.
        padding = [draw(st.integers(0, size - 1)) for size in (*kernel, *kernel)]
        stride = tuple(draw(st.sampled_from((1, 1, 2))) for _ in kernel)
        source = x
        if x != "pixels" and draw(st.booleans()):
            channels = encoder.channels[x]
            groups = draw(st.sampled_from([n for n in (1, 2, 4, 5, 8) if channels % n == 0]))
            source = encoder.norm(x, groups, draw(st.sampled_from(("GroupNorm", "GroupNormSiLU"))))
        written = encoder.conv(
            source,
            draw(widths),
            kernel,
            stride=stride,
            pads=tuple(padding),
            has_bias=draw(st.booleans()),
        )
        keeps_size = all(
            step == 1 and before + after == size - 1
            for step, size, before, after in zip(
                stride, kernel, padding[: encoder.dims], padding[encoder.dims :], strict=True
            )
        )
        fits = keeps_size and encoder.channels[x] == encoder.channels[written] and x != "pixels"
        x = encoder.sum(written, x) if fits else written
    return encoder, encoder.conv(x, draw(st.integers(1, 31)), (1,) * encoder.dims)
