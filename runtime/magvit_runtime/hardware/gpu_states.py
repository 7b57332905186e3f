"""How fast GPUs run at a moment, and what holds them back: NVML's figures, by the driver's tool."""

from __future__ import annotations

import shutil
import subprocess

import msgspec

# Names of NVML's reasons: https://docs.nvidia.com/deploy/nvml-api (nvmlClocksThrottleReasons).
_REASONS = {
    0x1: "idle",
    0x2: "application clocks",
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
    0x100: "display clocks",
}
_FIELDS = (
    *("uuid", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.draw", "power.limit"),
    *("temperature.gpu", "clocks_throttle_reasons.active"),
)


class GpuState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A GPU at one moment. A figure that the driver doesn't tell is None.

    Attributes:
        uuid: Which GPU.
        sm_mhz, max_sm_mhz: Clock of its multiprocessors, and the highest that it has.
        memory_mhz: Clock of its memory.
        watts, limit_watts: Power that it draws, and may draw.
        celsius: Temperature.
        throttled_by: What lowers its clocks now.
    """

    uuid: str
    sm_mhz: float | None
    max_sm_mhz: float | None
    memory_mhz: float | None
    watts: float | None
    limit_watts: float | None
    celsius: float | None
    throttled_by: tuple[str, ...]


def gpu_states() -> tuple[GpuState, ...]:
    """All GPUs of this machine, now, in the driver's order; empty where there are none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    command = [tool, f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader,nounits"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    lines = told.stdout.splitlines() if told.returncode == 0 else []
    rows = [[field.strip() for field in line.split(",")] for line in lines]
    return tuple(_state(*row) for row in rows if len(row) == len(_FIELDS))


def state_text(state: GpuState) -> str:
    """A state in one line."""
    parts = [
        f"{_text(state.sm_mhz)} of {_text(state.max_sm_mhz)} MHz",
        f"memory {_text(state.memory_mhz)} MHz",
        f"{_text(state.watts)} of {_text(state.limit_watts)} W",
        f"{_text(state.celsius)} °C",
    ]
    if state.throttled_by:
        parts.append(f"held back by {', '.join(state.throttled_by)}")
    return ", ".join(parts)


def _state(uuid: str, *fields: str) -> GpuState:
    sm, max_sm, memory, watts, limit, celsius = map(_number, fields[:-1])
    return GpuState(uuid, sm, max_sm, memory, watts, limit, celsius, _reasons(fields[-1]))


def _number(text: str) -> float | None:
    """None for "[N/A]" and "[Not Supported]"."""
    try:
        return float(text)
    except ValueError:
        return None


def _reasons(text: str) -> tuple[str, ...]:
    try:
        mask = int(text, 16)
    except ValueError:
        return ()
    return tuple(name for bit, name in _REASONS.items() if mask & bit)


def _text(number: float | None) -> str:
    return "?" if number is None else f"{number:.0f}"
