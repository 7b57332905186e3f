"""Parity stamps: which of a bundle's graphs and engines passed `magvit verify`, byte for byte."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from magvit_runtime.bundle.canary import verify_command
from magvit_runtime.bundle.manifest import ParityStamp, Precision, Role
from magvit_runtime.bundle.reading import Bundle, open_bundle
from magvit_runtime.bundle.writing import changing_bundle, write_manifest
from magvit_runtime.errors import BundleError


def graph_subject(backend: str, precision: Precision) -> str:
    """The name of a graph in a backend; an engine's name is its plan's file name."""
    return f"{backend} {precision}"


def check_stamp(bundle: Bundle, role: Role, subject: str, sha256: str) -> None:
    """Refuses a graph or engine whose present bytes have not passed `magvit verify`.

    Args:
        bundle: The bundle.
        role: What the graph or engine does.
        subject: Its name.
        sha256: Its digest.

    Raises:
        BundleError: It has no stamp, or the stamp is of other bytes.
    """
    stamp = bundle.manifest.stamps.get(_stamp_name(role, subject))
    mend = verify_command(bundle, role)
    if stamp is None:
        raise BundleError(f"{subject} of {bundle.path} has no parity stamp", mend=mend)
    if stamp.sha256 != sha256:
        raise BundleError(
            f"{subject} of {bundle.path} has changed since its parity stamp",
            found=f"sha256 {sha256}",
            expected=stamp.sha256,
            mend=mend,
        )


def write_stamps(
    bundle: Bundle, role: Role, stamps: Mapping[str, ParityStamp], revoked: Collection[str]
) -> None:
    """Adds stamps to bundle.json and removes others, in one write.

    Args:
        bundle: The bundle; its manifest is read again, so that additions by others stay.
        role: What the subjects do.
        stamps: New stamps by subject.
        revoked: Subjects that failed, and lose their stamp.

    Raises:
        BundleError: The bundle is no longer sound.
        InputError: The directory can't be written to.
    """
    if not stamps and not revoked:
        return
    with changing_bundle(bundle.path):
        manifest = open_bundle(bundle.path).manifest
        all_stamps = {
            **manifest.stamps,
            **{_stamp_name(role, subject): stamp for subject, stamp in stamps.items()},
        }
        for subject in revoked:
            all_stamps.pop(_stamp_name(role, subject), None)
        if all_stamps != manifest.stamps:
            write_manifest(bundle.path, msgspec.structs.replace(manifest, stamps=all_stamps))


def _stamp_name(role: Role, subject: str) -> str:
    return f"{role} {subject}"
