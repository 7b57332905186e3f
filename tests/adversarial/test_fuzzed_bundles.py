"""Bundles that were damaged, or made to do harm: they work, or end in a MagvitError.

They never cause another error, a crash, a hang, a write, or a read of anything outside the bundle.
A fault names its family and number, which are its seed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest
from adversarial import mutations
from adversarial.mutations import DATA, ENCODER, NAMES, REPLACEMENTS, VALUES
from adversarial.watchdog import Case, run_cases
from numpy.random import Generator

Change = Callable[[Path, Generator], object]


def cases_of(sound: Path, family: str, changes: list[Change]) -> Iterator[Case]:
    for number, change in enumerate(changes):

        def make(folder: Path, random: Generator, change: Change = change) -> Path:
            bundle = mutations.copy_bundle(sound, folder)
            change(bundle, random)
            return bundle

        yield Case(f"{family} {number}", make)


def damage_json(name: str, damage: Callable[[bytes, Generator], bytes]) -> Change:
    def change(bundle: Path, random: Generator) -> None:
        (path,) = bundle.glob(name)
        path.write_bytes(damage(path.read_bytes(), random))

    return change


def manifest_text() -> list[Change]:
    return [
        damage_json("bundle.json", damage) for damage in mutations.JSON_DAMAGES for _ in range(35)
    ]


def sidecar_text() -> list[Change]:
    return [
        damage_json("engines/*.json", damage)
        for damage in mutations.JSON_DAMAGES
        for _ in range(20)
    ]


def file_names() -> list[Change]:
    """The weights, then the graph, under another name, which leads to their copy where it can."""

    def rename(old: str, name: str) -> Change:
        def change(bundle: Path, _: Generator) -> None:
            outside = mutations.outside_of(bundle)
            content = (bundle / old).read_bytes()
            (outside / "canary").write_bytes(content)
            new = name.replace("OUTSIDE", str(outside))

            def edit(manifest: dict) -> None:
                manifest["files"][new] = manifest["files"].pop(old)
                graph = manifest["graphs"]["encode"]["fp32"]
                graph.update(file=new) if old == ENCODER else graph.update(data=[new])

            mutations.edit_manifest(bundle, edit)
            try:
                target = bundle / new
                if target.resolve().is_relative_to(bundle) and not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(content)
            except (OSError, ValueError):
                pass  # No file can have this name.

        return change

    return [rename(old, name) for old in (ENCODER, DATA) for name in NAMES]


def declared_shapes() -> list[Change]:
    def declare(role: str, side: str, key: str, value: object) -> Change:
        def change(bundle: Path, random: Generator) -> None:
            def edit(manifest: dict) -> None:
                graph = manifest["graphs"][role]["fp32"]
                if key == "":
                    graph[side] = value
                else:
                    tensor = graph[side][random.integers(len(graph[side]))]
                    tensor[key] = value

            mutations.edit_manifest(bundle, edit)

        return change

    shapes = [
        [2**62] * 5, [2**63 - 1, 1, 1, 1, 1], [0] * 5, [-1] * 5, [1], ["batch"] * 5, ["batch"] * 4,
        [], [1, 2, 4, 4, 3], ["batch", 2, 4, 4, 3], [2**31] * 100, ["ceil(frames/0)"] * 5,
        ["batch", "frames", "height", "width", 4], ["batch", 2, 2], ["batch", 2, 2, 2],
    ]  # fmt: skip
    changes = []
    for role in ("encode", "classify"):
        for side in ("inputs", "outputs"):
            changes += [declare(role, side, "shape", shape) for shape in shapes]
            changes += [declare(role, side, "dtype", t) for t in ("int64", "float16", "uint8")]
            changes += [declare(role, side, "name", name) for name in ("", "ids", "x", "latents")]
            changes += [declare(role, side, "", value) for value in ([], {}, None)]
    return changes


def classifier_labels() -> list[Change]:
    def label(labels: object) -> Change:
        return lambda bundle, _: mutations.edit_manifest(
            bundle, lambda manifest: manifest["heads"]["classifier"].update(labels=labels)
        )

    return [label(value) for value in (["a"], ["a"] * 2, ["a"] * 4, ["a"] * 10**5, ["", "", ""])]


def other_things_in_place() -> list[Change]:
    def replace(pattern: str, kind: str) -> Change:
        def change(bundle: Path, _: Generator) -> None:
            (path,) = bundle.glob(pattern)
            mutations.replaced_by(path, mutations.outside_of(bundle), kind)

        return change

    places = ("bundle.json", ENCODER, DATA, "classify*.data", "engines")
    places += ("engines/*.json", "engines/*.plan")
    return [replace(place, kind) for place in places for kind in REPLACEMENTS]


def folders_of_links() -> list[Change]:
    """The weights are in a folder of the bundle that is a link to outside, or in a real folder."""

    def move(old: str, by_link: bool) -> Change:
        def change(bundle: Path, _: Generator) -> None:
            outside = mutations.outside_of(bundle)
            (bundle / "deep").symlink_to(outside) if by_link else (bundle / "deep").mkdir()
            (bundle / old).rename(bundle / "deep" / old)

            def edit(manifest: dict) -> None:
                manifest["files"][f"deep/{old}"] = manifest["files"].pop(old)
                graph = manifest["graphs"]["encode"]["fp32"]
                graph.update(json.loads(json.dumps(graph).replace(f'"{old}"', f'"deep/{old}"')))

            mutations.edit_manifest(bundle, edit)

        return change

    return [move(old, by_link) for old in (ENCODER, DATA) for by_link in (True, False)]


def wrong_digests() -> list[Change]:
    def record(key: str, value: object) -> Change:
        def change(bundle: Path, random: Generator) -> None:
            def edit(manifest: dict) -> None:
                files = manifest["files"]
                name = sorted(files)[random.integers(len(files))]
                files[name][key] = value

            mutations.edit_manifest(bundle, edit)

        return change

    digests = ("0" * 64, "F" * 64, "0" * 63, "0" * 65, "0" * 64 + "\n", "g" * 64, "", None, 0)
    sizes = (0, 1, -1, 2**63, 10**40, 18076.0, "18076", None, True)
    return [record("sha256", d) for d in digests] + [record("size", s) for s in sizes]


def damaged_files() -> list[Change]:
    """Damages every kind of file, once with the old digest and once with the new one."""

    def damage(name: str, vouched: bool) -> Change:
        def change(bundle: Path, random: Generator) -> None:
            (path,) = bundle.glob(name)
            path.write_bytes(mutations.damaged(path.read_bytes(), random))
            if vouched:
                mutations.record_digest(bundle, path.name)

        return change

    names = (ENCODER, DATA, "classify.fp32.onnx", "classify.fp32.data")
    return [damage(name, vouched) for name in names for vouched in (False, True) for _ in range(10)]


def places_of_weights() -> list[Change]:
    """The graph names other weight files: outside, or in the bundle without a digest."""

    def locate(key: str, value: str, listed: bool) -> Change:
        def change(bundle: Path, _: Generator) -> None:
            outside = mutations.outside_of(bundle)
            (outside / "canary").write_bytes((bundle / DATA).read_bytes())
            (bundle / "link").symlink_to(outside / "canary")
            (bundle / "folder").symlink_to(outside)
            (bundle / "unlisted").write_bytes((bundle / DATA).read_bytes())
            model = onnx.load(bundle / ENCODER, load_external_data=False)
            new = value.replace("OUTSIDE", str(outside))
            for tensor in model.graph.initializer:
                for entry in tensor.external_data:
                    if entry.key == key:
                        entry.value = new
            mutations.replace_content(bundle, ENCODER, model.SerializeToString())
            if not listed:
                mutations.edit_manifest(
                    bundle, lambda manifest: manifest["graphs"]["encode"]["fp32"].update(data=[])
                )

        return change

    names = ("link", "folder/canary", "./link", "unlisted", "x/../link", f"../bundle/{DATA}")
    changes = [locate("location", name, listed) for name in names for listed in (True, False)]
    changes += [locate("location", name, True) for name in NAMES]
    numbers = ("-1", "0", "4", "1903232", str(2**31), str(2**63 - 1), str(2**64), "9" * 400, "x")
    return changes + [
        locate(key, number, True) for key in ("offset", "length") for number in numbers
    ]


def sidecar_fields() -> list[Change]:
    """Every field of a sidecar takes every odd value once."""

    def assign(index: int, value: object) -> Change:
        def change(bundle: Path, _: Generator) -> None:
            (path,) = bundle.glob("engines/*.json")
            tree = json.loads(path.read_bytes())
            places = [(tree, key) for key in tree] + [(tree["key"], key) for key in tree["key"]]
            parent, key = places[index % len(places)]
            parent[key] = value
            path.write_text(json.dumps(tree))

        return change

    return [assign(index * 7, value) for index, value in enumerate((*VALUES, *NAMES))]


def names_of_sidecars() -> list[Change]:
    def copy(name: bytes) -> Change:
        def change(bundle: Path, _: Generator) -> None:
            (path,) = bundle.glob("engines/*.json")
            with open(bytes(path.parent) + b"/" + name, "wb") as file:  # noqa: PTH123 - bytes
                file.write(path.read_bytes())

        return change

    names = (b".json", b"\xff\xfe.json", b"\n.json", b"..json", b"a" * 250 + b".json")
    return [copy(name) for name in names]


FAMILIES: dict[str, Callable[[], list[Change]]] = {
    family.__name__: family
    for family in (
        manifest_text,
        sidecar_text,
        file_names,
        declared_shapes,
        classifier_labels,
        other_things_in_place,
        folders_of_links,
        wrong_digests,
        damaged_files,
        places_of_weights,
        sidecar_fields,
        names_of_sidecars,
    )
}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_it_works_or_ends_in_a_magvit_error(
    sound_bundle: Path, tmp_path: Path, family: str, record_property: Callable[..., None]
) -> None:
    changes = FAMILIES[family]()
    tally = run_cases("bundle", cases_of(sound_bundle, family, changes), tmp_path, sound_bundle)
    record_property("cases", len(changes))
    record_property("worked", tally.worked)
    record_property("refused", tally.refused)
    assert not tally.faults, f"{len(tally.faults)} faults:\n" + "\n".join(tally.faults)
    assert tally.worked + tally.refused == 3 * len(changes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("deed", "words"),
    [
        ("hang", "hung for more than 5 s"),
        ("crash", "died: SIGSEGV"),
        ("read", "opened outside the bundle"),
        ("native read", "used a file outside the bundle"),
        ("write", "something was written"),
        ("other", "misbehave: unexpected Traceback"),
    ],
)
def test_the_watchdog_notices(sound_bundle: Path, tmp_path: Path, deed: str, words: str) -> None:
    """Shows that the watchdog sees harm; one that sees nothing would pass every bundle."""

    def make(folder: Path, _: Generator) -> Path:
        (folder.parent / "outside" / "canary").touch()
        (folder / deed).mkdir()
        return folder / deed

    faults = run_cases("misbehave", [Case(deed, make)], tmp_path, sound_bundle).faults
    assert faults
    assert words in faults[0]
