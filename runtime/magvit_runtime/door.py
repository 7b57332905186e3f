"""What every door of a bundle shares: how it closes, and how it gets into another process."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from magvit_runtime.backends.backend import Session
from magvit_runtime.bundle.manifest import GraphRecord
from magvit_runtime.bundle.reading import Bundle, graph_sha256
from magvit_runtime.closing import Closing
from magvit_runtime.errors import BackendError, BundleError
from magvit_runtime.hub.addresses import reachable


class Door(Closing):
    """A role of a bundle, open; base of `Tokenizer`, `Detokenizer` and the other model classes.

    Its session lives in one process. In another one the door opens the bundle again, by its
    absolute path (or, where that is in another machine's cache of the hub, by its commit there) and
    the options that it was opened with:

    - unpickled, always;
    - in a forked process, at the first call, if it runs on a CPU. On a GPU it refuses.

    A door that is dropped without `close` frees its session when it is collected.

    Args:
        bundle: The bundle.
        graph: What the session runs.
        session: The session, which is closed with the door.
        options: What a subclass's `open` takes besides the path; None for a door that can't be
            opened again.
    """

    def __init__(
        self,
        bundle: Bundle,
        graph: GraphRecord,
        session: Session,
        options: Mapping[str, object] | None,
    ) -> None:
        self.bundle = bundle
        self._graph = graph
        # A relative path would mean another place in another process.
        self._path = bundle.path.absolute()
        self._options = options
        self._here = session
        self._process = os.getpid()
        self._is_closed = False
        # A lock for each process: one that a thread of the parent held at the fork stays held.
        self._locks: dict[int, threading.Lock] = {}

    def close(self) -> None:
        """Frees the session; a second call does nothing."""
        self._is_closed = True
        if self._process == os.getpid():
            self._here.close()

    @property
    def graph_sha256(self) -> str:
        """Digest of the graph that it runs, with its weights."""
        return graph_sha256(self.bundle, self._graph)

    def __reduce__(self) -> str | tuple[object, ...]:
        if self._options is None:
            return super().__reduce__()
        arguments = (type(self), self._path, self._graph, self.graph_sha256)
        return _open_again, (*arguments, dict(self._options))

    @property
    def _session(self) -> Session:
        """The session of this process.

        Raises:
            BackendError: The process was forked and can't open it, or has closed it.
            BundleError: The process was forked, and the bundle isn't there any more.
        """
        if self._process != os.getpid():
            self._enter_process()
        return self._here

    def _enter_process(self) -> None:
        with self._locks.setdefault(os.getpid(), threading.Lock()):
            if self._process == os.getpid():  # Another thread was here first.
                return
            if self._is_closed:
                raise BackendError("this session is closed")
            device = self._here.capabilities.device
            if self._options is None or not device.startswith("CPU"):
                raise BackendError(
                    f"this session on {device} was opened before the process forked",
                    mend="open the bundle in each process, or start processes by 'spawn'",
                )
            digest = graph_sha256(self.bundle, self._graph)
            again = _open_again(type(self), self._path, self._graph, digest, self._options)
            if again._graph != self._graph:
                raise _changed(self._path)
            self._here = again._here
            self._process = os.getpid()


def _open_again(
    kind: type[Door], path: Path, graph: GraphRecord, digest: str, options: Mapping[str, object]
) -> Door:
    """Opens a door in another process.

    Args:
        kind: Its class.
        path: The bundle.
        graph: What the first one ran.
        digest: That graph's, with its weights: the bundle must still hold it.
        options: As of `Door`.

    Raises:
        BundleError: The bundle isn't there, or is of another model by now.
        BackendError: No backend here can run it.
    """
    # Each class has an `open` of its own, with options of its own.
    again: Door = cast(Any, kind).open(reachable(path), **options)
    held = again.bundle.manifest.files.keys() >= {graph.file, *graph.data}
    if not held or graph_sha256(again.bundle, graph) != digest:
        again.close()
        raise _changed(path)
    return again


def _changed(path: Path) -> BundleError:
    return BundleError(
        f"{path} has changed since it was opened in another process",
        mend="open it anew in the first process, and pass that on",
    )
