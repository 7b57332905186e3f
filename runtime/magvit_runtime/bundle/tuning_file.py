"""tuning.json: how long each way to run a bundle took, machine by machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from magvit_runtime.bundle.files import check_file, decode_json, read_json
from magvit_runtime.bundle.manifest import Role
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.files.atomic_write import atomic_path
from magvit_runtime.files.locks import folder_lock
from magvit_runtime.hub.fetching import refuse_hub

TUNING_FILE = "tuning.json"


class TunedOption(msgspec.Struct, frozen=True, kw_only=True):
    """The time of one graph or engine.

    Attributes:
        subject: "native fp32", or the plan's file name.
        sha256: Digest of the graph with its weights, or of the plan.
        seconds: Median seconds of one clip.
    """

    subject: str
    sha256: str
    seconds: float


class MachineTuning(msgspec.Struct, frozen=True, kw_only=True):
    """The times on one machine.

    Attributes:
        options: All that ran and agreed with the others in tokens, the fastest first.
        clips: Shape of the clips, [T, H, W, 3], or of their ids where these were decoded.
        versions: Of what ran.
        measured_at: UTC, ISO 8601.
    """

    options: tuple[TunedOption, ...]
    clips: tuple[int, ...]
    versions: dict[str, str]
    measured_at: str


class Tuning(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The whole file.

    Attributes:
        machines: Of encoders, by `machine_name`.
        roles: Of each other role likewise.
    """

    machines: dict[str, MachineTuning]
    roles: dict[Role, dict[str, MachineTuning]] = {}

    def of(self, role: Role) -> dict[str, MachineTuning]:
        """What was measured of a role, by machine."""
        return self.machines if role == "encode" else self.roles.get(role, {})


def machine_name() -> str:
    """Name of this machine in the file."""
    # Imported here, because only a tuned bundle needs it.
    from magvit_runtime.hardware.machine import Machine

    return Machine().name


def read_tuning(bundle: Bundle) -> Tuning:
    """The times so far; empty if there is no file.

    Raises:
        BundleError: The file is malformed, or lies outside the bundle.
    """
    path = bundle.path / TUNING_FILE
    if not os.path.lexists(path):
        return Tuning(machines={})
    check_file(path, bundle.path)
    return decode_json(path, read_json(path), Tuning, mend="remove it and run `magvit tune` again")


def check_tuning(bundle: Bundle) -> None:
    """Sees whether `write_tuning` can write, before anything is measured.

    Raises:
        BundleError: The file that is there is malformed.
        InputError: The bundle's directory can't be written to, or is in the hub's cache.
    """
    refuse_hub(bundle.path)
    with folder_lock(bundle.path):
        read_tuning(bundle)


def write_tuning(bundle: Bundle, tuning: MachineTuning, role: Role = "encode") -> Path:
    """Puts what was measured on this machine into the file, in the place of what was there.

    Returns:
        The file.

    Raises:
        BundleError: The existing file is malformed.
        InputError: The bundle's directory can't be written to.
    """
    path = bundle.path / TUNING_FILE
    with folder_lock(bundle.path), atomic_path(path) as partial:
        before = read_tuning(bundle)
        of_role = before.of(role) | {machine_name(): tuning}
        after = (
            Tuning(machines=of_role, roles=before.roles)
            if role == "encode"
            else Tuning(machines=before.machines, roles=before.roles | {role: of_role})
        )
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(after), indent=2))
    return path


def tuned_seconds(
    bundle: Bundle, digests: Mapping[str, str], role: Role = "encode"
) -> dict[str, float]:
    """Seconds a clip, of those subjects whose present bytes were timed on this machine.

    Args:
        bundle: The bundle.
        digests: Present digests by subject.
        role: What was timed.

    Raises:
        BundleError: The file is malformed, or lies outside the bundle.
    """
    machines = read_tuning(bundle).of(role)
    if not machines or (here := machines.get(machine_name())) is None:
        return {}
    return {
        option.subject: option.seconds
        for option in here.options
        if digests.get(option.subject) == option.sha256
    }
