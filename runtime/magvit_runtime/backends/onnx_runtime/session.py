"""ONNX Runtime runs every bundle, on CUDA if its build has it."""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnxruntime

from magvit_runtime.backends.backend import Capabilities, State
from magvit_runtime.backends.onnx_runtime.cache_state import CacheState
from magvit_runtime.bundle.external_data import external_data
from magvit_runtime.closing import Closing, freed_with
from magvit_runtime.errors import BackendError, MagvitError, first_line
from magvit_runtime.types import Array

# If no GPU can be used, ONNX Runtime itself falls back on the CPU; `capabilities` then says so.
_CPU: tuple[str, dict[str, str]] = ("CPUExecutionProvider", {})
_DEVICES = {"CPUExecutionProvider": "CPU", "CUDAExecutionProvider": "CUDA"}


class OnnxRuntimeSession(Closing):
    """A graph in ONNX Runtime's CPU provider, or in its CUDA provider if that can be used.

    Thread-safe: any number of threads may call `run` at once; each call's work is spread over the
    session's own pool of threads. `close` must not overlap with a `run`. It stays in the process
    that opened it; in a forked one a `Door` opens another.

    Args:
        graph: An ONNX file.
        precision: Its precision, for the record.
        threads: CPU threads of one run; None is the library's own choice.
        reason: Why, for the record.
        gpu: Which GPU, if this build can use one; None is the CPU.
        in_turn: Whether it runs in turn with another session, and its threads sleep in between.
    """

    def __init__(
        self,
        graph: Path,
        *,
        precision: str,
        threads: int | None,
        reason: str,
        gpu: int | None = 0,
        in_turn: bool = False,
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3
        if in_turn:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session: onnxruntime.InferenceSession | None = _load(
                graph, options, [_CPU] if gpu is None else _providers(precision, gpu)
            )
        except MagvitError:
            raise
        except Exception as error:  # ONNX Runtime's own exceptions share no base of their own.
            raise BackendError(
                f"ONNX Runtime can't load {graph}", found=first_line(error)
            ) from error
        self._free = freed_with(self, _let_go, self._session)
        self.capabilities = Capabilities(
            backend="onnxruntime",
            version=onnxruntime.__version__,
            device=_DEVICES[self._session.get_providers()[0]],
            precision=precision,
            threads=threads or 0,
            reason=reason,
            stateful=in_turn,
        )

    @property
    def stage_times(self) -> None:
        """None: ONNX Runtime's GPU runs go through its own provider, and aren't measured."""

    def new_state(self, batch: int, rows: int) -> CacheState:
        """An empty state; see `StatefulSession.new_state`."""
        if self._session is None:
            raise BackendError("this session is closed")
        return CacheState(self._session, batch, rows)

    def run(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], state: State | None = None
    ) -> list[Array]:
        """Runs the graph once; see `Session.run` and `StatefulSession.run`."""
        if self._session is None:
            raise BackendError("this session is closed")
        if state is not None and not isinstance(state, CacheState):
            raise BackendError("this state isn't of ONNX Runtime", found=type(state).__name__)
        try:
            if state is not None:
                return state.run(self._session, inputs, outputs)
            results: list[Array] = self._session.run(list(outputs), dict(inputs))
        except MagvitError:
            raise
        except Exception as error:  # As above.
            raise BackendError("ONNX Runtime failed", found=first_line(error)) from error
        return results

    def close(self) -> None:
        """Frees the graph and its threads."""
        self._session = None
        self._free()


def _let_go(session: onnxruntime.InferenceSession) -> None:
    """Does nothing: the last reference to a session frees it."""


def _load(
    graph: Path,
    options: onnxruntime.SessionOptions,
    providers: list[tuple[str, dict[str, str]]],
) -> onnxruntime.InferenceSession:
    """Loads a graph, by its path or from memory.

    ONNX Runtime refuses weights behind links, and takes no path that isn't UTF-8. The digests were
    checked, and the links followed no further than a bundle allows, before the graph comes here.
    """
    path = str(graph)
    if path.isprintable() and not any(file.is_symlink() for file in graph.parent.iterdir()):
        return onnxruntime.InferenceSession(path, options, providers=providers)
    names = list(dict.fromkeys(external_data(graph)))
    contents = [_mapped(graph.parent / name) for name in names]  # Held until all is copied.
    sizes = [len(content) for content in contents]
    options.add_external_initializers_from_files_in_memory(names, contents, sizes)
    return onnxruntime.InferenceSession(graph.read_bytes(), options, providers=providers)


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _providers(precision: str, gpu: int) -> list[tuple[str, dict[str, str]]]:
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return [_CPU]
    # TF32 rounds the convs' inputs; float32 means float32 here unless TF32 was asked for.
    use_tf32 = "1" if precision == "tf32" else "0"
    cuda = {
        "device_id": str(gpu),
        "use_tf32": use_tf32,
        "cudnn_conv_algo_search": "EXHAUSTIVE",
    }
    return [("CUDAExecutionProvider", cuda), _CPU]
