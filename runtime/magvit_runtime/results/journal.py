"""The journal of a run that writes a folder: which parts are done, so that another run goes on.

    run.json                what the run reads and how; there until the run is done
    journal/PART.json       a part that was written whole
    PART.parquet            the part
    manifest.json           all of it, once the run is done

A part is written before its entry. A run that is killed between the two writes the part again, and
its bytes are the same. The jobs of a run that is shared out write to one folder, each with records
of its own: run-0-of-4.json and so on.
"""

from __future__ import annotations

import hashlib
import logging
import re

import msgspec

from magvit_runtime.clips.trajectories import RowProblem
from magvit_runtime.errors import InputError
from magvit_runtime.results.folders import Folder
from magvit_runtime.results.run_records import (
    JournalEntry,
    Manifest,
    PartRecord,
    Refused,
    RunRecord,
    Share,
    difference,
    json_values,
    read_record,
)

_LOG = logging.getLogger(__name__)
_PART = re.compile(r"part-\d+-\d+\.parquet")


class Journal:
    """What a run has done so far. Open one with `Journal.open`.

    Attributes:
        done: The parts that were written, by name.
        is_finished: Whether a manifest says that all are there.
    """

    def __init__(self, folder: Folder, run: RunRecord) -> None:
        self._folder = folder
        self._run = run
        ending = Share.parse(run.shard).ending
        self._run_file = f"run{ending}.json"
        self._manifest_file = f"manifest{ending}.json"
        self._entries = f"journal{ending}"
        self._is_begun = False
        self.done: dict[str, JournalEntry] = {}
        self.is_finished = False

    @classmethod
    def open(cls, folder: Folder, run: RunRecord, *, resume: bool) -> Journal:
        """Looks at what is there of a run; writes nothing.

        Args:
            folder: Where it writes.
            run: What decides its output.
            resume: Go on with what is there, if anything is; else refuse a folder with anything in
                it.

        Raises:
            InputError: The folder holds something else, or a run of other inputs, another bundle or
                other options.
        """
        journal = cls(folder, run)
        sizes = folder.sizes()
        begun = next((n for n in (journal._manifest_file, journal._run_file) if n in sizes), None)
        if begun is None:
            journal._check_room(sizes)
        elif not resume:
            raise InputError(
                f"{folder.address()} holds a run already",
                mend="pass --resume to go on with it, or remove the folder",
            )
        else:
            journal._is_begun = True
            journal._resume(begun, sizes)
            _LOG.info(
                "%s goes on after %d parts",
                folder.address(),
                len(journal.done),
                extra={"parts_done": len(journal.done)},
            )
        return journal

    def begin(self) -> None:
        """Notes what the run is, before its first part is written; does nothing after that."""
        if not self._is_begun:
            self._folder.write(self._run_file, _json(self._run))
            self._is_begun = True

    def add(self, entry: JournalEntry) -> None:
        """Notes that a part was written.

        Raises:
            InputError: It isn't like the other parts.
        """
        self._check_alike(entry)
        self._folder.write(f"{self._entries}/{entry.part.name}.json", _json(entry))
        self.done[entry.part.name] = entry
        part = entry.part
        _LOG.info(
            "%s is done: %d rows",
            self._folder.address(part.name),
            part.rows,
            extra={"part": part.name, "rows": part.rows, "parts_done": len(self.done)},
        )

    def finish(self, refused: tuple[Refused, ...]) -> Manifest:
        """Writes the manifest, and removes what only a run on its way needs."""
        entries = [self.done[name] for name in sorted(self.done)]
        parts = tuple(entry.part for entry in entries)
        info = entries[0].info if entries else None
        manifest = Manifest(self._run, info, parts, sum(part.rows for part in parts), refused)
        self._folder.write(self._manifest_file, _json(manifest))
        self._clean()
        _LOG.info(
            "%s is done: %d rows in %d parts",
            self._folder.address(),
            manifest.rows,
            len(parts),
            extra={"rows": manifest.rows, "parts_done": len(parts), "refused": len(refused)},
        )
        return manifest

    def _clean(self) -> None:
        self._folder.remove(self._run_file)
        self._folder.remove(self._entries)

    def _check_room(self, sizes: dict[str, int]) -> None:
        """Refuses a folder of something else; other jobs of the same run may be there."""
        share = Share.parse(self._run.shard)
        other = re.compile(rf"(run|manifest|journal)-\d+-of-{share.jobs}[./].*")
        for name in sizes:
            if share.jobs == 1 or not (other.fullmatch(name) or _PART.fullmatch(name)):
                raise InputError(
                    f"{self._folder.address()} holds something else",
                    found=name,
                    mend="remove it, or choose another -o",
                )

    def _resume(self, begun: str, sizes: dict[str, int]) -> None:
        self.is_finished = begun == self._manifest_file
        if self.is_finished:
            manifest = read_record(self._folder, begun, Manifest)
            old = manifest.run
            entries = [JournalEntry(part, manifest.info or {}) for part in manifest.parts]
        else:
            old = read_record(self._folder, begun, RunRecord)
            names = [name for name in sizes if name.startswith(f"{self._entries}/")]
            entries = [read_record(self._folder, name, JournalEntry) for name in names]
        differing = difference(old, self._run)
        if differing:
            raise InputError(
                f"{self._folder.address()} was begun otherwise, and can't go on",
                found=differing,
                mend="give what it was begun with, or choose another -o",
            )
        for entry in entries:
            self._take(entry, sizes)
        if self.is_finished:
            self._clean()

    def _take(self, entry: JournalEntry, sizes: dict[str, int]) -> None:
        """Counts a part as done, if it is as it was written."""
        part = entry.part
        is_whole = sizes.get(part.name) == part.size
        if is_whole and _sha256(self._folder.read(part.name)) == part.sha256:
            self._check_alike(entry)
            self.done[part.name] = entry
        else:
            self.is_finished = False
            address = self._folder.address(part.name)
            _LOG.warning("%s isn't as it was written; it is made again", address)

    def _check_alike(self, entry: JournalEntry) -> None:
        first = next(iter(self.done.values()), entry)
        if first.info == entry.info:
            return
        name = next(n for n in entry.info | first.info if entry.info.get(n) != first.info.get(n))
        raise InputError(
            f"{entry.part.name} isn't like {first.part.name}: all clips of a run are of one kind",
            found=f"{name} {entry.info.get(name)}",
            expected=first.info.get(name),
            mend="give each kind of input a run of its own",
        )


def write_part(
    folder: Folder,
    name: str,
    content: bytes,
    rows: int,
    info: msgspec.Struct,
    noted: tuple[RowProblem, ...] = (),
) -> JournalEntry:
    """Writes a part of a run, whole or not at all, and describes it for `Journal.add`."""
    folder.write(name, content)
    part = PartRecord(name, rows, len(content), _sha256(content))
    return JournalEntry(part, json_values(info), noted)


def _json(record: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
