"""Zero-dimensional persistent homology of point clouds, exact and batched.

Grow a ball around every point and count connected components. Each time two components meet,
one *dies*. The H0 deaths of the Vietoris-Rips filtration, indexed by diameter as Ripser does,
are the edge lengths of a minimum spanning tree, which are the merge heights of single-linkage
clustering. On a line they are the gaps between neighbours. The last finite death, at which the
cloud has become one component, is the *merge radius* r_f of OBCE (arXiv 2312.10702); read as a
radius of balls it is half of that, which changes no rank.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.spatial.distance import pdist, squareform
from threadpoolctl import threadpool_limits

CHUNK_BYTES = 4 << 20  # squared distances walked at once by one thread: about a core's cache
BOUND_ROUNDS = 12  # enough for nearly all activation clouds; more costs more than Prim does


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
    """
    deaths = np.append(h0_deaths(points), np.inf)
    return np.column_stack([np.zeros_like(deaths), deaths])


def merge_radius(clouds: np.ndarray) -> np.ndarray:
    """The largest finite H0 death of each cloud: the scale at which it is one component.

    Args:
        clouds: ``(units, n)`` for points in R or ``(units, n, d)`` for points in R^d, n >= 1.

    Returns:
        ``(units,)`` float64; 0 for a cloud of one point.

    Raises:
        ValueError: empty clouds, other dimensions, or values that are not finite.
    """
    clouds = _checked(clouds)
    if clouds.shape[1] == 1:
        return np.zeros(len(clouds))
    work = _largest_gap if clouds.ndim == 2 else _last_merge
    return _in_chunks(work, clouds, np.empty(len(clouds)))


def batched_deaths(clouds: np.ndarray) -> np.ndarray:
    """``h0_deaths`` of many clouds of equally many points.

    Args:
        clouds: ``(units, n)`` or ``(units, n, d)``.

    Returns:
        ``(units, n - 1)`` float64, ascending along the last axis.
    """
    clouds = _checked(clouds)
    work = _gaps if clouds.ndim == 2 else _spanning_tree
    return _in_chunks(work, clouds, np.empty((len(clouds), clouds.shape[1] - 1)))


def _checked(clouds: np.ndarray) -> np.ndarray:
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
    """Fill ``out`` with ``work`` of a few clouds at a time, on all cores."""
    n = clouds.shape[1]
    step = max(1, CHUNK_BYTES // (8 * n if clouds.ndim == 2 else 8 * n * n))
    # Sorting rounds nothing, and float32 sorts about twice as fast: only differences need float64.
    dtype = np.float32 if clouds.ndim == 2 and clouds.dtype == np.float32 else np.float64

    def run(start: int) -> None:
        out[start : start + step] = work(clouds[start : start + step].astype(dtype))

    if len(clouds) <= step:  # starting threads takes longer than a small cloud does
        run(0)
        return out
    # NumPy and BLAS release the interpreter's lock in their loops: plain threads share the
    # cores, one chunk each, and BLAS must not start threads of its own inside them.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(run, range(0, len(clouds), step)))
    return out


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
    """(units, n, d) -> (units,): the largest edge of each minimum spanning tree.

    Every point must be joined through its nearest neighbour at least, so the largest distance
    of a point to its nearest neighbour is a lower bound t of the merge radius. If the graph of
    all edges up to t is connected, t is the merge radius. Else, the component found so far
    must be left through its shortest outgoing edge: a new bound. Most clouds need one bound;
    those that go on and on, like beads on a string, are left to Prim.
    """
    distance = _squared_distances(points)
    units, n, _ = points.shape
    diagonal = np.arange(n)
    distance[:, diagonal, diagonal] = np.inf
    bound = distance.min(axis=2).max(axis=1)
    joined = distance <= bound[:, None, None]
    reached = np.zeros((units, n), dtype=bool)
    reached[:, 0] = True
    for _ in range(BOUND_ROUNDS):
        before = reached.sum(axis=1)
        reached |= (joined & reached[:, None, :]).any(axis=2)
        count = reached.sum(axis=1)
        for u in np.flatnonzero((count == before) & (count < n)):
            bound[u] = distance[u][np.ix_(~reached[u], reached[u])].min()
            joined[u] = distance[u] <= bound[u]
        if (count == n).all():
            break
    # The bound is one of the distances: measure that edge anew, by its difference.
    edge = (distance == bound[:, None, None]).reshape(units, -1).argmax(axis=1)
    a, b = np.divmod(edge, n)
    each = np.arange(units)
    radius = np.linalg.norm(points[each, a] - points[each, b], axis=1)
    rest = np.flatnonzero(count < n)
    if len(rest):
        radius[rest] = _prim(points[rest], distance[rest]).max(axis=1)
    return radius


def _spanning_tree(points: np.ndarray) -> np.ndarray:
    """(units, n, d) -> (units, n - 1): sorted edge lengths of minimum spanning trees.

    An edge far shorter than its cloud is wide may have been chosen by rounding alone: those
    clouds are done again with distances taken by difference.
    """
    edges = _prim(points, _squared_distances(points))
    width = np.linalg.norm(np.ptp(points, axis=1), axis=1)
    for u in np.flatnonzero(edges.min(axis=1, initial=np.inf) < 1e-3 * width):
        distance = squareform(pdist(points[u], "sqeuclidean"))
        edges[u] = _prim(points[u : u + 1], distance[None])[0]
    return np.sort(edges, axis=1)


def _squared_distances(points: np.ndarray) -> np.ndarray:
    """(units, n, d) -> (units, n, n), by one matrix product in float64.

    Rounding leaves about 1e-16 of a cloud's squared size, so these choose edges and are never
    reported: the chosen edges are measured anew.
    """
    points = points - points.mean(axis=1, keepdims=True)  # less cancellation in the product
    squares = np.einsum("und,und->un", points, points)
    distance = points @ points.transpose(0, 2, 1)
    distance *= -2
    distance += squares[:, :, None]
    distance += squares[:, None, :]
    return distance


def _prim(points: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Edge lengths of minimum spanning trees, by Prim's algorithm in lockstep over the units.

    Args:
        points: ``(units, n, d)``; distance: ``(units, n, n)``, squared.

    Returns:
        ``(units, n - 1)``, in the order in which the tree grew.
    """
    units, n, _ = points.shape
    each = np.arange(units)
    near = distance[:, 0].copy()  # squared distance of every point to the tree
    parent = np.zeros((units, n), dtype=np.intp)
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
    return np.linalg.norm(points[each[:, None], edges[0]] - points[each[:, None], edges[1]], axis=2)
