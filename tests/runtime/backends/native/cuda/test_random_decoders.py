"""Random decoders on the stand-in GPU, beside the same programs on the CPU.

They have steps in orders that no family has, so that every way in which the schedule puts steps
together is run: sums that their reader makes, maps that are changed in place, and values that
several steps read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from runtime import stand_in_gpu
from runtime.backends.native.cuda.on_stand_in import (
    PaddingOf,
    border,
    implied,
    mixed,
    open_program,
)
from runtime.stand_in_gpu import Cuda

from magvit_runtime.backends.native.attention import Attention
from magvit_runtime.backends.native.cpu.executor import CpuExecutor
from magvit_runtime.backends.native.decoder_steps import (
    AdaptiveNormalization,
    ChannelStatistic,
    CodebookRows,
    DepthToSpace,
    PixelRounding,
    Repetition,
    SignCodes,
)
from magvit_runtime.backends.native.program import (
    ClipShape,
    Conv,
    Input,
    Normalization,
    Output,
    Program,
    Step,
)
from magvit_runtime.errors import BackendError

BITS = 6
GROUPS = 4


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    return stand_in_gpu.install(monkeypatch)[0]


@dataclass
class Drawing:
    """A program that grows step by step.

    Attributes:
        draw: Hypothesis's.
        random: Draws weights.
        shapes: Of the maps.
        steps: The steps.
        norms: Normalisations of maps that leave moments; convs share them.
    """

    draw: st.DrawFn
    random: np.random.Generator
    shapes: dict[str, ClipShape] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    norms: dict[str, Normalization] = field(default_factory=dict)

    def add(self, step: Step) -> None:
        self.steps.append(step)
        self.shapes[step.output] = step.output_shape(self.shapes)

    def floats(self, *shape: int, scale: float = 1.0) -> NDArray[np.float32]:
        return (scale * self.random.standard_normal(shape)).astype(np.float32)

    def map(self) -> str:
        """One of the maps, often the last."""
        names = [name for name in self.shapes if name != "ids"]
        return self.draw(st.sampled_from([*names, names[-1], names[-1]]))

    def alike(self, shape: ClipShape) -> list[str]:
        return [name for name, other in self.shapes.items() if other == shape and name != "ids"]

    def conv(self, name: str, source: str, channels: int) -> None:
        kernel = self.draw(st.sampled_from([(1, 1, 1), (1, 3, 3), (3, 3, 3)]))
        taps = self.shapes[source][3] * math.prod(kernel)
        conv = Conv(
            name=name,
            input=source,
            output=name,
            weight=self.floats(channels, self.shapes[source][3], *kernel, scale=taps**-0.5),
            bias=self.floats(channels) if self.draw(st.booleans()) else None,
            stride=(1, 1, 1),
            pads_before=(kernel[0] - 1, kernel[1] // 2, kernel[2] // 2),
            pads_after=(0, kernel[1] // 2, kernel[2] // 2),
            normalization=self.norms.get(source) if self.draw(st.booleans()) else None,
            residual=None,
            output_type="float32",
        )
        alike = self.alike(conv.output_shape(self.shapes))
        if alike and self.draw(st.booleans()):
            # The conv's own input is what residual blocks without a norm would add.
            alike += [source] * (2 if source in alike else 0)
            conv = replace(conv, residual=self.draw(st.sampled_from(alike)))
        self.add(conv)
        self.norm_of(name, channels)

    def norm_of(self, name: str, channels: int) -> None:
        if channels % GROUPS == 0:
            weight, bias = self.floats(channels), self.floats(channels)
            activation = self.draw(st.sampled_from(["none", "silu"]))
            self.norms[name] = Normalization(GROUPS, 1e-6, weight, bias, activation)

    def statistic(self, channels: int, epsilon: float | None) -> ChannelStatistic:
        source = "codes" if self.draw(st.booleans()) else self.map()
        weight = self.floats(channels, self.shapes[source][3], scale=0.5)
        return ChannelStatistic(source, epsilon, weight, self.floats(channels))

    def any_step(self, name: str) -> None:
        source = self.map()
        frames, height, width, channels = self.shapes[source]
        options = ["conv", "conv", "attention"]
        if channels % GROUPS == 0 and source != "codes":
            options += ["adaptive norm"] * 2
        if height * width * frames < 100:
            options.append("repetition")
        blocks = [(2, 2, 2), (1, 2, 2), (1, 1, 2)]
        fitting = [block for block in blocks if channels % math.prod(block) == 0]
        if fitting and height * width * frames < 100:
            options += ["depth to space"] * 2
        match self.draw(st.sampled_from(options)):
            case "conv":
                own = [channels] * 3 if channels <= 32 else []
                self.conv(name, source, self.draw(st.sampled_from([4, 8, 12, 24, 32, *own])))
            case "attention":
                alike = st.sampled_from(self.alike(self.shapes[source]))
                self.add(Attention(self.draw(alike), self.draw(alike), source, name))
            case "adaptive norm":
                scale, shift = self.statistic(channels, 1e-6), self.statistic(channels, None)
                self.add(AdaptiveNormalization(source, name, GROUPS, 1e-6, scale, shift))
                self.norm_of(name, channels)
            case "repetition":
                self.add(Repetition(source, name, 2, self.draw(st.sampled_from([1, 2]))))
            case "depth to space":
                self.add(DepthToSpace(source, name, self.draw(st.sampled_from(fitting))))


@st.composite
def decoders(draw: st.DrawFn) -> tuple[Program, NDArray[np.int32]]:
    drawing = Drawing(draw, np.random.default_rng(draw(st.integers(0, 2**32 - 1))))
    grid = tuple(draw(st.integers(1, 3)) for _ in range(3))
    drawing.shapes["ids"] = (*grid, 1)
    drawing.add(SignCodes("ids", "codes", BITS))
    drawing.add(CodebookRows("ids", "rows", drawing.floats(2**BITS, 12)))
    for i in range(draw(st.integers(2, 8))):
        drawing.any_step(f"y{i}")
    drawing.conv("colours", drawing.map(), 3)
    drawing.add(PixelRounding("colours", "frames", -1.0, 1.0, 1.0, 127.5, 0.5))
    maps = [step.output for step in drawing.steps if step.output != "frames"]
    outputs = [
        Output("frames", "frames", "NTHWC", "uint8"),
        *(
            Output(value, value, "NCTHW", "float32")
            for value in draw(st.lists(st.sampled_from(maps), unique=True, max_size=2))
        ),
    ]
    program = Program((Input("ids", "int32", "NTHW", 1),), tuple(drawing.steps), tuple(outputs))
    ids = drawing.random.integers(0, 2**BITS, (draw(st.integers(1, 2)), *grid), np.int32)
    return program, ids


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(decoders(), st.sampled_from([implied, border, mixed]))
def test_any_decoder_computes_what_the_cpu_does(
    cuda: Cuda, drawn: tuple[Program, NDArray[np.int32]], padding_of: PaddingOf
) -> None:
    program, ids = drawn
    names = [output.name for output in program.outputs]
    on_cpu, on_gpu = (
        CpuExecutor(program, threads=1),
        open_program(cuda, program, "fp32", padding_of),
    )
    expected_bytes, *expected = on_cpu.run({"ids": ids}, names)
    for _ in range(2):  # The second run finds what the first has left in memory.
        found_bytes, *found = on_gpu.run({"ids": ids}, names)
        for one, wanted in zip(found, expected, strict=True):
            scale = max(1.0, float(np.abs(wanted).max()))
            np.testing.assert_allclose(one, wanted, rtol=0, atol=1e-3 * scale)
        assert np.abs(found_bytes.astype(int) - expected_bytes).max() <= 1
    on_cpu.close()
    on_gpu.close()
    assert not cuda.blocks


def test_a_conv_may_add_its_own_input(cuda: Cuda) -> None:
    """A sum that a conv reads twice is written after all."""
    random = np.random.default_rng(0)

    def conv(name: str, source: str, channels: tuple[int, int], residual: str | None) -> Conv:
        weight = random.standard_normal((channels[1], channels[0], 1, 1, 1)).astype(np.float32)
        return Conv(
            name=name,
            input=source,
            output=name,
            weight=weight,
            bias=random.standard_normal(channels[1]).astype(np.float32),
            stride=(1, 1, 1),
            pads_before=(0, 0, 0),
            pads_after=(0, 0, 0),
            normalization=None,
            residual=residual,
            output_type="float32",
        )

    program = Program(
        inputs=(Input("ids", "int32", "NTHW", 1),),
        steps=(
            SignCodes("ids", "codes", BITS),
            conv("first", "codes", (BITS, 8), None),
            conv("second", "first", (8, 8), "first"),
            conv("colours", "second", (8, 3), None),
            PixelRounding("colours", "frames", -20.0, 20.0, 20.0, 6.0, 0.5),
        ),
        outputs=(Output("frames", "frames", "NTHWC", "uint8"),),
    )
    ids = random.integers(0, 2**BITS, (2, 1, 3, 4), np.int32)
    on_cpu, on_gpu = CpuExecutor(program, threads=1), open_program(cuda, program)
    (expected,), (found,) = (one.run({"ids": ids}, ["frames"]) for one in (on_cpu, on_gpu))
    assert np.abs(found.astype(int) - expected).max() <= 1
    on_cpu.close()
    on_gpu.close()


def test_statistics_of_a_map_that_is_too_wide_are_refused(cuda: Cuda) -> None:
    zeros = np.zeros(4, np.float32)
    wide = ChannelStatistic("rows", None, np.zeros((4, 257), np.float32), zeros)
    narrow = ChannelStatistic("rows", None, np.zeros((4, 256), np.float32), zeros)

    def program(statistic: ChannelStatistic) -> Program:
        channels = statistic.weight.shape[1]
        return Program(
            inputs=(Input("ids", "int32", "NTHW", 1),),
            steps=(
                CodebookRows("ids", "rows", np.zeros((3, channels), np.float32)),
                CodebookRows("ids", "few", np.ones((3, 4), np.float32)),
                AdaptiveNormalization("few", "norm", 2, 1e-6, statistic, statistic),
            ),
            outputs=(Output("norm", "norm", "NCTHW", "float32"),),
        )

    with pytest.raises(BackendError, match="one of 257 channels, expected at most 256"):
        open_program(cuda, program(wide))
    executor = open_program(cuda, program(narrow))
    (found,) = executor.run({"ids": np.zeros((1, 1, 2, 2), np.int32)}, ["norm"])
    assert found.shape == (1, 4, 1, 2, 2)
    executor.close()
