"""Zero-dimensional persistent homology of point clouds, exact and batched.

Grow a ball around every point and count connected components. Each time two components meet,
one *dies*. The H0 deaths of the Vietoris-Rips filtration, indexed by diameter as Ripser does,
are the edge lengths of a minimum spanning tree, which are the merge heights of single-linkage
clustering. On a line they are the gaps between neighbours. The last finite death, at which the
cloud has become one component, is the *merge radius* r_f of OBCE (arXiv 2312.10702); read as a
radius of balls it is half of that, which changes no rank.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import numpy as np
import torch
from scipy.spatial.distance import pdist, squareform
from threadpoolctl import ThreadpoolController

from obce.base.threads import on_threads

LINE_BYTES = 2 << 20  # points on a line that one thread works on at once
CHUNK_BYTES = 4 << 20  # distances that one thread works on at once: about a core's cache
GPU_CHUNK_BYTES = 1 << 30  # of a GPU: many units at once hide what starting a kernel costs
LARGEST_MATRIX = 11_585  # points, whose distances take 1 GiB: those of more are never all held
CANDIDATES = 4  # nearest neighbours in float32 among which the true one is looked for
# A cloud that needs more than this many lower bounds, or whose search needs more than this many
# steps (few do), is given up and left to Prim's algorithm, which is cheaper by then.
BOUNDS, SEARCH_STEPS = 6, 12
SMALLEST, LARGEST = 1e-30, 1e30  # squared sizes of clouds within the limits of float32


def h0_deaths(points: np.ndarray) -> np.ndarray:
    """Finite H0 deaths of one cloud.

    Args:
        points: ``(n,)`` for points in R or ``(n, d)`` for points in R^d, n >= 1.

    Returns:
        ``(n - 1,)`` float64, ascending: the edge lengths of a minimum spanning tree. Duplicates
        die at 0 and are listed (Ripser drops them).

    Raises:
        ValueError: an empty cloud, other dimensions, or values that are not finite.

    Source: the 0-dimensional barcode is the minimum spanning tree; see e.g. U. Bauer, "Ripser",
    J. Appl. Comput. Topol. 5 (2021).

    >>> h0_deaths(np.array([0.0, 1.0, 5.0, 7.0]))
    array([1., 2., 4.])
    """
    points = np.asarray(points)
    if points.ndim not in (1, 2):
        raise ValueError(f"one cloud is (n,) or (n, d), not an array of shape {points.shape}")
    return batched_deaths(points[None])[0]


def h0_diagram(points: np.ndarray) -> np.ndarray:
    """Persistence diagram of one cloud in dimension 0, as persim and Ripser's users expect it.

    Args:
        points: ``(n,)`` or ``(n, d)``.

    Returns:
        ``(n, 2)`` float64, births (all 0) and deaths, ascending; the last death is ``inf``.

    Raises:
        ValueError: as :func:`h0_deaths`.

    >>> h0_diagram(np.array([[0.0, 0.0], [3.0, 4.0]]))
    array([[ 0.,  5.],
           [ 0., inf]])
    """
    deaths = np.append(h0_deaths(points), np.inf)
    return np.column_stack([np.zeros_like(deaths), deaths])


def merge_radius(clouds: np.ndarray, device: str | torch.device = "cpu") -> np.ndarray:
    """The largest finite H0 death of each cloud: the scale at which it is one component.

    Args:
        clouds: ``(units, n)`` for points in R or ``(units, n, d)`` for points in R^d, n >= 1.
        device: where to compute it, as torch names it: ``cpu`` or ``cuda``.

    Returns:
        ``(units,)`` float64; 0 for a cloud of one point. Exact up to the rounding of one
        distance in float64, on either device.

    Raises:
        ValueError: empty clouds, other dimensions, or values that are not finite.

    Each thread holds the distances of at least one cloud, n^2 numbers. For clouds of more than
    11,585 points in R^d they are computed row by row instead: memory grows with n alone, and a
    cloud takes two to three times longer.

    >>> merge_radius(np.array([[0.0, 1.0, 5.0, 7.0], [0.0, 0.0, 0.0, 2.0]]))
    array([4., 2.])
    """
    clouds = _checked(clouds)
    if clouds.shape[1] == 1:
        return np.zeros(len(clouds))
    if torch.device(device).type != "cpu":
        work = _largest_gap_on_device if clouds.ndim == 2 else _last_merge_on_device
        return _on_device(work, clouds, np.empty(len(clouds)), device)
    if clouds.ndim == 2:
        return _in_chunks(_largest_gap, clouds, np.empty(len(clouds)))
    if clouds.shape[1] > LARGEST_MATRIX:
        return batched_deaths(clouds)[:, -1]
    radius = _in_chunks(_last_merge, clouds, np.empty(len(clouds)))
    rest = np.flatnonzero(np.isnan(radius))  # hardly any
    radius[rest] = batched_deaths(clouds[rest])[:, -1]
    return radius


def batched_deaths(clouds: np.ndarray, device: str | torch.device = "cpu") -> np.ndarray:
    """``h0_deaths`` of many clouds of equally many points.

    Args:
        clouds: ``(units, n)`` or ``(units, n, d)``.
        device: where to compute them, as torch names it: ``cpu`` or ``cuda``.

    Returns:
        ``(units, n - 1)`` float64, ascending along the last axis.

    Raises:
        ValueError: as :func:`merge_radius`.

    >>> batched_deaths(np.array([[0.0, 1.0, 5.0, 7.0], [0.0, 0.0, 0.0, 2.0]]))
    array([[1., 2., 4.],
           [0., 0., 2.]])
    """
    clouds = _checked(clouds)
    deaths = np.empty((len(clouds), clouds.shape[1] - 1))
    line = clouds.ndim == 2
    if torch.device(device).type != "cpu" or not line and clouds.shape[1] > LARGEST_MATRIX:
        work = _gaps_on_device if line else _spanning_tree_on_device
        return _on_device(work, clouds, deaths, device)
    return _in_chunks(_gaps if line else _spanning_tree, clouds, deaths)


def _checked(clouds: np.ndarray) -> np.ndarray:
    """Clouds as an array, in R^1 without the last axis; ValueError for what are none."""
    clouds = np.asarray(clouds)
    if clouds.ndim not in (2, 3):
        raise ValueError(
            f"clouds are (units, n) or (units, n, d), not an array of shape {clouds.shape}"
        )
    if clouds.shape[1] == 0 or clouds.ndim == 3 and clouds.shape[2] == 0:
        raise ValueError(f"a cloud needs at least one point and one coordinate: {clouds.shape}")
    if clouds.dtype.kind not in "fiu":
        raise ValueError(f"points must be real numbers, not {clouds.dtype}")
    if not np.isfinite(clouds).all():
        raise ValueError("a cloud holds values that are not finite (NaN or infinity)")
    return clouds[:, :, 0] if clouds.ndim == 3 and clouds.shape[2] == 1 else clouds


def _in_chunks(work: Callable, clouds: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Fill ``out`` with ``work`` of a few clouds at a time, on as many threads as torch has."""
    n = clouds.shape[1]
    step = LINE_BYTES // (8 * n) if clouds.ndim == 2 else CHUNK_BYTES // (8 * n * n)
    # Sorting and searching are exact in float32 and take half the time; only differences need
    # float64.
    dtype = np.float32 if clouds.dtype == np.float32 else np.float64

    def run(start: int) -> None:
        out[start : start + step] = work(clouds[start : start + step].astype(dtype))

    step = max(1, step)
    # A BLAS call in one of our threads must not start threads of its own.
    with _libraries().limit(limits=1, user_api="blas"):
        on_threads(run, range(0, len(clouds), step))
    return out


@cache
def _libraries() -> ThreadpoolController:
    """The libraries that have threads; looking for them takes milliseconds."""
    return ThreadpoolController()


def _largest_gap(points: np.ndarray) -> np.ndarray:
    """(units, n) -> (units,)"""
    return _neighbour_gaps(points).max(axis=1)


def _gaps(points: np.ndarray) -> np.ndarray:
    """(units, n) -> (units, n - 1): sorted gaps between neighbours on the line."""
    return np.sort(_neighbour_gaps(points), axis=1)


def _neighbour_gaps(points: np.ndarray) -> np.ndarray:
    """(units, n) -> (units, n - 1): gaps from left to right, in float64; sorts the points."""
    points.sort(axis=1)
    return np.subtract(points[:, 1:], points[:, :-1], dtype=np.float64)


def _last_merge(points: np.ndarray) -> np.ndarray:
    """(units, n, d) -> (units,): the merge radius, or NaN where float32 cannot tell.

    Every point must be joined to the rest by an edge that is at least as long as the one to its
    nearest neighbour. So the largest distance of a point to its nearest neighbour is a lower
    bound. It is the merge radius if the cloud is connected by that edge and all edges that are
    surely no longer, as most units' clouds are: mostly the last point to join lies by itself.
    Otherwise the part that is connected must be left by its shortest edge to the rest, whose
    length is another lower bound, and is tried in the same way.

    Edges are chosen in float32, which takes half the time, and measured in float64. A distance in
    float32 is off by less than ``slack``. So an edge that is shorter than the bound by more than
    the slack is surely shorter, and the nearest neighbour is surely among the candidates unless
    all of them lie within the slack.
    """
    units, n, d = points.shape
    each = np.arange(units)
    with np.errstate(over="ignore", invalid="ignore"):  # such clouds are not certain
        x = (points - points.mean(axis=1, keepdims=True)).astype(np.float32, copy=False)
        # Half the squared distance of a and b is (|a|^2 + |b|^2) / 2 - ab. ``distance`` leaves out
        # |a|^2 / 2, which is the same in all of a's row.
        half = np.einsum("und,und->un", x, x) / 2  # (units, n): |a|^2 / 2
        distance = x @ x.transpose(0, 2, 1)
        np.subtract(half[:, None, :], distance, out=distance)  # (units, n, n)
    distance.reshape(units, -1)[:, :: n + 1] = np.inf
    # A product of d terms rounds d times, each by 2^-24 of |a||b| at most; what comes before and
    # after it (centring, casting, two additions) rounds less than 16 times more.
    size = half.max(axis=1)
    slack = 4 * (d + 16) * 2.0**-24 * size  # (units,)
    certain = (size > SMALLEST) & (size < LARGEST)  # (units,)

    # The first bound: the point that is farthest from its nearest neighbour, and that edge
    nearest = distance.min(axis=2) + half  # (units, n)
    point = nearest.argmax(axis=1)  # (units,), as ``other`` and ``radius`` below
    row = distance[each, point]  # (units, n)
    count = min(CANDIDATES, n - 1)
    candidates = np.argpartition(row, count - 1, axis=1)[:, :count]  # (units, count)
    farthest = row[each[:, None], candidates].max(axis=1) + half[each, point]
    certain &= (count == n - 1) | (farthest > nearest[each, point] + 2 * slack)
    edges = _lengths(points, each[:, None], point[:, None], candidates)  # (units, count)
    best = edges.argmin(axis=1)
    other, radius = candidates[each, best], edges[each, best]

    hub = half.argmin(axis=1)  # the middle of the cloud, from which few steps lead everywhere
    reached = np.zeros((units, n), dtype=bool)
    reached[each, hub] = True
    for _ in range(BOUNDS):
        distance[each, point, other] = distance[each, other, point] = -np.inf  # is an edge
        surely = np.where(certain, radius**2 / 2 - slack, 0).astype(np.float32)
        _search(distance, surely[:, None] - half, hub, reached)
        unit, outside = np.nonzero(~reached & certain[:, None])  # (outside points,) each
        if len(unit) == 0:
            break
        # The next bound: the shortest edge from a point outside to one that is reached
        rows = distance[unit, outside] + half[unit, outside][:, None]  # (outside points, n)
        rows[~reached[unit]] = np.inf
        left, first = np.unique(unit, return_index=True)  # the units that are left, (left,) each
        shortest_row = np.lexsort((rows.min(axis=1), unit))[first]
        column = rows[shortest_row].argmin(axis=1)
        shortest = rows[shortest_row, column]
        rows[shortest_row, column] = np.inf
        second = np.minimum.reduceat(rows.min(axis=1), first)
        certain[left] = second > shortest + 2 * slack[left]
        point[left], other[left] = outside[shortest_row], column
        radius[left] = np.maximum(radius[left], _lengths(points, left, point[left], other[left]))
    return np.where(certain & reached.all(axis=1), radius, np.nan)


def _lengths(points: np.ndarray, units: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The lengths of the edges from points a to points b of some units, in float64."""
    return np.linalg.norm(points[units, a].astype(np.float64) - points[units, b], axis=-1)


def _search(distance: np.ndarray, limit: np.ndarray, hub: np.ndarray, reached: np.ndarray) -> None:
    """Search each unit's graph in breadth from the vertices in ``reached``, all units at once.

    Only the rows of vertices without an edge to ``hub`` are compared as a whole. A search ends
    after ``SEARCH_STEPS`` steps, whether or not it has reached everything that it could.

    Args:
        distance: ``(units, n, n)``; a and b have an edge where ``distance[a, b] <= limit[a]``.
        limit: ``(units, n)``.
        hub: ``(units,)``, a vertex in ``reached``.
        reached: ``(units, n)`` bool; filled in.
    """
    each = np.arange(len(distance))
    reached |= distance[each, hub] <= limit[each, hub][:, None]
    unit, vertex = np.nonzero(~reached)
    edge = distance[unit, vertex] <= limit[unit, vertex][:, None]  # (vertices, n)
    for _ in range(SEARCH_STEPS):
        hit = (edge & reached[unit]).any(axis=1)
        reached[unit[hit], vertex[hit]] = True
        unit, vertex, edge = unit[~hit], vertex[~hit], edge[~hit]
        if not (hit.any() and len(unit)):
            break


def _spanning_tree(points: np.ndarray) -> np.ndarray:
    """(units, n, d) -> (units, n - 1): sorted edge lengths of minimum spanning trees.

    Where an edge is far shorter than its cloud is wide, rounding alone may have chosen it: those
    clouds are done again with distances taken by difference.
    """
    points = points.astype(np.float64)
    edges = _prim(points, _squared_distances(points))
    width = np.linalg.norm(np.ptp(points, axis=1), axis=1)
    for u in np.flatnonzero(edges.min(axis=1, initial=np.inf) < 1e-3 * width):
        distance = squareform(pdist(points[u], "sqeuclidean"))
        edges[u] = _prim(points[u : u + 1], distance[None])[0]
    return np.sort(edges, axis=1)


def _on_device(
    work: Callable[[torch.Tensor], torch.Tensor],
    clouds: np.ndarray,
    out: np.ndarray,
    device: str | torch.device,
) -> np.ndarray:
    """Fill ``out`` with ``work`` of many clouds at a time, by torch: on a GPU, mostly."""
    n = clouds.shape[1]
    step = max(1, GPU_CHUNK_BYTES // (8 * n if clouds.ndim == 2 else 8 * n * n))
    for start in range(0, len(clouds), step):
        chunk = torch.from_numpy(np.ascontiguousarray(clouds[start : start + step])).to(device)
        out[start : start + step] = work(chunk).cpu().numpy()
    return out


def _neighbour_gaps_on_device(points: torch.Tensor) -> torch.Tensor:
    # Sorted in the points' own type, which for float32 is half the work
    return points.sort(dim=1).values.double().diff(dim=1)


def _largest_gap_on_device(points: torch.Tensor) -> torch.Tensor:
    return _neighbour_gaps_on_device(points).amax(dim=1)


def _gaps_on_device(points: torch.Tensor) -> torch.Tensor:
    return _neighbour_gaps_on_device(points).sort(dim=1).values


def _last_merge_on_device(points: torch.Tensor) -> torch.Tensor:
    return _edges_on_device(points).amax(dim=1)


def _spanning_tree_on_device(points: torch.Tensor) -> torch.Tensor:
    return _edges_on_device(points).sort(dim=1).values


def _edges_on_device(points: torch.Tensor) -> torch.Tensor:
    """(units, n, d) -> (units, n - 1): Prim's algorithm on distances taken by difference.

    Simpler than what a CPU does: a GPU has the arithmetic to spare, but each step costs the start
    of a kernel. All distances are held if they take less than ``GPU_CHUNK_BYTES``; otherwise each
    row is computed when it is asked for.
    """
    points = points.double()
    units, n, _ = points.shape
    each = torch.arange(units, device=points.device)
    distances = partial(torch.cdist, compute_mode="donot_use_mm_for_euclid_dist")
    held = distances(points, points) if 8 * units * n * n <= GPU_CHUNK_BYTES else None

    def row(point: torch.Tensor) -> torch.Tensor:
        """(units,) -> (units, n): distances of one point of each unit to all of its points."""
        if held is not None:
            return held[each, point]
        return distances(points[each, point][:, None], points)[:, 0]

    near = row(torch.zeros_like(each))  # distance of every point to the tree, inf inside of it
    near[:, 0] = torch.inf
    edges = points.new_empty(units, n - 1)
    for i in range(n - 1):
        edges[:, i], new = near.min(dim=1)
        near = torch.where(near.isinf(), near, torch.minimum(near, row(new)))
        near[each, new] = torch.inf
    return edges


def _squared_distances(points: np.ndarray) -> np.ndarray:
    """(units, n, d) -> (units, n, n), by one matrix product in float64.

    They are off by about 1e-16 of a cloud's squared size. So they choose the edges, whose lengths
    are then measured anew.
    """
    points = points - points.mean(axis=1, keepdims=True)  # less cancellation in the product
    squares = np.einsum("und,und->un", points, points)
    distance = points @ points.transpose(0, 2, 1)
    distance *= -2
    distance += squares[:, :, None]
    distance += squares[:, None, :]
    return distance


def _prim(points: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Edge lengths of minimum spanning trees, by Prim's algorithm, all units at once.

    Args:
        points: ``(units, n, d)``; distance: ``(units, n, n)``, squared.

    Returns:
        ``(units, n - 1)``, in the order in which the tree grew.
    """
    units, n, _ = points.shape
    each = np.arange(units)
    near = distance[:, 0].copy()  # squared distance of every point to the tree
    parent = np.zeros((units, n), dtype=np.intp)  # and the point of the tree at that distance
    near[:, 0] = np.inf  # inside the tree
    edges = np.empty((2, units, n - 1), dtype=np.intp)
    for i in range(n - 1):
        new = near.argmin(axis=1)
        edges[:, :, i] = parent[each, new], new
        row = distance[each, new]
        closer = (row < near) & np.isfinite(near)
        np.copyto(near, row, where=closer)
        np.copyto(parent, new[:, None], where=closer)
        near[each, new] = np.inf
    start, end = (points[each[:, None], ends] for ends in edges)  # (units, n - 1, d) each
    return np.linalg.norm(start - end, axis=2)


def spanning_tree(points: np.ndarray) -> np.ndarray:
    """Minimum spanning tree of one large cloud, exact to float64 rounding.

    Args:
        points: ``(n, d)``, n >= 1. Memory: 8 n^2 bytes.

    Returns:
        ``(n - 1, 2)``: the numbers of the points that each edge joins, in the order in which
        Prim's algorithm adds them. The edges' lengths are the H0 deaths; where distances are
        equal, it is one of several trees.

    >>> spanning_tree(np.array([[0.0, 0.0], [0.0, 3.0], [4.0, 0.0]])).tolist()
    [[0, 1], [0, 2]]
    """
    points = _checked(np.asarray(points)[None])[0].astype(np.float64)
    points = points.reshape(len(points), -1)
    distance = _squared_distances(points[None])[0]
    return tree_of_distances(distance)


def tree_of_distances(distance: np.ndarray) -> np.ndarray:
    """``spanning_tree`` of points given by their ``(n, n)`` distances, or squares of these."""
    near = distance[0].copy()  # of every point outside to the tree
    parent = np.zeros(len(distance), dtype=np.intp)
    near[0] = np.inf
    inside = np.zeros(len(distance), dtype=bool)
    inside[0] = True
    edges = np.empty((len(distance) - 1, 2), dtype=np.intp)
    for i in range(len(edges)):
        new = near.argmin()
        edges[i] = parent[new], new
        inside[new] = True
        near[new] = np.inf
        closer = (distance[new] < near) & ~inside
        np.copyto(near, distance[new], where=closer)
        parent[closer] = new
    return edges


def persistence_shares(
    points: np.ndarray, degree: float = 2.0, tree: np.ndarray | None = None
) -> np.ndarray:
    """What each coordinate contributes to the total persistence of a cloud.

    An edge (a, b) of the minimum spanning tree, of length l, gives coordinate u the amount
    l^(degree - 2) (y_u(a) - y_u(b))^2. All coordinates together get l^degree.

    Args:
        points: ``(n, d)``.
        degree: 1 or more; 2 splits the squared deaths, infinity the last death alone.
        tree: ``spanning_tree(points)``, if it is known already.

    Returns:
        ``(d,)`` float64, >= 0; the sum is that of the deaths to the power of ``degree`` (for
        infinity: the largest death).

    >>> persistence_shares(np.array([[0.0, 0.0], [0.0, 3.0], [4.0, 0.0]])).tolist()
    [16.0, 9.0]
    """
    if not degree >= 1:
        raise ValueError(f"degree={degree}: it must be at least 1")
    points = np.asarray(points)
    a, b = (spanning_tree(points) if tree is None else tree).T
    squares = (points[a].astype(np.float64) - points[b]) ** 2
    lengths = np.sqrt(squares.sum(axis=1))
    if np.isinf(degree):
        last = lengths.argmax()
        return squares[last] / (lengths[last] or 1.0)
    weights = np.zeros_like(lengths)
    np.power(lengths, degree - 2, out=weights, where=lengths > 0)
    return weights @ squares
