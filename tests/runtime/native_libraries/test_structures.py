"""The structures and numbers that Python passes to our libraries are those of their C headers."""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from magvit_runtime.backends.native.cpu import maps as cpu_maps
from magvit_runtime.native_libraries import convs, cuda_operators, operators

HEADERS = Path(__file__).resolve().parents[3] / "kernels" / "include"

STRUCTURES: dict[str, type[ctypes.Structure]] = {
    "magvit_shape": operators.ShapeStructure,
    "magvit_group_norm_options": operators.GroupNormOptions,
    "magvit_feature_map": convs.FeatureMapStructure,
    "magvit_normalization": convs.NormalizationStructure,
    "magvit_conv_options": convs.ConvOptions,
    "magvit_conv_call": convs.ConvCall,
    "magvit_adaptive_norm_call": convs.AdaptiveNormCall,
    "magvit_cuda_map": cuda_operators.MapStructure,
    "magvit_cuda_window": cuda_operators.Window,
    "magvit_cuda_addends": cuda_operators.Addends,
    "magvit_cuda_channel_statistic": cuda_operators.ChannelStatistic,
    "magvit_cuda_attention_biases": cuda_operators.AttentionBiases,
    "magvit_cuda_rounding": cuda_operators.Rounding,
}
NUMBERS = {
    "MAGVIT_NO_ACTIVATION": operators.ACTIVATIONS["none"],
    "MAGVIT_SILU": operators.ACTIVATIONS["silu"],
    "MAGVIT_FLOAT32": cuda_operators.DTYPES["float32"],
    "MAGVIT_FLOAT16": cuda_operators.DTYPES["float16"],
    "MAGVIT_CHANNEL_MULTIPLE": cpu_maps.CHANNEL_MULTIPLE,
    "MAGVIT_OPERATORS_ABI": operators.ABI,
    "MAGVIT_CUDA_OPERATORS_ABI": cuda_operators.ABI,
}


def fields_in_python(structure: type[ctypes.Structure]) -> dict[str, list[int]]:
    """Offset and size of each field; under "", the structure's own size."""
    fields = {name: getattr(structure, name) for name, *_ in structure._fields_}
    return {
        "": [0, ctypes.sizeof(structure)],
        **{name: [field.offset, field.size] for name, field in fields.items()},
    }


def probe() -> str:
    """A C++ program that prints the headers' structures and numbers in the same form, as JSON."""
    lines = []
    for name, structure in STRUCTURES.items():
        lines.append(f'add("{name}", "", 0, sizeof(struct {name}));')
        lines += [
            f'add("{name}", "{field}", offsetof(struct {name}, {field}), '
            f"sizeof(((struct {name}*)nullptr)->{field}));"
            for field, *_ in structure._fields_
        ]
    lines += [f'add("numbers", "{name}", {name}, 0);' for name in NUMBERS]
    return "\n".join(
        [
            "#include <cstddef>",
            "#include <cstdio>",
            '#include "magvit/cuda_operators.h"',
            "static void add(const char* owner, const char* name, size_t first, size_t second) {",
            r'  std::printf("[\"%s\", \"%s\", %zu, %zu]\n", owner, name, first, second);',
            "}",
            "int main() {",
            *lines,
            "}",
        ]
    )


@pytest.fixture(scope="module")
def in_c(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, list[int]]]:
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    program = tmp_path_factory.mktemp("probe") / "probe"
    subprocess.run(
        [compiler, "-std=c++17", f"-I{HEADERS}", "-x", "c++", "-", "-o", program],
        input=probe(),
        text=True,
        check=True,
    )
    found: dict[str, dict[str, list[int]]] = {}
    for line in subprocess.check_output([program], text=True).splitlines():
        owner, name, *numbers = json.loads(line)
        found.setdefault(owner, {})[name] = numbers
    return found


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_structure_lies_as_in_c(in_c: dict[str, dict[str, list[int]]], name: str) -> None:
    assert fields_in_python(STRUCTURES[name]) == in_c[name]


def test_numbers_are_those_of_the_headers(in_c: dict[str, dict[str, list[int]]]) -> None:
    assert {name: value for name, (value, _) in in_c["numbers"].items()} == NUMBERS
