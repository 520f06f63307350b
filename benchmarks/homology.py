"""The merge radius of clouds beside what others take for it, and beside the arithmetic's floor.

Clouds in R^64: 150 texts of 64 tokens, units of the embedded model, as `texts` reads them.
Clouds in R: the 9,600 tokens of the same texts, as `tokens` reads them.
Each peer is called as its users call it, on one unit at a time.

    python -m benchmarks.homology [--repeats 7] [--out results/bench_homology.json]
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import gudhi
import numpy as np
import torch
from ripser import ripser
from scipy.cluster.hierarchy import linkage
from sklearn.cluster import AgglomerativeClustering
from threadpoolctl import threadpool_limits

import obce
from benchmarks.analysis import texts_of_64_tokens
from benchmarks.timing import arguments, finish, in_turn, table
from obce.running.speed import running_threads

UNITS = 960  # that each of our own cases takes at once, some from each layer and kind
PEERS = {  # and how many of them each peer takes, so that no case is much longer than another
    "SciPy, single linkage": 96,
    "scikit-learn, single linkage": 96,
    "gudhi, Rips complex": 12,
    "ripser": 36,
}


def last_linkage(cloud: np.ndarray) -> float:
    return linkage(cloud, "single")[-1, 2]


def last_of_sklearn(cloud: np.ndarray) -> float:
    model = AgglomerativeClustering(n_clusters=None, distance_threshold=0, linkage="single")
    return model.fit(cloud).distances_.max()


def last_of_gudhi(cloud: np.ndarray) -> float:
    tree = gudhi.RipsComplex(points=cloud).create_simplex_tree(max_dimension=1)
    tree.compute_persistence(homology_coeff_field=2)
    deaths = tree.persistence_intervals_in_dimension(0)[:, 1]
    return deaths[np.isfinite(deaths)].max()


def last_of_ripser(cloud: np.ndarray) -> float:
    deaths = ripser(cloud, maxdim=0)["dgms"][0][:, 1]
    return deaths[np.isfinite(deaths)].max()


CALLS = dict(
    zip(PEERS, (last_linkage, last_of_sklearn, last_of_gudhi, last_of_ripser), strict=True)
)


def distances_alone(clouds: np.ndarray) -> None:
    """The floor: the products that any distances between all points start from, in float32, on
    one thread, a few units at a time so that they stay in the cache. Nothing is done with them."""
    with threadpool_limits(1, "blas"):
        for start in range(0, len(clouds), 16):
            chunk = clouds[start : start + 16]
            chunk @ chunk.transpose(0, 2, 1)


def sorted_by_numpy(clouds: np.ndarray, workers: int) -> None:
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda part: np.sort(part, axis=1), np.array_split(clouds, 4 * workers)))


def real_clouds() -> tuple[np.ndarray, np.ndarray]:
    """``(UNITS, 150, 64)`` and ``(UNITS, 9600)``, float32, of the embedded model."""
    model, tokenizer = obce.load_bert()
    with obce.collect(model, tokenizer, texts_of_64_tokens(150)) as found:
        some = slice(0, -(-UNITS // len(found.groups)))
        space = [found.cloud(*key, "texts", some) for key in found.groups]
        line = [found.cloud(*key, "tokens", some) for key in found.groups]
    return np.concatenate(space)[:UNITS], np.concatenate(line)[:UNITS]


def in_space(clouds: np.ndarray, repeats: int) -> dict:
    """Seconds of one unit's merge radius in R^64, and ratios to the distances alone."""
    radius = obce.homology.merge_radius
    ours = radius(clouds)
    for name, count in PEERS.items():
        theirs = [CALLS[name](cloud) for cloud in clouds[:count].astype(np.float64)]
        np.testing.assert_allclose(ours[:count], theirs, rtol=1e-5)  # ripser works in float32
    every = os.cpu_count()

    def on(count: int):
        with running_threads(count):
            radius(clouds)

    def on_peer(name: str):
        for cloud in clouds[: PEERS[name]]:
            CALLS[name](cloud)

    floor = "distances alone, 1 thread"
    cases = {floor: lambda: distances_alone(clouds), "obce, 1 thread": lambda: on(1)}
    cases[f"obce, {every} threads"] = lambda: on(every)
    if torch.cuda.is_available():
        cases["obce, GPU"] = lambda: radius(clouds, "cuda")
    cases |= {name: lambda name=name: on_peer(name) for name in PEERS}
    seconds = in_turn(cases, repeats)
    each = {n: [s / PEERS.get(n, len(clouds)) for s in found] for n, found in seconds.items()}
    return table(each, floor)


def on_the_line(clouds: np.ndarray, repeats: int) -> dict:
    """Seconds of one unit's merge radius in R, and ratios to sorting alone."""
    every = os.cpu_count()

    def on(count: int):
        with running_threads(count):
            obce.homology.merge_radius(clouds)

    cases = {
        "numpy.sort, 1 thread": lambda: sorted_by_numpy(clouds, 1),
        f"numpy.sort, {every} threads": lambda: sorted_by_numpy(clouds, every),
        "obce, 1 thread": lambda: on(1),
        f"obce, {every} threads": lambda: on(every),
        "torch.sort": lambda: torch.from_numpy(clouds).sort(dim=1),
    }
    return table(in_turn(cases, repeats), f"numpy.sort, {every} threads", len(clouds))


def run(repeats: int = 7) -> dict:
    space, line = real_clouds()
    few = line[:, :1000].astype(np.float64)  # ripser needs 6 GB for 10,000 points
    np.testing.assert_allclose(
        obce.homology.merge_radius(few[:5]), [last_of_ripser(c[:, None]) for c in few[:5]], 1e-5
    )
    short = {
        "obce": lambda: obce.homology.merge_radius(few),
        "ripser": lambda: [last_of_ripser(cloud[:, None]) for cloud in few[:3]],
    }
    seconds = in_turn(short, repeats)
    seconds = {"obce": np.array(seconds["obce"]) / UNITS, "ripser": np.array(seconds["ripser"]) / 3}
    return {
        "what": "merge radius per unit, and the same from other programs",
        "repeats": repeats,
        "units": UNITS,
        "peers_units": PEERS,
        "tables": {
            "a unit's cloud of 150 points in R^64": in_space(space, repeats),
            "a unit's cloud of 9,600 points in R": on_the_line(line, repeats),
            "a unit's cloud of 1,000 points in R": table(seconds, "obce"),
        },
    }


def main() -> None:
    options = arguments(__doc__, repeats=7).parse_args()
    finish(run(options.repeats), options.out)


if __name__ == "__main__":
    main()
