"""What Triton's Python backend runs of a repository: a role of a bundle, for batches of requests.

The backend brings `triton_python_backend_utils`; this module can be imported nowhere else. Each
instance is a process of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from magvit_runtime.errors import InputError, MagvitError
from magvit_runtime.hardware.cpu import usable_cpus
from magvit_runtime.serving.triton.batching import Answer, answers
from magvit_runtime.serving.triton.roles import ServedRole, open_served
from magvit_runtime.serving.triton.settings import read_settings


class TritonPythonModel:
    """One instance of a model; Triton calls `initialize`, `execute` and `finalize`."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Opens the role, compares it with the bundle's canary, and warms it up.

        Args:
            args: Triton's facts: `model_config` (JSON), `model_repository` (the model's folder),
                `model_name`, `model_instance_kind` and `model_instance_device_id`.

        Raises:
            TritonModelException: It can't be opened, or isn't the model any more; in our words.
        """
        config = json.loads(args["model_config"])
        self._input: str = config["input"][0]["name"]
        self._outputs: list[str] = [one["name"] for one in config["output"]]
        try:
            self._served = _opened(args, config)
        except MagvitError as error:
            raise pb_utils.TritonModelException(str(error)) from None
        self._answered = _Counter("magvit_clips_total", "Clips answered", args)
        self._refused = _Counter("magvit_clips_refused_total", "Clips of wrong requests", args)
        self._failed = _Counter("magvit_clips_failed_total", "Clips that the model failed on", args)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answers requests, each with its outputs or with an error of its own."""
        arrays = [
            pb_utils.get_input_tensor_by_name(request, self._input).as_numpy()
            for request in requests
        ]
        found = answers(self._served.run, arrays)
        for counter in (self._answered, self._refused, self._failed):
            pairs = zip(arrays, found, strict=True)
            counter.add(sum(len(items) for items, one in pairs if self._counter_of(one) is counter))
        return [self._response(one) for one in found]

    def finalize(self) -> None:
        """Frees what the role holds, once all requests are answered."""
        self._served.door.close()

    def _counter_of(self, answer: Answer) -> _Counter:
        if not isinstance(answer, MagvitError):
            return self._answered
        return self._refused if isinstance(answer, InputError) else self._failed

    def _response(self, answer: Answer) -> Any:
        if isinstance(answer, MagvitError):
            is_input = isinstance(answer, InputError)
            code = pb_utils.TritonError.INVALID_ARG if is_input else pb_utils.TritonError.INTERNAL
            error = pb_utils.TritonError(str(answer), code)
            return pb_utils.InferenceResponse(output_tensors=[], error=error)
        tensors = [pb_utils.Tensor(name, answer[name]) for name in self._outputs]
        return pb_utils.InferenceResponse(output_tensors=tensors)


class _Counter:
    """A counter among Triton's metrics, of one model; instances of the model share it.

    It counts nothing where the server was started without metrics.
    """

    def __init__(self, name: str, description: str, args: Mapping[str, str]) -> None:
        labels = {"model": args["model_name"], "version": args["model_version"]}
        # The family must live as long as its metric.
        self._family = pb_utils.MetricFamily(
            name=name, description=description, kind=pb_utils.MetricFamily.COUNTER
        )
        self._metric = self._family.Metric(labels=labels)

    def add(self, count: int) -> None:
        """Adds to the counter. Each change is a message to the server, so none is sent for 0."""
        if count:
            self._metric.increment(count)


def _opened(args: Mapping[str, str], config: Mapping[str, Any]) -> ServedRole:
    """The role that a model's configuration names, warmed up."""
    given = {name: value["string_value"] for name, value in config["parameters"].items()}
    settings = read_settings(given)
    is_gpu = args["model_instance_kind"] == "GPU"
    instances = sum(group["count"] for group in config["instance_group"])
    served = open_served(
        Path(args["model_repository"]) / "bundle",
        settings.role,
        settings.pool,
        backend=settings.backend,
        precision=settings.precision,
        threads=settings.threads if is_gpu else settings.cpu_threads(instances, usable_cpus()),
        batch_size=settings.batch_size,
        canary=settings.canary,
        device=f"cuda:{args['model_instance_device_id']}" if is_gpu else "cpu",
    )
    batches = [1]
    while batches[-1] < settings.batch_size:
        batches.append(min(2 * batches[-1], settings.batch_size))
    try:
        served.warm_up(settings.item, batches)
    except BaseException:
        served.door.close()
        raise
    return served
