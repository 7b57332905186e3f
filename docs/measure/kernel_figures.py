"""Shows how GroupNorm's two passes are compiled, and how they fill GPUs; no GPU is needed.

    python docs/measure/kernel_figures.py
    python docs/measure/kernel_figures.py --nvdisasm PATH                # also counts their loops
    python docs/measure/kernel_figures.py --kernels /other/checkout/kernels   # other sources

Needs nvcc and c++filt. nvdisasm comes with the CUDA toolkit, and in triton's wheel
(`pip download --no-deps triton`) as triton/backends/nvidia/bin/nvdisasm. Prints Markdown.
"""

from __future__ import annotations

import argparse
import math
import re
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

KERNELS = Path(__file__).resolve().parents[2] / "kernels"
SOURCE = "group_norm_silu/feature_passes.cu"
PASSES = re.compile(r"^(ChannelsLastStatistics|ApplyChannelsLast)<")
# The kernels that the released encoder launches in half precision.
RELEASED = re.compile(r"^(?!.*(float|Normalized<0|Normalized<1, false>|StoredFeatures.*Unchanged))")
# Threads of a block, and the positions that a thread of the pass over half maps reads at once.
THREADS = {"ChannelsLastStatistics": 768, "ApplyChannelsLast": 256}
AT_ONCE = 4


@dataclass(frozen=True)
class Multiprocessor:
    """The limits of one multiprocessor (CUDA C++ Programming Guide, "Compute Capabilities").

    Attributes:
        threads: Resident threads.
        blocks: Resident blocks.
        shared_bytes: Shared memory.
        block_bytes: Shared memory that each block takes in addition to its own.
    """

    threads: int
    blocks: int
    shared_bytes: int
    block_bytes: int


MULTIPROCESSORS = {
    75: Multiprocessor(1024, 16, 64 << 10, 0),
    86: Multiprocessor(1536, 16, 100 << 10, 1 << 10),
    89: Multiprocessor(1536, 24, 100 << 10, 1 << 10),
    90: Multiprocessor(2048, 32, 228 << 10, 1 << 10),
}
# Name, architecture and multiprocessors.
GPUS = (("H100", 90, 132), ("A10G", 86, 80), ("L4", 89, 58), ("T4", 75, 40))
# Frames, height, width and channels of the maps that the video encoder normalises at 17x128x128.
MAPS = (
    (17, 128, 128, 128),
    (17, 64, 64, 128),
    (17, 64, 64, 256),
    (9, 32, 32, 256),
    (5, 16, 16, 256),
    (5, 16, 16, 512),
)
BATCHES = (1, 8)

PLANNER = f"""
#include <cstdio>
#include "group_norm_silu/block_plans.h"
int main() {{
  long long batch, positions, channels, residents[2];
  const int threads[2] = {{magvit::kStatisticsThreads, magvit::kPassThreads}};
  while (std::scanf("%lld %lld %lld %lld %lld", &batch, &positions, &channels, &residents[0],
                    &residents[1]) == 5) {{
    for (int pass = 0; pass < 2; ++pass) {{
      const magvit::ColumnTile tile = magvit::TileColumns(channels, 8, threads[pass]);
      const auto plan = magvit::PlanPass(batch, positions, tile, {AT_ONCE}, residents[pass]);
      std::printf("%lld ", batch * tile.tiles * (long long)plan.blocks);
    }}
    std::printf("\\n");
  }}
}}
"""


@dataclass(frozen=True)
class Loop:
    """A kernel's inner loop over its map.

    Attributes:
        instructions: Its number of instructions.
        divergence_regions: Places where threads of a warp may take different paths.
    """

    instructions: int
    divergence_regions: int


@dataclass(frozen=True)
class Kernel:
    """One kernel, compiled for one architecture.

    Attributes:
        name: Its name without namespaces and parameters.
        architecture: 90 for sm_90.
        registers: Registers per thread.
        spilled_bytes: Bytes that a thread puts into memory because it has too few registers.
        shared_bytes: Shared memory per block.
        loop: Its inner loop, if it was disassembled.
    """

    name: str
    architecture: int
    registers: int
    spilled_bytes: int
    shared_bytes: int
    loop: Loop | None

    @property
    def resident_blocks(self) -> int:
        """Blocks that a multiprocessor holds at once."""
        limits = MULTIPROCESSORS[self.architecture]
        threads = THREADS[self.name.split("<")[0]]
        warps = threads // 32
        # A warp gets its registers in portions of 256; a quarter of the 64k is one scheduler's.
        warp_registers = math.ceil(self.registers * 32 / 256) * 256
        by_registers = 4 * (16384 // warp_registers) // warps
        by_memory = limits.shared_bytes // (self.shared_bytes + limits.block_bytes or 1)
        return min(by_registers, by_memory, limits.threads // threads, limits.blocks)


def compile_kernels(
    architecture: int, nvdisasm: Path | None = None, kernels: Path = KERNELS
) -> list[Kernel]:
    """The kernels of both passes, compiled by nvcc.

    Args:
        architecture: 90 for sm_90.
        nvdisasm: The disassembler, for the loops.
        kernels: The folder of the sources.
    """
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "passes.cubin"
        includes = [f"-I{kernels}", f"-I{kernels / 'include'}"]
        options = ["-std=c++17", "-O3", f"-arch=sm_{architecture}", "-cubin", "-Xptxas=-v"]
        log = subprocess.run(
            ["nvcc", *options, *includes, kernels / SOURCE, "-o", cubin],
            check=True,
            stderr=subprocess.PIPE,
            text=True,
        ).stderr
        loops = {} if nvdisasm is None else _loops(_run([str(nvdisasm), "-c", str(cubin)]))
    found = re.findall(
        r"Compiling entry function '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads"
        r".*?Used (\d+) registers([^\n]*)",
        log,
        re.DOTALL,
    )
    names = _run(["c++filt"], "\n".join(mangled for mangled, *_ in found)).splitlines()
    result = []
    for (mangled, stores, loads, registers, rest), name in zip(found, names, strict=True):
        short = _short(name)
        if PASSES.match(short):
            memory = re.search(r"(\d+) bytes smem", rest)
            shared = int(memory[1]) if memory else 0
            spilled = int(stores) + int(loads)
            loop = loops.get(mangled)
            result.append(Kernel(short, architecture, int(registers), spilled, shared, loop))
    return sorted(result, key=lambda kernel: kernel.name)


def plan_blocks(cases: Iterable[tuple[int, int, int, int, int]]) -> list[tuple[int, int]]:
    """Blocks of the statistics and the apply pass, from the code that launches them.

    Args:
        cases: Batch, positions, channels, and blocks of each pass that the GPU holds at once.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder) / "planner.cu", Path(folder) / "planner"
        source.write_text(PLANNER)
        includes = [f"-I{KERNELS}", f"-I{KERNELS / 'include'}"]
        _run(["nvcc", "-std=c++17", *includes, str(source), "-o", str(program)])
        lines = _run([str(program)], "\n".join(" ".join(map(str, case)) for case in cases))
    return [(int(a), int(b)) for a, b in (line.split() for line in lines.splitlines())]


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--nvdisasm", type=Path, help="the disassembler")
    parser.add_argument(
        "--kernels", type=Path, help="folder of other sources; their plans aren't made"
    )
    parser.add_argument("--smoke", action="store_true", help="the H100 alone")
    arguments = parser.parse_args()
    gpus = GPUS[:1] if arguments.smoke else GPUS
    compiled = {
        architecture: compile_kernels(
            architecture, arguments.nvdisasm, arguments.kernels or KERNELS
        )
        for architecture in sorted({architecture for _, architecture, _ in gpus})
    }
    print(_run(["nvcc", "--version"]).splitlines()[-2])
    print_kernels(compiled)
    if arguments.kernels is None:
        print_plans(compiled, gpus)


def print_kernels(compiled: dict[int, list[Kernel]]) -> None:
    """One row for each kernel of the released encoder and architecture, and a sum over all."""
    print(
        "\n| kernel | sm | registers | spilled bytes | blocks an SM | loop: instructions, regions |"
    )
    print("|---|---|---|---|---|---|")
    for architecture, kernels in compiled.items():
        for kernel in filter(lambda kernel: RELEASED.match(kernel.name), kernels):
            loop = kernel.loop
            cost = "-" if loop is None else f"{loop.instructions}, {loop.divergence_regions}"
            cells = (kernel.registers, kernel.spilled_bytes, kernel.resident_blocks, cost)
            print(f"| `{kernel.name}` | {architecture} | {' | '.join(map(str, cells))} |")
    every = [kernel for kernels in compiled.values() for kernel in kernels]
    spilling = sum(kernel.spilled_bytes > 0 for kernel in every)
    regions = [kernel.loop.divergence_regions for kernel in every if kernel.loop]
    most = max(regions) if regions else "not disassembled"
    print(f"\nAll {len(every)}: {spilling} spill; divergence regions at most {most}.")


def print_plans(
    compiled: dict[int, list[Kernel]], gpus: Sequence[tuple[str, int, int]] = GPUS
) -> None:
    """Blocks of each pass over half-precision maps, and the number that the GPU holds at once."""
    print("\n| GPU | batch | " + " | ".join("x".join(map(str, m)) for m in MAPS) + " |")
    print("|---|---|" + "---|" * len(MAPS))
    for name, architecture, multiprocessors in gpus:
        released = [kernel for kernel in compiled[architecture] if RELEASED.match(kernel.name)]
        statistics, apply = (
            multiprocessors
            * min(kernel.resident_blocks for kernel in released if kernel.name.startswith(name))
            for name in THREADS
        )
        for batch in BATCHES:
            cases = [(batch, t * h * w, c, statistics, apply) for t, h, w, c in MAPS]
            cells = (f"{a}, {b}" for a, b in plan_blocks(cases))
            print(f"| {name}: {statistics}, {apply} | {batch} | {' | '.join(cells)} |")


def _loops(disassembly: str) -> dict[str, Loop]:
    """The innermost loop over the map by mangled name: it loads the most bytes at a time.

    Loads of what other blocks wrote ("STRONG") don't count.
    """
    found = {}
    for part in re.split(r"\n\.text\.", disassembly)[1:]:
        name = part.split(":", 1)[0]
        labels: dict[str, int] = {}
        code: list[str] = []
        spans: list[tuple[int, int]] = []
        for line in part.splitlines():
            if label := re.match(r"\s*(\.L_x_\d+):", line):
                labels[label[1]] = len(code)
            if instruction := re.search(r"/\*[0-9a-f]{4,}\*/\s+(.*?);", line):
                code.append(instruction[1])
                target = re.search(r"\bBRA\b.*`\((\.L_x_\d+)\)", code[-1])
                start = labels.get(target[1], len(code)) if target else len(code)
                if start < len(code) - 1:
                    spans.append((start, len(code)))
        innermost = [code[a:b] for a, b in spans if not any(a <= c and d < b for c, d in spans)]
        if innermost:
            loop = max(innermost, key=_loaded_bytes)
            found[name] = Loop(len(loop), sum("BSSY" in line for line in loop))
    return found


def _loaded_bytes(code: Sequence[str]) -> int:
    loads = re.findall(r"\bLDG((?:\.\w+)*)", "\n".join(code))
    widths = (re.search(r"\.(64|128|256)\b", load) for load in loads if "STRONG" not in load)
    return sum(int(width[1]) // 8 if width else 4 for width in widths)


def _short(name: str) -> str:
    """A demangled kernel without return type, namespaces, casts and parameters."""
    name = re.sub(r"\((magvit_activation|bool)\)|magvit::|^void ", "", name)
    return name.split("(", 1)[0].replace("> >", ">>")


def _run(command: Sequence[str], text: str | None = None) -> str:
    return subprocess.run(command, check=True, input=text, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
