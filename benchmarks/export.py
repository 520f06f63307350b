"""What compression and int8 give together, outside PyTorch: size, metric and speed.

For each folder that ``obce compress`` has written (the compressed model; in ``dense/`` the dense
one), both models as ONNX files in float32 and in int8: bytes, the task's metrics on the dev set,
and seconds of forward passes per 1,000 texts in onnxruntime, beside PyTorch's own in float32. All
take turns, several rounds, so that a busy moment hits all of them; ratios are of one round.

    python -m benchmarks.export [FOLDER ...] [--rounds 7] [--out results/bench_export.json]

Where no folder is named, the models of two GLUE tasks are made first, which takes most of an hour;
``OBCE_GLUE_DIR`` or the Hub has the tasks. An interrupted run goes on where it stopped.
"""

import argparse
import os
import tempfile
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np
from tqdm import tqdm

from obce import tasks
from obce.jobs import arguments, compression
from obce.running.evaluation import predict
from obce.running.export import OnnxClassifier, quantize, to_onnx
from obce.running.loading import Classifier, load_classifier
from obce.running.records import environment, load_record, model_sha256, save_record, spread
from obce.running.speed import in_turns, ratios, running_threads, time_per_1000
from obce.units import count_parameters

BASE = "dense float32"
"""What every ratio is to."""

# task -> rows of training, epochs of the dense model and of the compressed one
MADE = {"sst2": (20_000, 1, 1), "stsb": (None, 3, 2)}


def make(folder: Path) -> list[Path]:
    """The folders of both models of the two tasks, made where they are not there yet."""
    for task, (rows, epochs, again) in MADE.items():
        compression.compress_job(
            "embedded",
            folder / task,
            arguments.Data(task, os.environ.get("OBCE_GLUE_DIR"), train_limit=rows),
            arguments.Analysis(),
            arguments.Cut(keep_encoder=0.465, ridge=0.001),
            tuning=arguments.Tuning(epochs=epochs, max_length=64),
            again=again,
        )
    return [folder / task for task in MADE]


def both_models(folder: Path, task: str) -> dict[str, Classifier]:
    return {
        "dense": load_classifier(folder / "dense", task),
        "compressed": load_classifier(folder, task),
    }


def write_files(classifiers: dict[str, Classifier], folder: Path) -> dict[str, Path]:
    """Each model in float32 and in int8: "dense float32" -> path, and so on."""
    paths = {}
    for name, classifier in classifiers.items():
        whole, small = (folder / f"{name} {kind}.onnx" for kind in ("float32", "int8"))
        to_onnx(classifier.model, whole)
        quantize(whole, small)
        paths |= {f"{name} float32": whole, f"{name} int8": small}
    return paths


def metrics_of(
    classifiers: dict[str, Classifier], paths: dict[str, Path], task: str, max_length: int | None
) -> dict[str, dict]:
    """Per file its size and metrics on the dev set; ``off_by`` is the mean difference of its
    logits from those of the same model in float32 in PyTorch, ``most`` the largest."""
    dev = tasks.load(task, "dev")
    options = {"max_length": max_length, "progress": False}
    tokenizer = classifiers["dense"].tokenizer
    found = {}
    for name, path in tqdm(paths.items(), desc=f"{task}, metrics", leave=False):
        model = classifiers[name.split()[0]].model
        expected = predict(model, tokenizer, dev, device="cpu", **options)
        logits = predict(OnnxClassifier(path), tokenizer, dev, device="cpu", **options)
        metrics = tasks.compute_metrics(task, logits, dev["label"])
        found[name] = {
            "bytes": path.stat().st_size,
            "parameters": count_parameters(model).total,
            "model_sha256": model_sha256(model),
            "metrics": metrics,
            "value": metrics[tasks.get_task(task).main_metric],
            "rows": len(dev),
            "off_by": float(np.abs(logits - expected).mean()),
            "most": float(np.abs(logits - expected).max()),
        }
    for entry in found.values():
        entry["bytes, ratio"] = entry["bytes"] / found[BASE]["bytes"]
    return found


def seconds_of(
    classifiers: dict[str, Classifier],
    paths: dict[str, Path],
    texts: list,
    threads: int,
    rounds: int,
    max_length: int | None,
) -> dict[str, dict]:
    """Per file, and per model in PyTorch, seconds per 1,000 texts and the ratio to the base."""
    tokenizer = classifiers["dense"].tokenizer
    models = {name: OnnxClassifier(path, threads) for name, path in paths.items()}
    models |= {f"{name} torch": entry.model for name, entry in classifiers.items()}
    options = {"max_length": max_length, "repeats": 1, "device": "cpu"}
    runs = {
        name: partial(time_per_1000, model, tokenizer, texts, **options)
        for name, model in models.items()
    }
    with running_threads(threads):
        found = in_turns(runs, rounds, progress=True)
    seconds = {name: [one["median"] for one in timed] for name, timed in found.items()}
    return {
        name: spread(values) | {"ratio": spread(ratios(values, seconds[BASE]))}
        for name, values in seconds.items()
    }


def how_made(record: dict) -> dict:
    """Of the record of ``obce compress``, what says which models these are."""
    keys = ("model", "arguments", "parameters", "tuning", "tuning_again")
    return {key: record[key] for key in keys if key in record} | {
        "stages": {
            name: {key: stage[key] for key in ("metric", "value", "order", "model_sha256")}
            for name, stage in record["stages"].items()
        }
    }


def run(
    folders: list[Path], rounds: int = 7, texts: int = 192, threads: tuple[int, ...] = (1, 2)
) -> dict:
    """The record: per task, files, seconds and how the models were made."""
    tasks = {}
    for folder in folders:
        made = load_record(folder / "record.json")
        task, max_length = made["task"], made["arguments"]["tuning"]["max_length"]
        classifiers = both_models(folder, task)
        sample = tasks.texts(tasks.load(task, "dev", limit=texts, seed=0))
        with tempfile.TemporaryDirectory() as scratch:
            paths = write_files(classifiers, Path(scratch))
            tasks[task] = {
                "metric": tasks.get_task(task).main_metric,
                "files": metrics_of(classifiers, paths, task, max_length),
                "seconds": {
                    str(n): seconds_of(classifiers, paths, sample, n, rounds, max_length)
                    for n in threads
                },
                "made": how_made(made),
            }
    return {
        "what": "dense and compressed models as ONNX files, in float32 and in int8",
        "base": BASE,
        "tasks": tasks,
        "tables": tables(tasks),
        "texts": texts,
        "batch_size": 32,
        "rounds": rounds,
        "onnx": {name: metadata.version(name) for name in ("onnx", "onnxruntime", "onnxscript")},
        "environment": environment(),
    }


def tables(tasks: dict) -> dict:
    """Seconds per 1,000 texts, with each file's size and metric beside them."""
    found = {}
    for task, entry in tasks.items():
        for threads, seconds in entry["seconds"].items():
            rows = {}
            for name, one in seconds.items():
                times = {key: value for key, value in one.items() if key != "ratio"}
                rows[name] = {"seconds": times, "ratio": one["ratio"]}
                if file := entry["files"].get(name):
                    rows[name]["note"] = f"{file['bytes'] / 1e6:.1f} MB, {100 * file['value']:.1f}"
            title = f"{task}, 1,000 texts, threads: {threads}; megabytes, {entry['metric']} in %"
            found[title] = {"ratio to": BASE, "rows": rows}
    return found


def show(record: dict) -> None:
    for task, found in record["tasks"].items():
        print(f"\n{task}: {found['metric']} on {found['files'][BASE]['rows']} rows; s per 1,000")
        for name in next(iter(found["seconds"].values())):
            file = found["files"].get(name)
            line = f"{name:<20}"
            line += f"{file['bytes'] / 1e6:7.1f} MB {file['value']:7.4f}" if file else " " * 18
            for threads, seconds in found["seconds"].items():
                one = seconds[name]
                line += (
                    f"   {threads} thr. {one['median']:6.2f} ({one['min']:.2f} to {one['max']:.2f})"
                    f" x {one['ratio']['median']:.2f}"
                )
            print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="*", help="written by obce compress")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--texts", type=int, default=192, help="dev texts that are timed")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    record = run(
        options.folders or make(Path("out/bench")),
        options.rounds,
        options.texts,
        tuple(options.threads),
    )
    show(record)
    if options.out:
        save_record(record, options.out)


if __name__ == "__main__":
    main()
