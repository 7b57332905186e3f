"""The option `--device` of commands."""

from __future__ import annotations

from typing import TypedDict

from magvit_runtime.hardware.devices import DeviceNames


class Devices(TypedDict):
    """What `open` of a model class takes."""

    device: str | None
    devices: DeviceNames | None


def chosen_devices(written: str | None) -> Devices:
    """One device, several with commas between, or all GPUs."""
    if written == "all":
        return Devices(device=None, devices="all")
    if written is not None and "," in written:
        return Devices(device=None, devices=[name.strip() for name in written.split(",")])
    return Devices(device=written, devices=None)
