"""Several devices behind one session, at the seam below it, and with CPUs as two devices."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from known_machines import known_gpu, known_machine
from numpy.typing import NDArray

from magvit_runtime import BackendError, Detokenizer, InputError, Tokenizer
from magvit_runtime.backends.backend import Capabilities, Session
from magvit_runtime.backends.device_pool import DevicePool, PooledDevice, open_pool
from magvit_runtime.bundle.manifest import GraphRecord
from magvit_runtime.hardware.devices import gpu_number, gpu_numbers
from magvit_runtime.hardware.machine import Machine

PATIENCE = 60
FACTS = Capabilities("toy", "1", "GPU", "fp32", 0, "asked for", workers=1)
GPUS = tuple(
    replace(known_gpu(name, "8.9"), uuid=uuid)
    for name, uuid in (("L4", "GPU-aa11"), ("L40S", "GPU-aa22"))
)


class OneDevice:
    """A device that doubles its input, as slowly and as rightly as it is told to."""

    stage_times = None

    def __init__(self, facts: Capabilities = FACTS) -> None:
        self.capabilities = facts
        self.seen: list[int] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.fails_at = -1
        self.at_once = self.most_at_once = 0
        self.is_closed = False

    def run(self, inputs: Mapping[str, Any], _outputs: Sequence[str]) -> list[Any]:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            assert self.may_go_on.wait(PATIENCE)
            (number,) = inputs["x"]
            self.seen.append(int(number))
            if number == self.fails_at:
                raise BackendError("it is too hot", found="95 °C", mend="cool it")
            return [inputs["x"] * 2]
        finally:
            self.at_once -= 1

    def close(self) -> None:
        self.is_closed = True


def pool_of(*devices: OneDevice) -> DevicePool:
    pooled = [PooledDevice(f"cuda:{i}", cast(Session, one)) for i, one in enumerate(devices)]
    return DevicePool(cast(GraphRecord, None), pooled)


def batches(count: int) -> Iterator[dict[str, NDArray[Any]]]:
    for number in range(count):
        yield {"x": np.array([number])}


def test_a_slow_device_delays_its_own_batches_alone() -> None:
    slow, quick = OneDevice(), OneDevice()
    slow.may_go_on.clear()
    with pool_of(slow, quick) as pool:
        released: list[int] = []

        def given() -> Iterator[dict[str, NDArray[Any]]]:
            yield from batches(40)
            released.extend(quick.seen)
            slow.may_go_on.set()  # Only now: all but the slow one's batch are done or under way.

        results = [int(out[0][0]) for out in pool.run_each(given(), ["y"])]
    assert results == [2 * number for number in range(40)]
    # The first batch went to the slow device; the other has done all that came, up to what was
    # read ahead.
    assert slow.seen[0] == 0
    assert len(released) >= 35
    assert sorted(slow.seen + quick.seen) == list(range(40))


def test_each_device_has_as_many_batches_as_its_workers() -> None:
    two, one = OneDevice(replace(FACTS, workers=2)), OneDevice()
    two.may_go_on.clear()
    one.may_go_on.clear()
    with pool_of(two, one) as pool:
        assert pool.capabilities.workers == 3

        def given() -> Iterator[dict[str, NDArray[Any]]]:
            yield from batches(6)
            deadline = time.monotonic() + PATIENCE
            while (two.at_once, one.at_once) != (2, 1) and time.monotonic() < deadline:
                time.sleep(0.001)
            two.may_go_on.set()
            one.may_go_on.set()

        assert len(list(pool.run_each(given(), ["y"]))) == 6
    assert (two.most_at_once, one.most_at_once) == (2, 1)


def test_a_device_that_fails_is_named_and_outputs_before_it_are_given() -> None:
    sound, hot = OneDevice(), OneDevice()
    hot.fails_at = sound.fails_at = 5
    with pool_of(sound, hot) as pool:
        results = pool.run_each(batches(50), ["y"])
        for number in range(5):
            assert next(results)[0] == [2 * number]
        with pytest.raises(
            BackendError, match=r"cuda:[01] failed: it is too hot: found 95 °C. Fix: cool it"
        ):
            next(results)
        # It goes on being used: the next call finds all devices free.
        assert [int(out[0][0]) for out in pool.run_each(batches(4), ["y"])] == [0, 2, 4, 6]


def test_outputs_before_a_bad_batch_are_given() -> None:
    devices = OneDevice(), OneDevice()

    def given() -> Iterator[dict[str, NDArray[Any]]]:
        for device in devices:
            device.may_go_on.clear()
        yield from batches(3)
        for device in devices:
            device.may_go_on.set()  # Nothing has been computed when it fails.
        raise InputError("a bad clip")

    with pool_of(*devices) as pool:
        results = pool.run_each(given(), ["y"])
        assert [int(next(results)[0][0]) for _ in range(3)] == [0, 2, 4]
        with pytest.raises(InputError, match="a bad clip"):
            next(results)


def test_devices_of_several_precisions_are_refused() -> None:
    with pytest.raises(
        BackendError, match=r"several precisions: found cuda:0 toy fp32, cuda:1 toy fp16"
    ):
        pool_of(OneDevice(), OneDevice(replace(FACTS, precision="fp16")))


def test_what_was_opened_is_closed_when_a_device_cannot_be() -> None:
    first = OneDevice()

    def open_one(place: int) -> tuple[GraphRecord, Session]:
        if place == 1:
            raise BackendError("no memory", mend="free some")
        return cast(GraphRecord, None), cast(Session, first)

    with pytest.raises(BackendError, match=r"cuda:1 can't be opened: no memory. Fix: free some"):
        open_pool(["cuda:0", "cuda:1"], open_one)
    assert first.is_closed


def test_a_closed_pool_says_so() -> None:
    device = OneDevice()
    pool = pool_of(device, OneDevice())
    pool.close()
    assert device.is_closed
    with pytest.raises(BackendError, match="this session is closed"):
        pool.run({"x": np.array([1])}, ["y"])


# Two sessions of the CPU's backend as two devices.


def clips(count: int, frames: int = 3) -> NDArray[np.uint8]:
    shape = (count, frames, 16, 24, 3)
    return np.random.default_rng(frames).integers(0, 256, shape, dtype=np.uint8)


def test_two_devices_give_what_one_gives(tiny_bundle: Path) -> None:
    with (
        Tokenizer.open(tiny_bundle, device="cpu", threads=1) as one,
        Tokenizer.open(tiny_bundle, devices=["cpu", "cpu"], threads=1, batch_size=2) as two,
    ):
        assert (one.capabilities.devices, two.capabilities.devices) == ((), ("cpu", "cpu"))
        assert two.capabilities.device == one.capabilities.device
        two.warm_up((3, 16, 24, 3))
        given = clips(7)
        expected = one(given)
        np.testing.assert_array_equal(two(given), expected)
        np.testing.assert_array_equal(two.latents(given), one.latents(given))
        # Batches of several sizes, in order, and a bad one after good ones.
        parts = [given[:3], given[3:4], given[4:], given[0]]
        results = two.stream(parts)
        for part, ids in zip(np.split(expected, [3, 4]), results, strict=False):
            np.testing.assert_array_equal(ids, part)
        with pytest.raises(InputError, match="clips"):
            next(results)
        with pytest.raises(BackendError, match="takes no arrays on a GPU"):
            two.encode_device(given)
        again = pickle.loads(pickle.dumps(two))
        with again:
            assert again.capabilities.devices == ("cpu", "cpu")
            np.testing.assert_array_equal(again(given[:1]), expected[:1])


def test_a_device_that_the_backend_does_not_use_is_refused(tiny_bundle: Path) -> None:
    with pytest.raises(BackendError, match=r"no device cuda:1: found no NVIDIA GPU"):
        Tokenizer.open(tiny_bundle, device="cuda:1")
    with pytest.raises(BackendError, match=r"shows this process no GPU"):
        Detokenizer.open(tiny_bundle, devices="all")
    with pytest.raises(InputError, match="exclude each other"):
        Tokenizer.open(tiny_bundle, device="cpu", devices=["cpu"])


# Names.


def two_gpus() -> Machine:
    machine = known_machine(gpu=None, plugin_interface=1)
    vars(machine).update(gpus=GPUS)
    return machine


@pytest.mark.parametrize(
    ("name", "number"),
    [("cpu", None), ("cuda", 0), ("cuda:1", 1), ("GPU-aa2", 1), ("GPU-aa11", 0)],
)
def test_names_of_devices(name: str, number: int | None) -> None:
    assert gpu_number(name, two_gpus()) == number


@pytest.mark.parametrize("name", ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "1"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(InputError, match="no device is called so"):
        gpu_number(name, two_gpus())


@pytest.mark.parametrize("name", ["cuda:2", "GPU-aa", "GPU-b"])
def test_a_gpu_that_is_not_shown(name: str) -> None:
    with pytest.raises(BackendError, match=rf"no device {name}: found cuda:0 L4 GPU-aa11, cuda:1"):
        gpu_number(name, two_gpus())


def test_a_part_of_a_gpu_is_seen_by_one_variable_only() -> None:
    with pytest.raises(BackendError, match="CUDA_VISIBLE_DEVICES=MIG-5 before the process"):
        gpu_number("MIG-5", two_gpus())


def test_names_of_several_devices() -> None:
    assert gpu_numbers("all", two_gpus()) == (0, 1)
    assert gpu_numbers(["cuda:1", "cpu"], two_gpus()) == (1, None)
    for names in (["cuda:1", "GPU-aa22"], []):
        with pytest.raises(InputError, match="names each GPU once"):
            gpu_numbers(names, two_gpus())
    with pytest.raises(InputError, match='"all" or a list'):
        gpu_numbers("cuda:0", two_gpus())


def test_a_machine_whose_sessions_use_another_gpu() -> None:
    machine = two_gpus()
    assert machine.gpu == GPUS[0]
    assert machine.on(1).gpu == GPUS[1]
    assert machine.on(1).plugin_interface == 1
    assert (machine.on(None).gpu, machine.on(None).gpus) == (None, ())
