"""What `magvit triton` writes, without a server: configurations, files, and what is left out."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from runtime.magvit_process import done, done_json, failed
from runtime.triton_config import config, parsed

from magvit_runtime import Bundle, InputError, Tokenizer, open_bundle
from magvit_runtime.bundle.manifest import GraphRecord, Preprocessing, TensorSpec
from magvit_runtime.cli.triton import triton
from magvit_runtime.serving.triton.config_text import Word, config_text, map_entries, tensor
from magvit_runtime.serving.triton.repository import RepositoryOptions, write_repository
from magvit_runtime.serving.triton.roles import input_of, outputs_of
from magvit_runtime.serving.triton.settings import ModelSettings, read_settings


def parameters(config: Any) -> dict[str, str]:
    return {name: value.string_value for name, value in config.parameters.items()}


def test_texts_lists_and_messages_are_read_as_they_were_meant() -> None:
    name = 'a "b"\\\n\té'
    text = config_text(
        {
            "name": name,
            "max_batch_size": 0,
            "input": [tensor("x", "float16", ("frames", 3)), tensor("y", "string", (1,))],
            "instance_group": [{"kind": Word("KIND_GPU"), "gpus": [0, 1], "profile": ["0", "1"]}],
            "parameters": map_entries({"k": {"string_value": "v"}, name: {"string_value": ""}}),
            "optimization": {"eager_batching": True},
        }
    )
    found = parsed(text)
    assert found.name == name
    assert [list(one.dims) for one in found.input] == [[-1, 3], [1]]
    assert [one.data_type for one in found.input] == [10, 13]
    assert list(found.instance_group[0].gpus) == [0, 1]
    assert list(found.instance_group[0].profile) == ["0", "1"]
    assert parameters(found) == {"k": "v", name: ""}
    assert found.optimization.eager_batching


def test_a_cpu_runs_requests_one_by_one(tiny_bundle: Path, tmp_path: Path) -> None:
    triton(tiny_bundle, output=tmp_path / "r", threads=2, instances=3)
    found = config(tmp_path / "r", "tokenizer")
    assert (found.name, found.backend, found.max_batch_size) == ("tokenizer", "python", 8)
    assert [(one.name, list(one.dims)) for one in found.input] == [("clips", [-1, -1, -1, 3])]
    assert [(one.name, list(one.dims)) for one in found.output] == [("ids", [-1, -1, -1])]
    assert [(one.kind, one.count) for one in found.instance_group] == [(2, 3)]
    assert not found.HasField("dynamic_batching")
    settings = read_settings(parameters(found))
    assert (settings.role, settings.threads, settings.batch_size) == ("encode", 2, 1)
    assert settings.item == (17, 128, 128, 3)
    detokenizer = config(tmp_path / "r", "detokenizer")
    assert read_settings(parameters(detokenizer)).item == (17, 64, 64)


def test_a_gpu_runs_batches_that_triton_makes(tiny_bundle: Path, tmp_path: Path) -> None:
    triton(tiny_bundle, output=tmp_path / "r", device="gpu", max_batch=16)
    found = config(tmp_path / "r", "tokenizer")
    assert found.max_batch_size == 16
    assert [(one.kind, one.count) for one in found.instance_group] == [(1, 1)]
    assert list(found.dynamic_batching.preferred_batch_size) == [8, 16]
    assert found.dynamic_batching.max_queue_delay_microseconds == 500
    assert read_settings(parameters(found)).batch_size == 8


def test_the_bundles_files_of_each_role_go_along(tiny_bundle: Path, tmp_path: Path) -> None:
    triton(tiny_bundle, output=tmp_path / "r", name_prefix="tiny-")
    names = {path.name for path in (tmp_path / "r" / "tiny-tokenizer" / "bundle").iterdir()}
    assert names == {"bundle.json", "encode.fp32.onnx", "encode.fp32.data"}
    shutil.move(tmp_path / "r", tmp_path / "elsewhere")
    Tokenizer.open(tmp_path / "elsewhere" / "tiny-tokenizer" / "bundle").close()


def test_a_link_leads_to_the_bundle(tiny_bundle: Path, tmp_path: Path) -> None:
    triton(tiny_bundle, output=tmp_path / "r", link=True)
    assert (tmp_path / "r" / "tokenizer" / "bundle").resolve() == tiny_bundle.resolve()


def pixels(*sizes: int | str) -> TensorSpec:
    return TensorSpec("frames", "uint8", ("batch", *sizes, 3), "pixels", "RGB", 0, 255)


def features_of(given: TensorSpec, rules: Preprocessing) -> GraphRecord:
    """A graph as those of VideoMAE and CLIP."""
    outputs = (
        TensorSpec("features", "float32", ("batch", 8, 48), "features", "of patches"),
        TensorSpec("pooled", "float32", ("batch", 48), "pooled", "their mean"),
    )
    return GraphRecord("features.onnx", (), (given,), outputs, preprocessing=rules)


def test_clips_that_are_fitted_may_have_any_size() -> None:
    rules = Preprocessing("NTHWC", "RGB", "x", frames=4, resizing=None, crop=(32, 32))
    graph = features_of(pixels(4, 32, 32), rules)
    assert input_of("features", graph).shape == ("frames", "height", "width", 3)
    assert [one.shape for one in outputs_of("features", graph, "none")] == [(8, 48)]
    assert [one.shape for one in outputs_of("features", graph, "mean")] == [(48,)]


def test_images_have_no_frames() -> None:
    graph = features_of(pixels(32, 32), Preprocessing("NHWC", "RGB", "x"))
    assert input_of("features", graph).shape == (32, 32, 3)


def test_what_no_class_serves_is_left_out(tiny_bundle: Path, tmp_path: Path) -> None:
    """Models that generate, and classifiers of several sources."""
    bundle = open_bundle(tiny_bundle)
    encode = bundle.graph("encode")[1]
    joined = msgspec.structs.replace(encode, inputs=(*encode.inputs, *encode.inputs))
    graphs = {"encode": {"fp32": encode}, "classify": {"fp32": joined}, "context": {"fp32": encode}}

    def with_graphs(*roles: str) -> Bundle:
        chosen = {role: graphs[role] for role in roles}
        return Bundle(tiny_bundle, msgspec.structs.replace(bundle.manifest, graphs=chosen))

    models, left_out = write_repository(
        with_graphs(*graphs), tmp_path / "r", RepositoryOptions(is_linked=True)
    )
    assert [one.name for one in models] == ["tokenizer"]
    assert {one.what: one.why.partition(":")[0] for one in left_out} == {
        "canary of tokenizer": "the bundle has no canary to compare it with at load",
        "classify": "no class serves classify graphs of pixels and pixels",
        "context": "models that generate aren't served",
    }
    with pytest.raises(InputError, match=r"nothing of .* can be served: found .*generate"):
        write_repository(with_graphs("context"), tmp_path / "none", RepositoryOptions())
    assert not (tmp_path / "none").exists()


def test_a_precision_that_a_role_lacks(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can be served: found it has no fp16 graph"):
        triton(tiny_bundle, output=tmp_path / "r", precision="fp16")


def test_the_command(tiny_bundle: Path, tmp_path: Path) -> None:
    facts = done_json("triton", tiny_bundle, "-o", tmp_path / "r")
    assert [one["name"] for one in facts["models"]] == ["tokenizer", "detokenizer"]
    assert [one["what"] for one in facts["left_out"]] == [
        "canary of tokenizer",
        "canary of detokenizer",
    ]
    assert facts["command"] == f"tritonserver --model-repository {tmp_path / 'r'}"
    text = done("triton", tiny_bundle, "-o", tmp_path / "other")
    assert f"Fix: magvit verify {tiny_bundle} --role decode" in text
    line = failed(2, "triton", tiny_bundle, "-o", tmp_path / "r")
    assert line == f"{tmp_path / 'r'} is there already. Fix: remove it, or choose another -o"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"instances": 0}, "--instances is out of range: found 0"),
        ({"max_batch": 0}, "--max-batch is out of range: found 0"),
        ({"queue_delay_us": -1}, "--queue-delay-us is out of range: found -1"),
        ({"name_prefix": "a/b"}, "no model of Triton's can have such a name: found a/b"),
        ({"threads": 0}, "`threads` must be positive"),
        ({"backend": "none"}, "no backend is named 'none'"),
    ],
)
def test_options_out_of_range(
    tiny_bundle: Path, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        triton(tiny_bundle, output=tmp_path / "r", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"threads": "two"}, "parameters of config.pbtxt are malformed: found .*threads"),
        ({"role": "dance"}, "parameters of config.pbtxt are malformed: found .*role"),
        ({"warm_up": "3x4"}, "parameter warm_up of config.pbtxt is malformed: found 3x4"),
    ],
)
def test_parameters_that_somebody_changed(changed: dict[str, str], words: str) -> None:
    given = {"role": "encode", "warm_up": "3,4", "EXECUTION_ENV_PATH": "/e.tar.gz"}
    assert read_settings(given).item == (3, 4)
    with pytest.raises(InputError, match=words):
        assert read_settings(given | changed).item


@pytest.mark.parametrize(
    ("threads", "instances", "expected"),
    [(None, 1, None), (None, 3, 2), (None, 9, 1), (5, 1, 5), (5, 3, 5)],
)
def test_instances_share_eight_cpus(
    threads: int | None, instances: int, expected: int | None
) -> None:
    settings = ModelSettings(role="encode", warm_up="3,4", threads=threads)
    assert settings.cpu_threads(instances, 8) == expected
