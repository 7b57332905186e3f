"""Spans of OpenTelemetry, in a process that has set a provider of them; elsewhere nothing at all.

They go through OpenTelemetry's API, the extra [telemetry]. Nothing is imported for them: a process
that collects spans has imported the API itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from time import time_ns
from typing import Any, ParamSpec, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_Given = ParamSpec("_Given")
# What a span says: numbers, texts, and lists of numbers by name.
Facts = Mapping[str, int | float | str | Sequence[int]]

_OFF: AbstractContextManager[None] = nullcontext()
_END: Any = object()
_NANOSECONDS = 1_000_000_000


def is_on() -> bool:
    """Whether the process collects spans."""
    return _tracer() is not None


def span(name: str, facts: Callable[[], Facts]) -> AbstractContextManager[Any]:
    """A span of what the block does, below the one that is current; an error in it is noted.

    Args:
        name: What is done, as "tokenize"; the span's name is "magvit.tokenize".
        facts: Gives its attributes, which get "magvit." before their names too. It isn't called
            where no spans are collected.
    """
    tracer = _tracer()
    if tracer is None:
        return _OFF
    started: AbstractContextManager[Any] = tracer.start_as_current_span(
        _full(name), attributes=_attributes(facts())
    )
    return started


def add_facts(started: Any, facts: Facts) -> None:
    """Adds to what a span says.

    Args:
        started: What `span` gave its block: None where no spans are collected.
        facts: As of `span`.
    """
    if started is not None:
        started.set_attributes(_attributes(facts))


def each(name: str, items: Iterable[_Item], facts: Callable[[_Item], Facts]) -> Iterator[_Item]:
    """The same items, with a span of the time in which each was made.

    Args:
        name: What makes an item.
        items: Each is made when it is asked for.
        facts: Gives the attributes of an item's span.
    """
    iterator = iter(items)
    while (tracer := _tracer()) is not None:
        started = tracer.start_span(_full(name))
        try:
            with sys.modules["opentelemetry.trace"].use_span(started):
                item = next(iterator, _END)
        except BaseException:
            started.end()
            raise
        if item is _END:
            return  # A span that isn't ended is never seen.
        started.set_attributes(_attributes(facts(item)))
        started.end()
        yield item
    yield from iterator


def past_stages(names: Sequence[str], seconds: Sequence[float]) -> None:
    """Spans of stages that another clock timed, one after another, the last of which ended now.

    Args:
        names: What the stages do.
        seconds: How long each took.
    """
    tracer = _tracer()
    if tracer is None:
        return
    start = time_ns() - round(sum(seconds) * _NANOSECONDS)
    for name, duration in zip(names, seconds, strict=True):
        end = start + round(duration * _NANOSECONDS)
        tracer.start_span(_full(name), start_time=start).end(end)
        start = end


def carried(function: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
    """The same function for another thread, where its spans lie below the one that is current."""
    context = copy_context()

    def run(*arguments: _Given.args, **options: _Given.kwargs) -> _Result:
        return context.run(function, *arguments, **options)

    return run


def _tracer() -> Any | None:
    """What makes spans; None in a process that collects none."""
    api = sys.modules.get("opentelemetry.trace")
    # Another thread may be importing it just now.
    if api is None or not hasattr(api, "get_tracer_provider"):
        return None
    provider = api.get_tracer_provider()
    if type(provider) in (api.ProxyTracerProvider, api.NoOpTracerProvider):
        return None
    return provider.get_tracer("magvit_runtime")


def _full(name: str) -> str:
    return f"magvit.{name}"


def _attributes(facts: Facts) -> dict[str, object]:
    return {_full(name): value for name, value in facts.items()}
