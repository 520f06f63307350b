"""H0 deaths against examples by hand, ripser and SciPy's single linkage, and their invariances."""

import numpy as np
import persim
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from ripser import ripser
from scipy.cluster.hierarchy import linkage
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import pdist, squareform

from obce import homology
from obce.homology import batched_deaths, h0_deaths, h0_diagram, merge_radius
from obce.units import KINDS

# References


def distances(points):
    points = np.asarray(points, dtype=np.float64)
    return pdist(points.reshape(len(points), -1))


def single_linkage(points):
    """Merge heights of single linkage, float64."""
    return linkage(distances(points), "single")[:, 2] if len(points) > 1 else np.empty(0)


def assert_equals_ripser(points):
    """To float32, in which ripser works; it drops what dies at 0."""
    diagram = ripser(squareform(distances(points)), maxdim=0, distance_matrix=True)["dgms"][0]
    expected = np.sort(diagram[:, 1])
    assert expected[-1] == np.inf
    ours = h0_diagram(points).astype(np.float32)
    np.testing.assert_allclose(ours[ours[:, 1] > 0, 1], expected, rtol=3e-7, atol=1e-44)


def assert_equals_single_linkage(points):
    expected = single_linkage(points)
    np.testing.assert_allclose(h0_deaths(points), expected, rtol=1e-9, atol=1e-300)
    largest = expected.max(initial=0)
    np.testing.assert_allclose(merge_radius(points[None])[0], largest, rtol=1e-9, atol=1e-300)


# By hand

BY_HAND = {
    "gaps on a line": ([0, 1, 3, 7], [1, 2, 4]),
    "the order does not matter": ([7, 0, 3, 1], [1, 2, 4]),
    "duplicates die at 0 and are listed": ([2, 5, 2, 5, 2], [0, 0, 0, 3]),
    "a constant cloud": ([4, 4, 4], [0, 0]),
    "one point": ([3], []),
    "two points": ([3, -2], [5]),
    "a square": ([[0, 0], [2, 0], [2, 2], [0, 2]], [2, 2, 2]),
    "a rectangle": ([[0, 0], [3, 0], [3, 1], [0, 1]], [1, 1, 3]),
    "two clusters": ([[0, 0], [0, 1], [3, 5], [3, 6], [3, 7]], [1, 1, 1, 5]),
    "the corners of a simplex": (np.eye(4), [np.sqrt(2)] * 3),
    "one point in the plane": ([[3, 4]], []),
    "two points in the plane": ([[0, 0], [3, 4]], [5]),
    "a constant cloud in the plane": ([[1, 2]] * 5, [0] * 4),
    "a line in the plane": ([[0, 0], [3, 4], [9, 12]], [5, 10]),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("name", BY_HAND)
def test_by_hand(name, dtype):
    points, deaths = BY_HAND[name]
    points = np.array(points, dtype=dtype)
    result = h0_deaths(points)
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, deaths, rtol=1e-15)
    np.testing.assert_allclose(merge_radius(points[None]), [max(deaths, default=0)], rtol=1e-15)
    diagram = [[0, death] for death in [*deaths, np.inf]]
    np.testing.assert_allclose(h0_diagram(points), diagram, rtol=1e-15)


def test_a_list_and_other_number_types():
    assert h0_deaths([0, 1, 3]).tolist() == [1, 2]
    assert h0_deaths(np.array([0, 255, 250], dtype=np.uint8)).tolist() == [5, 250]
    assert h0_deaths(np.array([1, 1.5, 1.25], dtype=np.float16)).tolist() == [0.25, 0.25]


def test_one_coordinate_is_the_line():
    points = np.random.default_rng(0).normal(size=(5, 30))
    assert (batched_deaths(points[:, :, None]) == batched_deaths(points)).all()
    assert (merge_radius(points[:, :, None]) == merge_radius(points)).all()


# Against other programs


def clouds(elements, dtype=np.float64):
    """Clouds of 1 to 30 points in R^1 to R^8."""
    shape = st.tuples(st.integers(1, 30), st.integers(1, 8))
    return arrays(dtype, shape, elements=elements)


GRID = clouds(st.integers(-3, 3), np.int64)  # full of duplicates and ties
FLOATS32 = clouds(st.floats(-1e3, 1e3, width=32), np.float32)
FLOATS64 = clouds(st.floats(-1e3, 1e3))
RANDOM = st.builds(
    lambda seed, n, d, scale: scale * np.random.default_rng(seed).normal(size=(n, d)),
    st.integers(0, 2**32 - 1),
    st.integers(1, 30),
    st.integers(1, 8),
    st.sampled_from([1e-6, 1, 1e6]),
)
ANY = st.one_of(GRID, FLOATS32, FLOATS64, RANDOM)


@given(ANY)
def test_equals_ripser(points):
    assert_equals_ripser(points)


@given(ANY)
def test_equals_single_linkage(points):
    assert_equals_single_linkage(points)


def test_small_structure_beside_a_distant_point():
    """Squared distances by a matrix product would lose all below 1e-8 of the cloud's size."""
    points = np.array([[0, 0], [1e-9, 0], [2e-9, 0], [2e-9, 0], [1, 1]])
    np.testing.assert_allclose(h0_deaths(points), single_linkage(points))
    assert_equals_ripser(points)


@pytest.mark.parametrize("cloud", ["mean", "texts", "cls", "tokens"])
@pytest.mark.parametrize("kind", KINDS)
def test_real_activations(kind, cloud, real_activations):
    """Some units of each layer against ripser, the whole layer against single linkage."""
    for layer in range(real_activations.shape.layers):
        points = real_activations.cloud(layer, kind, cloud)
        for unit in (0, 17, -1) if cloud != "tokens" else (17,):
            assert_equals_ripser(points[unit])
        some = points[::16]
        expected = np.array([single_linkage(p) for p in some])
        np.testing.assert_allclose(batched_deaths(some), expected, rtol=1e-9)
        np.testing.assert_allclose(merge_radius(some), expected[:, -1], rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_the_two_algorithms_agree_on_every_real_unit(kind, real_activations):
    points = real_activations.cloud(5, kind, "texts")
    np.testing.assert_allclose(merge_radius(points), batched_deaths(points)[:, -1], rtol=1e-9)


# Found in float32, measured in float64


def certain_of(points):
    """The clouds whose merge radius the float32 path finds, without Prim's algorithm."""
    return ~np.isnan(homology._last_merge(points))


def test_nearly_all_real_units_need_float32_alone(real_activations):
    certain = [
        certain_of(real_activations.cloud(layer, kind, "texts"))
        for layer in range(real_activations.shape.layers)
        for kind in KINDS
    ]
    assert np.concatenate(certain).mean() > 0.99


@pytest.mark.parametrize("size", [1e-14, 1, 1e12])
def test_float32_finds_what_float64_measures(size):
    """150 points in R^64 far from the origin: their distances in float32 hold four digits."""
    points = np.random.default_rng(2).normal(size=(20, 150, 64)) + 100
    points = (size * points).astype(np.float32)
    found = homology._last_merge(points)
    certain = ~np.isnan(found)
    assert certain.mean() > 0.9
    expected = [single_linkage(p)[-1] for p in points[certain]]
    np.testing.assert_allclose(found[certain], expected, rtol=1e-14)


@pytest.mark.parametrize("size", [1e-44, 1e-38, 1e38, 3e38])
def test_the_limits_of_float32(size):
    """What over- or underflows in float32 is left to float64."""
    points = (size * np.random.default_rng(3).uniform(-1, 1, size=(4, 30, 3))).astype(np.float32)
    expected = [single_linkage(p)[-1] for p in points]
    np.testing.assert_allclose(merge_radius(points), expected, rtol=1e-9)


def test_a_tie_within_the_rounding_of_float32_is_measured():
    """The last point is 1 + 1e-9 from one neighbour and 1 from another: the same in float32."""
    points = np.array([[[0, 0], [0.3, 0], [1 + 1e-9, 0.0], [2 + 1e-9, 0], [1 + 1e-9, 1 + 1e-9]]])
    assert merge_radius(points)[0] == single_linkage(points[0])[-1]


def connected(distance, limit, hub):
    """Whether the search reaches all from ``hub``."""
    reached = np.zeros(limit.shape, dtype=bool)
    reached[np.arange(len(hub)), hub] = True
    homology._search(distance, limit, np.asarray(hub), reached)
    return reached.all(axis=1).tolist()


@given(st.integers(1, 140), st.floats(0, 0.05), st.integers(0, 1000))
def test_connected_as_scipy_says(n, share, seed):
    rng = np.random.default_rng(seed)
    distance = rng.random((3, n, n))
    distance = np.minimum(distance, distance.transpose(0, 2, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(homology, "SEARCH_STEPS", n)
        found = connected(distance, np.full((3, n), share), rng.integers(n, size=3))
    assert found == [connected_components(graph)[0] == 1 for graph in distance <= share]


@pytest.mark.parametrize("hub", [0, 40])
def test_a_long_path_is_connected_if_the_search_may_go_on(hub, monkeypatch):
    distance = np.where(np.eye(130, k=1, dtype=bool) | np.eye(130, k=-1, dtype=bool), 1.0, 2.0)
    torn = distance.copy()
    torn[70, 71] = torn[71, 70] = 2
    both, limit = np.stack([distance, torn]), np.ones((2, 130))
    assert connected(both, limit, [hub, hub]) == [False, False]
    monkeypatch.setattr(homology, "SEARCH_STEPS", 129)
    assert connected(both, limit, [hub, hub]) == [True, False]


# On a GPU: the same code runs on any device of torch


@pytest.mark.parametrize("chunk", [1, homology.GPU_CHUNK_BYTES])
@pytest.mark.parametrize("shape", [(7, 1), (7, 40), (7, 1, 3), (7, 40, 3)])
def test_what_runs_on_a_gpu(shape, chunk, monkeypatch):
    monkeypatch.setattr(homology, "GPU_CHUNK_BYTES", chunk)
    points = np.random.default_rng(4).normal(size=shape)
    points[0] = 5  # a constant unit
    deaths, radius = homology._gaps_on_device, homology._largest_gap_on_device
    if points.ndim == 3:
        deaths, radius = homology._spanning_tree_on_device, homology._last_merge_on_device
    expected = batched_deaths(points)
    found = homology._on_device(deaths, points, np.empty_like(expected), "cpu")
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    if expected.size:
        found = homology._on_device(radius, points, np.empty(len(points)), "cpu")
        np.testing.assert_allclose(found, merge_radius(points), rtol=1e-12)


def test_a_large_cloud_s_distances_are_never_all_in_memory(monkeypatch):
    points = np.random.default_rng(6).normal(size=(3, 60, 5)).astype(np.float32)
    radius, deaths = merge_radius(points), batched_deaths(points)
    monkeypatch.setattr(homology, "LARGEST_MATRIX", 59)
    monkeypatch.setattr(homology, "GPU_CHUNK_BYTES", 8 * 59**2)
    held, cdist = [], torch.cdist

    def counted(*arguments, **options):
        distances = cdist(*arguments, **options)
        held.append(tuple(distances.shape))
        return distances

    monkeypatch.setattr(torch, "cdist", counted)
    np.testing.assert_allclose(merge_radius(points), radius, rtol=1e-14)
    np.testing.assert_allclose(batched_deaths(points), deaths, rtol=1e-14)
    assert set(held) == {(1, 1, 60)}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("shape", [(300, 1000), (300, 150, 64)])
def test_on_a_gpu(shape):
    points = np.random.default_rng(5).normal(size=shape).astype(np.float32)
    np.testing.assert_allclose(merge_radius(points, "cuda"), merge_radius(points), rtol=1e-12)
    deaths = batched_deaths(points)
    np.testing.assert_allclose(batched_deaths(points, "cuda"), deaths, rtol=1e-12)


# Long thin clouds, whose points are many steps apart


def spiral(n=200):
    turn = np.sqrt(np.arange(n)) * 2
    return np.stack([turn * np.cos(turn), turn * np.sin(turn), 0 * turn], axis=1)


def random_walk(n=200):
    return np.random.default_rng(0).normal(size=(n, 3)).cumsum(axis=0)


def widening(n=200):
    """Beads whose gaps grow: every bound is soon the wrong one."""
    return np.stack([1.03 ** np.arange(n), np.zeros(n), np.zeros(n)], axis=1)


def blob(n=200):
    return np.random.default_rng(1).normal(size=(n, 3))


@pytest.mark.parametrize("bounds", [1, homology.BOUNDS, 1000])
@pytest.mark.parametrize("steps", [1, homology.SEARCH_STEPS, 1000])
def test_beads_on_a_string(bounds, steps, monkeypatch):
    """However soon float32 is given up for Prim's algorithm, alone or in company."""
    monkeypatch.setattr(homology, "BOUNDS", bounds)
    monkeypatch.setattr(homology, "SEARCH_STEPS", steps)
    points = np.stack([spiral(), blob(), random_walk(), widening(), random_walk()[::-1]])
    expected = np.array([single_linkage(p) for p in points])
    np.testing.assert_allclose(merge_radius(points), expected[:, -1], rtol=1e-12)
    np.testing.assert_allclose(batched_deaths(points), expected, rtol=1e-9)


@pytest.mark.parametrize("bounds, certain", [(1, [1, 0, 0]), (2, [1, 1, 0]), (3, [1, 1, 1])])
def test_blobs_need_a_bound_each(bounds, certain, monkeypatch):
    """A blob is done by its first bound, two and three blobs by their second and third."""
    monkeypatch.setattr(homology, "BOUNDS", bounds)
    points = np.stack([blob(), blob(), blob()])
    points[1, 100:] += 9
    points[2, 50:] += 9
    points[2, 100:] += 20
    assert certain_of(points).tolist() == certain
    expected = [single_linkage(p)[-1] for p in points]
    np.testing.assert_allclose(merge_radius(points), expected, rtol=1e-12)


def test_two_ways_out_that_float32_cannot_tell_apart():
    """Pairs of points, the second pair 3 + 1e-9 from one end of the first and 3 from the other."""
    points = np.array([[[0, 0], [1, 0], [0, 3 + 1e-9], [1, 3.0]]])
    assert certain_of(points).tolist() == [False]
    assert merge_radius(points)[0] == single_linkage(points[0])[-1] == 3


# Batches


BATCHES = st.one_of(
    arrays(dtype, st.tuples(*sizes), elements=st.integers(-9, 9))
    for dtype in (np.int64, np.float32, np.float64)
    for sizes in ([st.integers(1, 6)] * 2, [st.integers(1, 6)] * 3)
)


@settings(max_examples=40)
@given(BATCHES)
def test_a_batch_is_its_clouds_one_by_one(points):
    one_by_one = np.array([h0_deaths(p) for p in points]).reshape(len(points), -1)
    assert (batched_deaths(points) == one_by_one).all()
    radii = np.array([merge_radius(p[None])[0] for p in points])
    assert (merge_radius(points) == radii).all()
    assert (radii == one_by_one.max(axis=1, initial=0)).all()


@pytest.mark.parametrize("shape", [(50, 20), (50, 20, 4)])
def test_chunks_do_not_show(shape, monkeypatch):
    points = np.random.default_rng(0).normal(size=shape)
    before = merge_radius(points), batched_deaths(points)
    monkeypatch.setattr(homology, "CHUNK_BYTES", 1)
    after = merge_radius(points), batched_deaths(points)
    np.testing.assert_allclose(after[0], before[0], rtol=1e-14)
    np.testing.assert_allclose(after[1], before[1], rtol=1e-14)


@pytest.mark.parametrize("shape", [(3, 10), (3, 10, 2)])
def test_the_points_are_left_as_they_were(shape):
    points = np.random.default_rng(0).normal(size=shape)
    before = points.copy()
    points.flags.writeable = False
    merge_radius(points), batched_deaths(points), h0_diagram(points[0])
    assert (points == before).all()


def test_no_clouds():
    assert merge_radius(np.empty((0, 7))).shape == (0,)
    assert batched_deaths(np.empty((0, 7, 2))).shape == (0, 6)


# Invariances: what the theory says for any cloud


@given(ANY, st.integers(0, 1000))
def test_permuted_points(points, seed):
    permuted = np.random.default_rng(seed).permutation(points)
    np.testing.assert_allclose(h0_deaths(permuted), h0_deaths(points), rtol=1e-9, atol=1e-300)


@given(st.one_of(GRID, RANDOM), st.floats(-10, 10))
def test_moved_points(points, by):
    size = np.abs(points).max() + 10
    np.testing.assert_allclose(h0_deaths(points + by), h0_deaths(points), atol=1e-13 * size)


@given(ANY, st.floats(0.01, 100))
def test_scaled_points(points, by):
    points = points.astype(np.float64)
    expected = by * h0_deaths(points)
    # Scaling rounds every coordinate: short distances of far points are off by the cloud's size.
    size = np.abs(by * points).max()
    np.testing.assert_allclose(h0_deaths(by * points), expected, rtol=1e-9, atol=1e-13 * size)


@given(st.one_of(GRID, RANDOM), st.floats(0, 5), st.integers(0, 1000))
def test_stability(points, most, seed):
    """Move every point by at most r, and no death moves by more than 2 r."""
    step = np.random.default_rng(seed).normal(size=points.shape)
    step *= most / np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-300)
    change = np.abs(h0_deaths(points + step) - h0_deaths(points))
    assert change.max(initial=0) <= 2 * most + 1e-12 * (np.abs(points).max() + 1)


# Users of the diagram


def test_persim_reads_the_diagram():
    first, second = h0_diagram([0, 1, 3, 7]), h0_diagram([0, 1, 3, 8])
    assert (first[:, 0] == 0).all() and first[-1].tolist() == [0, np.inf]
    assert persim.bottleneck(first[:-1], first[:-1]) == 0
    assert persim.bottleneck(first[:-1], second[:-1]) == 1
    with pytest.warns(UserWarning, match="non-finite death"):
        assert persim.bottleneck(first, first) == 0


# Bad input


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([], "at least one point"),
        (np.empty((0, 3)), "at least one point"),
        (np.empty((3, 0)), "one coordinate"),
        (3.0, r"not an array of shape \(\)"),
        (np.zeros((2, 2, 2)), r"not an array of shape \(2, 2, 2\)"),
        ([0, np.nan], "not finite"),
        ([[0, 1], [np.inf, 1]], "not finite"),
        ([-np.inf], "not finite"),
        ([1j, 2], "real numbers, not complex"),
        ([True, False], "real numbers, not bool"),
        (["a", "b"], "real numbers"),
        ([None, None], "real numbers, not object"),
    ],
)
@pytest.mark.parametrize("function", [h0_deaths, h0_diagram])
def test_what_is_no_cloud(function, points, message):
    with pytest.raises(ValueError, match=message):
        function(points)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([1.0, 2.0], r"clouds are .* not an array of shape \(2,\)"),
        (np.zeros((2, 2, 2, 2)), r"not an array of shape \(2, 2, 2, 2\)"),
        (np.empty((3, 0)), "at least one point"),
        (np.empty((3, 4, 0)), "one coordinate"),
        ([[0, 1], [np.nan, 1]], "not finite"),
        (np.full((1, 1), np.inf), "not finite"),
        (np.ones((2, 2), dtype=bool), "real numbers, not bool"),
    ],
)
@pytest.mark.parametrize("function", [merge_radius, batched_deaths])
def test_what_are_no_clouds(function, points, message):
    with pytest.raises(ValueError, match=message):
        function(points)
