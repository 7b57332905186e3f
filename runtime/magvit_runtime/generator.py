"""Classes in, token ids out: images made token by token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.backends.backend import Capabilities
from magvit_runtime.backends.opening import BackendName, check_options
from magvit_runtime.bundle.manifest import GenerationSpec, Precision
from magvit_runtime.bundle.reading import Bundle, open_bundle
from magvit_runtime.closing import Closing
from magvit_runtime.errors import BundleError, InputError
from magvit_runtime.sampling import Sampling, checked, choose
from magvit_runtime.stateful_role import StatefulRole
from magvit_runtime.types import Array

Pair = tuple[float, float]
Counts = tuple[int, int]
DEFAULT_BATCH = 4


class Context(StatefulRole):
    """The large transformer: tokens so far to a hidden state."""

    ROLE = "context"


class Subtokens(StatefulRole):
    """The small transformer: a hidden state to the logits of both parts of a token."""

    ROLE = "subtokens"


class Generator(Closing):
    """The autoregressive model of a bundle, ready to run. Open one with `Generator.open`.

    Thread-safe: any number of threads may generate at once, each with a cache of its own. It can be
    pickled, and used in a forked process, as `Tokenizer` can.

    Example:
        >>> with Generator.open("ar") as generator, Detokenizer.open("ar") as detokenizer:
        ...     ids = generator([207, 88], seed=1)  # -> int32 [2, 16, 16]
        ...     images = detokenizer(ids)  # -> uint8 [2, 256, 256, 3]
    """

    def __init__(self, context: Context, subtokens: Subtokens, batch_size: int) -> None:
        self._context, self._subtokens = context, subtokens
        self._batch_size = batch_size
        self._spec = _generation(context.bundle)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        backend: BackendName | str = "auto",
        precision: Precision | None = None,
        threads: int | None = None,
        batch_size: int = DEFAULT_BATCH,
        require_parity: bool = False,
    ) -> Self:
        """Opens a bundle's two graphs, after checking its files against their digests.

        Args:
            path: The bundle's directory, or its address on the hub: hf://OWNER/NAME@REVISION.
            backend: Which backend; "auto" takes the best that this machine can do.
            precision: Which of the bundle's graphs; None takes the most precise. "int8" are those
                with weights of 8 bits.
            threads: CPU threads of one run; None is the backend's own choice.
            batch_size: Images that are made together; each has a cache, and with guidance two.
            require_parity: Refuse graphs that haven't passed `magvit verify` as they are now.

        Raises:
            BundleError: There is no sound bundle at `path`, it generates nothing, or no valid stamp
                is there where one is required.
            BackendError: No backend here can run it.
            InputError: An option is out of range.
        """
        if batch_size < 1:
            raise InputError("`batch_size` must be positive", found=batch_size)
        check_options(backend, threads)
        bundle = open_bundle(path)
        _generation(bundle)
        options = {
            "backend": backend,
            "precision": precision,
            "threads": threads,
            "require_parity": require_parity,
        }
        context = Context.open(bundle.path, **options)  # type: ignore[arg-type]
        try:
            subtokens = Subtokens.open(bundle.path, **options)  # type: ignore[arg-type]
        except BaseException:
            context.close()
            raise
        return cls(context, subtokens, batch_size)

    def close(self) -> None:
        """Frees both sessions; a second call does nothing."""
        self._context.close()
        self._subtokens.close()

    def __reduce__(self) -> str | tuple[object, ...]:
        return type(self), (self._context, self._subtokens, self._batch_size)

    @property
    def bundle(self) -> Bundle:
        """The bundle."""
        return self._context.bundle

    @property
    def capabilities(self) -> Capabilities:
        """What it runs on, and why."""
        return self._context.capabilities

    @property
    def classes(self) -> int:
        """How many classes there are: 0 .. classes - 1."""
        return self._spec.classes

    @property
    def grid(self) -> tuple[int, int]:
        """Rows of tokens of an image, and tokens of a row."""
        return self._spec.grid

    @property
    def sampling(self) -> Sampling:
        """The settings that are taken where a call gives none."""
        return self._spec.sampling

    def __call__(
        self,
        classes: Sequence[int] | NDArray[np.integer],
        *,
        seed: int = 0,
        temperature: Pair | None = None,
        guidance: Pair | None = None,
        top_k: Counts | None = None,
        top_p: Pair | None = None,
        uniforms: NDArray[np.float64] | None = None,
    ) -> NDArray[np.int32]:
        """Token ids of one image for each class.

        The settings are those of `sampling.Sampling`, a pair each: of the first and of the second
        part of a token. What isn't given is the model's own (`Generator.sampling`).

        Args:
            classes: [N] in 0 .. `classes` - 1.
            seed: Of the random numbers; the first images are the same however many follow.
            temperature: What logits are divided by; below 1e-5 it is 1e-5, which is greedy choice.
            guidance: Scale of classifier-free guidance; up to 1 it is off.
            top_k: Only the k most probable values are taken; 0 is all.
            top_p: Only the most probable values with this share together are taken.
            uniforms: The random numbers themselves in place of a seed: float64 [N, positions, 2]
                in 0 .. 1, 1 excluded, one for each part of each token.

        Returns:
            int32 [N, rows, columns], as `Tokenizer` gives them.

        Raises:
            InputError: A class, a setting or the random numbers are out of their range.
            BackendError: The backend failed.
            BundleError: A graph gives something else than its manifest says.
        """
        settings = checked(self._spec.sampling, guidance, temperature, top_k, top_p)
        chosen = self._classes(classes, self.classes)
        numbers = self._numbers(len(chosen), seed, uniforms)
        parts = []
        for first in range(0, len(chosen), self._batch_size):
            part = slice(first, first + self._batch_size)
            parts.append(np.stack([*self._rows(chosen[part], numbers[part], settings)], axis=1))
        return np.concatenate(parts)

    def stream(
        self,
        classes: Sequence[int] | NDArray[np.integer],
        *,
        seed: int = 0,
        temperature: Pair | None = None,
        guidance: Pair | None = None,
        top_k: Counts | None = None,
        top_p: Pair | None = None,
        uniforms: NDArray[np.float64] | None = None,
    ) -> Iterator[NDArray[np.int32]]:
        """The rows of the images as they are written, from the top: int32 [N, columns] each.

        Arguments and errors are those of a call; all images are made together.
        """
        settings = checked(self._spec.sampling, guidance, temperature, top_k, top_p)
        chosen = self._classes(classes, self.classes)
        numbers = self._numbers(len(chosen), seed, uniforms)
        return self._rows(chosen, numbers, settings)

    def logits(
        self, classes: Sequence[int] | NDArray[np.integer], ids: NDArray[np.int32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits of given tokens, each given those before it, without guidance or temperature.

        Args:
            classes: [N] in 0 .. `classes`; the number `classes` is the null class of guidance.
            ids: int32 [N, rows, columns].

        Returns:
            float32 [N, positions, values] of the first and of the second part of each token; the
            second given the first.

        Raises:
            InputError, BackendError, BundleError: As of a call.
        """
        rows, columns = self.grid
        chosen = self._classes(classes, self.classes + 1)
        if not isinstance(ids, np.ndarray) or ids.shape != (len(chosen), rows, columns):
            raise InputError(
                "ids don't fit the classes",
                found=list(getattr(ids, "shape", [])) or type(ids).__name__,
                expected=f"int32 {[len(chosen), rows, columns]}",
            )
        self._context.check("ids", "ids", ids.reshape(len(ids), -1))
        parts = []
        for first in range(0, len(chosen), self._batch_size):
            part = slice(first, first + self._batch_size)
            parts.append(self._forced(chosen[part], ids[part].reshape(-1, rows * columns)))
        pre, post = zip(*parts, strict=True)
        return np.concatenate(pre), np.concatenate(post)

    def draw(self, count: int, seed: int) -> NDArray[np.float64]:
        """The random numbers that a seed stands for: float64 [count, positions, 2] in 0 .. 1.

        Row by row of one stream, so that an image's numbers don't depend on how many follow it.

        Raises:
            InputError: The seed is negative.
        """
        if seed < 0:
            raise InputError("`seed` must not be negative", found=seed)
        rows, columns = self.grid
        return np.random.default_rng(seed).random((count, rows * columns, 2))

    def _rows(
        self, classes: NDArray[np.int32], uniforms: NDArray[np.float64], settings: Sampling
    ) -> Iterator[NDArray[np.int32]]:
        """Generates rows of tokens; with guidance, rows of the null class go along."""
        count, (rows, columns) = len(classes), self.grid
        copies = 2 if settings.is_guided else 1
        together = np.concatenate([classes, np.full_like(classes, self.classes)][:copies])
        state = self._context.new_state(len(together), rows * columns)
        before = np.zeros((len(together), 1), np.int32)
        shifts = (0, self._spec.pre_bits)
        for row in uniforms.reshape(count, rows, columns, 2).swapaxes(0, 1):
            made = np.zeros((count, columns), np.int32)
            for column in range(columns):
                fed = {"classes": together, "ids": before}
                hidden = self._context.run(fed, "hidden", state)[:, 0]
                values = np.zeros(len(together), np.int32)
                for part, name in enumerate(("logits_pre", "logits_post")):
                    logits = self._subtokens.run({"hidden": hidden, "pre": values}, name)
                    null = logits[count:] if settings.is_guided else None
                    value = choose(logits[:count], null, row[:, column, part], settings, part)
                    values = np.tile(value, copies)
                    made[:, column] += value << shifts[part]
                before = np.tile(made[:, column], copies)[:, None]
            yield made

    def _forced(
        self, classes: NDArray[np.int32], ids: NDArray[np.int32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits of [N, positions] ids, a row of the grid at a time."""
        count, positions = ids.shape
        state = self._context.new_state(count, positions)
        before = np.concatenate((np.zeros_like(ids[:, :1]), ids[:, :-1]), axis=1)
        pre = ids % (1 << self._spec.pre_bits)
        made: dict[str, list[Array]] = {"logits_pre": [], "logits_post": []}
        for first in range(0, positions, self.grid[1]):
            part = slice(first, first + self.grid[1])
            hidden = self._context.run(
                {"classes": classes, "ids": before[:, part]}, "hidden", state
            )
            fed = {"hidden": hidden.reshape(-1, hidden.shape[-1]), "pre": pre[:, part].reshape(-1)}
            for name, logits in made.items():
                logits.append(self._subtokens.run(fed, name).reshape(count, hidden.shape[1], -1))
        first_part, second_part = (np.concatenate(logits, axis=1) for logits in made.values())
        return first_part, second_part

    def _classes(self, classes: object, count: int) -> NDArray[np.int32]:
        """Classes as an array.

        Raises:
            InputError: They aren't whole numbers in 0 .. count - 1, or there are none.
        """
        array = np.asarray(classes)
        if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iu":
            found = f"{array.dtype} {list(array.shape)}" if array.dtype != object else classes
            raise InputError(
                "`classes` aren't a list of classes", found=found, expected="whole numbers, [N]"
            )
        wrong = array[(array < 0) | (array >= count)]
        if wrong.size:
            raise InputError(
                "this model has no such class", found=wrong[0], expected=f"0 to {count - 1}"
            )
        return array.astype(np.int32)

    def _numbers(self, count: int, seed: int, uniforms: object) -> NDArray[np.float64]:
        """The random numbers of a call: [N, positions, 2].

        Raises:
            InputError: The seed is negative, or the given numbers are none of 0 .. 1.
        """
        rows, columns = self.grid
        shape = (count, rows * columns, 2)
        if uniforms is None:
            return self.draw(count, seed)
        if (
            not isinstance(uniforms, np.ndarray)
            or uniforms.dtype != np.float64
            or uniforms.shape != shape
        ):
            raise InputError(
                "`uniforms` don't fit the classes",
                found=f"{uniforms.dtype} {list(uniforms.shape)}"
                if isinstance(uniforms, np.ndarray)
                else type(uniforms).__name__,
                expected=f"float64 {list(shape)}",
            )
        if not ((uniforms >= 0) & (uniforms < 1)).all():
            raise InputError("`uniforms` are out of range", expected="0 to 1, 1 excluded")
        return uniforms


def _generation(bundle: Bundle) -> GenerationSpec:
    spec = bundle.manifest.generation
    if spec is None:
        raise BundleError(
            f"{bundle.path} generates nothing: it is a bundle of {bundle.manifest.model}",
            mend="export a model that generates, such as open-magvit2-ar-b",
        )
    return spec
