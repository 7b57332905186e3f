"""Generated trajectories: of the shape that their kind names, and the same on every machine."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest

from magvit_runtime.clips.generated import (
    KINDS,
    GenerationOptions,
    generate_trajectories,
    generate_trajectory,
)
from magvit_runtime.clips.generated.draws import Draws, cosine, sine
from magvit_runtime.errors import InputError

EVERY = tuple(KINDS)


def positions(kind: str, dimensions: int, *, noise: float = 0, samples: int = 65) -> np.ndarray:
    """[20, samples, dimensions]"""
    options = GenerationOptions((kind,), 20, samples, noise, dimensions)
    return np.stack([item.positions for item in generate_trajectories(options)])


def residual_of_fit(points: np.ndarray, columns: list[np.ndarray]) -> float:
    """The largest distance from what a combination of the columns gives."""
    design = np.stack([*columns, np.ones(len(points))], axis=1)
    fit, *_ = np.linalg.lstsq(design, points, rcond=None)
    return float(np.abs(design @ fit - points).max())


def flatness(points: np.ndarray) -> float:
    """The smallest extent of points, in the direction that has it."""
    return float(np.linalg.svd(points - points.mean(axis=0), compute_uv=False)[-1])


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_line_is_straight(dimensions: int) -> None:
    for points in positions("linear", dimensions):
        along = (points - points[0]) @ (points[-1] - points[0])
        assert residual_of_fit(points, [along]) < 1e-5
        assert (np.diff(along) > 0).all()
        assert 1 <= np.linalg.norm(points[-1] - points[0]) <= 2 + 1e-5


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_circle_has_one_centre_and_lies_in_a_plane(dimensions: int) -> None:
    for points in positions("circular", dimensions):
        # |p|² = 2·centre·p + constant, for any sphere.
        assert residual_of_fit((points**2).sum(axis=1), list(points.T)) < 1e-5
        radius = np.linalg.norm(points - points[:1], axis=1).max() / 2
        assert 0.5 - 1e-3 <= radius <= 1 + 1e-5
    if dimensions == 3:
        assert max(map(flatness, positions("circular", 3))) < 1e-4


def test_a_helix_turns_around_its_axis() -> None:
    for points in positions("helical", 3):
        assert flatness(points) > 0.7  # 65 points, 0.15 or more from a plane.
        # Without its way along the axis it is a circle: in the plane of the two other directions.
        centred = points - points.mean(axis=0)
        _, _, axes = np.linalg.svd(centred)
        across = np.sort(np.linalg.norm(centred @ axes[1:].T, axis=1))
        assert across[0] > 0.3 * across[-1]


def test_a_throw_is_a_parabola_that_stands_upright() -> None:
    for points in positions("parabolic", 2):
        x, y = points.T
        assert residual_of_fit(y, [x, x * x]) < 1e-5
        assert y.argmin() not in (0, len(y) - 1)  # It rises first: y grows downward.
    for points in positions("parabolic", 3):
        ground = np.linalg.norm(points[:, :2] - points[0, :2], axis=1)
        assert residual_of_fit(points[:, 2], [ground, ground * ground]) < 1e-5
        assert flatness(points[:, :2]) < 1e-4
        assert points[:, 2].argmax() not in (0, len(points) - 1)


def test_a_spiral_s_radius_grows_or_shrinks_throughout() -> None:
    directions = set()
    for points in positions("spiral", 2):
        # Its centre is the point from which the radius is linear in time; near enough, the end
        # of the narrow side.
        ends = np.linalg.norm(np.diff(points, axis=0), axis=1)
        directions.add(bool(ends[0] < ends[-1]))
        assert max(ends[0], ends[-1]) > 2 * min(ends[0], ends[-1])
    assert directions == {True, False}


def test_a_lissajous_figure_is_closed() -> None:
    for points in positions("lissajous", 3):
        np.testing.assert_allclose(points[0], points[-1], atol=1e-5)
        assert flatness(points) > 0.5


def test_a_random_walk_has_independent_steps() -> None:
    steps = np.diff(positions("random-walk", 3, samples=401), axis=1)
    scaled = steps / steps.std(axis=(1, 2), keepdims=True)
    correlation = (scaled[:, 1:] * scaled[:, :-1]).mean()
    assert abs(correlation) < 0.05


def test_a_spline_is_smooth() -> None:
    turns = np.diff(positions("spline", 3, samples=2001), n=2, axis=1)
    speeds = np.diff(positions("spline", 3, samples=2001), axis=1)
    assert np.abs(turns).max() < 0.02 * np.abs(speeds).max()


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_every_kind_varies_and_stays_in_its_room(kind: str, dimensions: int) -> None:
    found = positions(kind, dimensions)
    assert np.abs(found).max() <= 0.5 + 1.5 * np.sqrt(3)
    assert len({item.tobytes() for item in found}) == 20
    assert (np.ptp(found, axis=1).max(axis=1) > 0.3).all()


def test_noise_has_the_deviation_that_was_asked_for() -> None:
    noise = positions("circular", 3, noise=0.1, samples=500) - positions(
        "circular", 3, noise=0, samples=500
    )
    assert noise.std() == pytest.approx(0.1, rel=0.02)
    assert abs(noise.mean()) < 0.002
    assert (noise**4).mean() / noise.var() ** 2 == pytest.approx(2.9, abs=0.1)  # 3 if normal


def test_a_trajectory_depends_on_nothing_beside_it() -> None:
    few = GenerationOptions(("spiral", "linear"), count=2, samples=16)
    many = GenerationOptions(EVERY, count=5, samples=16)
    found = {item.id: item for item in generate_trajectories(many)}
    assert len(found) == 40
    for item in generate_trajectories(few):
        np.testing.assert_array_equal(item.positions, found[item.id].positions)
    assert [item.label for item in generate_trajectories(few)] == ["spiral", "linear"] * 2
    alone = generate_trajectory("spiral", 4, many)
    np.testing.assert_array_equal(alone.positions, found["spiral-00004"].positions)
    np.testing.assert_array_equal(alone.t, np.arange(16))


def test_seeds_differ_and_repeat() -> None:
    def content(seed: int) -> list[bytes]:
        options = GenerationOptions(EVERY, count=2, seed=seed)
        return [item.positions.tobytes() for item in generate_trajectories(options)]

    assert content(1) == content(1)
    assert not set(content(1)) & set(content(2))


def test_the_bytes_are_those_of_other_machines() -> None:
    digests = {}
    for dimensions in (2, 3):
        digest = hashlib.sha256()
        for item in generate_trajectories(
            GenerationOptions(EVERY, count=25, dimensions=dimensions, seed=7)
        ):
            digest.update(item.positions.astype("<f8").tobytes())
        digests[dimensions] = digest.hexdigest()[:16]
    assert digests == {2: "5bf085a543d25081", 3: "313a98825355d67c"}


def test_rotations_in_space_keep_lengths_and_hands() -> None:
    from magvit_runtime.clips.generated.generating import _rotation

    for number in range(20):
        matrix = _rotation(Draws(number))
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(matrix) == pytest.approx(1)


def test_sines_are_sines() -> None:
    turns = np.concatenate([np.linspace(-3, 3, 1201), [1e6 + 0.3, 0.25, 0.5, 0.75]])
    np.testing.assert_allclose(sine(turns), np.sin(2 * np.pi * turns), atol=1e-9)
    np.testing.assert_allclose(cosine(turns), np.cos(2 * np.pi * turns), atol=1e-9)
    small = np.linspace(-1, 1, 401)
    np.testing.assert_allclose(sine(small), np.sin(2 * np.pi * small), atol=2e-15)


def test_draws_are_in_their_range_and_use_all_of_it() -> None:
    draws = Draws(1, 2)
    counts = Counter(draws.whole(3, 5) for _ in range(3000))
    assert set(counts) == {3, 4, 5}
    assert min(counts.values()) > 900
    uniform = draws.uniforms(-2, 6, (2000,))
    assert -2 <= uniform.min() < -1.9
    assert 5.9 < uniform.max() < 6
    normal = draws.normals((5000, 2))
    assert normal.shape == (5000, 2)
    assert normal.std() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ("square",)}, "a kind is unknown: found 'square', expected linear, circular"),
        ({"kinds": ("",)}, "a kind is unknown: found ''"),
        ({"kinds": ()}, "a kind is unknown: found none"),
        ({"kinds": ("linear", "linear")}, "a kind is named twice: found linear, linear"),
        ({"count": 0}, "`count` is out of range: found 0, expected 1 to 1000000"),
        ({"samples": 1}, "`samples` is out of range: found 1, expected 2 to 1000000"),
        ({"noise": -0.1}, "`noise` is out of range: found -0.1, expected 0 to 1"),
        ({"noise": float("nan")}, "`noise` is out of range: found nan"),
        ({"dimensions": 4}, "`dimensions` is out of range: found 4, expected 2, 3"),
        ({"seed": -1}, "`seed` is negative: found -1"),
    ],
)
def test_options_out_of_range(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as error:
        GenerationOptions(**options)
    assert str(error.value).startswith(message)
