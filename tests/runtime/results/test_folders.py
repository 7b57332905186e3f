"""Folders on a disk and in an object store: a run goes through either, with equal bytes."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from magvit_runtime import InputError, MagvitError
from magvit_runtime.cli.folder_runs import RunOptions
from magvit_runtime.cli.tokenize import tokenize
from magvit_runtime.clips.trajectories import StyleOptions
from magvit_runtime.results.folders import is_folder_place, open_folder, place_of
from magvit_runtime.results.token_files import read_tokens

BUCKET = "s3://bucket"


@pytest.fixture(scope="module")
def store() -> Iterator[None]:
    """A server that speaks S3, where pyarrow finds it."""
    server_of = pytest.importorskip("moto.server", reason="the extra [dev] has an S3 server")
    boto3 = pytest.importorskip("boto3", reason="comes with it")
    server = server_of.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {
                "AWS_ACCESS_KEY_ID": "us",
                "AWS_SECRET_ACCESS_KEY": "secret",
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            }.items():
                patch.setenv(name, value)
            boto3.client("s3").create_bucket(Bucket="bucket")
            yield
    finally:
        server.stop()


@pytest.fixture(params=["path", "file", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        request.getfixturevalue("store")
        return f"{BUCKET}/{tmp_path.name}"
    return f"file://{tmp_path}/folder" if request.param == "file" else f"{tmp_path}/folder"


def test_files_are_written_listed_read_and_removed(place: str) -> None:
    folder = open_folder(place)
    assert folder.sizes() == {}
    for name in ("b/c.txt", "a.txt", "b/a.txt"):
        folder.write(name, name.encode())
    folder.write("a.txt", b"new")
    assert list(folder.sizes().items()) == [("a.txt", 3), ("b/a.txt", 7), ("b/c.txt", 7)]
    assert folder.read("b/c.txt") == b"b/c.txt"
    with folder.local("a.txt") as path:
        assert path.read_bytes() == b"new"
    assert pickle.loads(pickle.dumps(folder)).read("b/c.txt") == b"b/c.txt"
    folder.remove("a.txt")
    folder.remove("b")
    folder.remove("none")
    assert folder.sizes() == {}


@pytest.mark.usefixtures("store")
def test_a_run_from_a_store_to_a_store(tiny_bundle: Path, tmp_path: Path) -> None:
    style, options = StyleOptions(height=16, width=16, frames=2, margin=5), RunOptions(part_size=4)
    (tmp_path / "in").mkdir()
    there = open_folder(f"{BUCKET}/in")
    for i in range(2):
        rows = [f"{k},{x},{x * k}" for k in range(6) for x in (0, 1)]
        text = "\n".join(["id,x,y", *rows])
        (tmp_path / "in" / f"{i}.csv").write_text(text)
        there.write(f"{i}.csv", text.encode())
    tokenize(tiny_bundle, tmp_path / "in", output=tmp_path / "out", style=style, run=options)

    def run(resume: bool = False) -> object:
        again = RunOptions(resume=resume, part_size=4)
        source, output = f"{BUCKET}/in", f"{BUCKET}/out"
        return tokenize(tiny_bundle, source, output=output, style=style, run=again).facts

    run()
    out = open_folder(f"{BUCKET}/out")
    whole = {name: out.read(name) for name in out.sizes()}
    assert whole == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert read_tokens(f"{BUCKET}/out").ids == read_tokens(tmp_path / "out").ids
    with pytest.raises(InputError, match="holds a run already"):
        run()
    out.remove("part-00000-00001.parquet")
    with pytest.raises(InputError, match=r"s3://bucket/out isn't what its manifest says"):
        read_tokens(f"{BUCKET}/out")
    run(resume=True)
    assert {name: out.read(name) for name in out.sizes()} == whole
    # One file of a store is a source too.
    single = tokenize(
        tiny_bundle, f"{BUCKET}/in/1.csv", output=f"{BUCKET}/one", style=style, run=options
    )
    assert single.facts["clips"] == 6
    assert read_tokens(f"{BUCKET}/one").ids == tuple("012345")


@pytest.mark.usefixtures("store")
def test_a_store_that_cant_be_used_is_one_sentence() -> None:
    with pytest.raises(MagvitError, match=r"^can't write s3://nobody/out/a: found .+"):
        open_folder("s3://nobody/out").write("a", b"")
    with pytest.raises(InputError, match=r"s3://bucket/none/a isn't there"):
        open_folder(f"{BUCKET}/none").read("a")
    with pytest.raises(InputError, match="is of an unknown kind: expected a path, file://"):
        open_folder("ftp://host/out")


def test_what_is_a_folder_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "v1.0").mkdir()
    assert is_folder_place(tmp_path / "v1.0")
    assert is_folder_place(Path("tokens"))
    assert not is_folder_place(Path("tokens.parquet"))
    assert is_folder_place("s3://my.bucket/tokens/")
    assert is_folder_place("s3://my.bucket/tokens?region=eu-west-1")
    assert not is_folder_place("s3://bucket/tokens.npz")
    assert place_of("file:///data/tokens") == Path("/data/tokens")
