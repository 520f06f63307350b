"""Files with seeded mutations, and what each loader makes of them.

Each outcome is one of OUTCOMES. That a loader refuses, or that the mutation changed nothing that
means anything, is good. A mutation may also lead to another valid file (a letter of a sentence is
another letter): that no loader can know, but it must then hold all that such a file promises.
"""

from __future__ import annotations

import contextlib
import copy
import json
import random
import re
import signal
import struct
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from datasets import logging as datasets_logging

import obce
from obce import tasks
from obce.running.loading import load_classifier
from obce.running.records import load_record, load_sealed, save_sealed
from obce.scores import Scores
from obce.tasks.own import own_task
from obce.units import KINDS, shape_of
from tools.stress.models import TASK, glue_folder, tiny_bert

OUTCOMES = ("refused", "same_meaning", "other_valid", "nonsense", "other_exceptions")
SECONDS = 30  # a loader that takes longer hangs


@dataclass
class Loader:
    """A loader under test.

    ``files``: what may be mutated, whole; ``load`` reads the file at a path; ``nonsense`` says what
    is wrong with something that was accepted and is not what the whole file holds, or None.
    """

    files: list[Path]
    load: Callable[[Path], Any]
    nonsense: Callable[[Any, Any], str | None]


# Mutations of bytes


def _of_bytes(data: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(data) + 1)
    stop = min(len(data), start + chance.choice((1, 1, 1, 2, 8, 64)))
    some = bytes(chance.randrange(256) for _ in range(stop - start))
    piece = data[start:stop]
    other = chance.randrange(len(data) + 1)
    return chance.choice(
        (
            data[:start] + some + data[stop:],
            data[:start] + data[stop:],
            data[:start] + piece + data[start:],
            data[:start] + bytes(stop - start) + data[stop:],
            data[:start] + bytes([chance.choice(b'\0\t\r\n "0-9.,:{}[]eENn\xff')]) + data[start:],
            data[:other] + piece + data[other:],
            data[:start],
            _other_digit(data, chance),
            _other_digit(data, chance),
        )
    )


def _other_digit(data: bytes, chance: random.Random) -> bytes:
    digits = [match.start() for match in re.finditer(rb"\d", data)]
    if not digits:
        return data
    place = chance.choice(digits)
    return data[:place] + str(chance.randrange(10)).encode() + data[place + 1 :]


# Mutations of JSON

STRANGE = (None, True, False, 0, -1, 1, 7, 64.5, 10**9, 10**30, 1e308, -0.0, "", "x", "7", [], {})
STRANGE += ([1], {"a": 1}, float("nan"), float("inf"), [[[]]], "\u202e\n<b>", 1e-300)


def _of_json(value: Any, chance: random.Random) -> Any:
    """A copy of a JSON value that differs in one place."""
    value = copy.deepcopy(value)
    inner = list(_containers(value))
    if not inner:
        return chance.choice(STRANGE)
    place = chance.choice(inner)
    keys = list(place) if isinstance(place, dict) else list(range(len(place)))
    if not keys:
        return chance.choice(STRANGE)
    key, other = chance.choice(keys), chance.choice(keys)
    way = chance.randrange(9)
    if way == 0:
        del place[key]
    elif way == 1:
        place[key] = chance.choice(STRANGE)
    elif way == 2:
        place[key], place[other] = place[other], place[key]
    elif way == 3:
        place[key] = [place[key]]
    elif way == 4 and isinstance(place, dict):
        place[f"{key}{chance.choice(('x', ' ', '0'))}"] = place.pop(key)
    elif way == 5 and isinstance(place, list):
        place.insert(key, place[other])
    elif way == 6:
        deep: Any = place[key]
        for _ in range(chance.choice((3, 200, 3000))):
            deep = [deep]
        place[key] = deep
    elif isinstance(place[key], bool) or not isinstance(place[key], int | float):
        place[key] = str(place[key]) if way == 7 else chance.choice(STRANGE)
    else:
        near = (place[key] + 1, place[key] - 1, -place[key], place[key] * 2, place[key] + 0.5)
        place[key] = chance.choice((*near, place[key] * 1e6))
    return value


def _containers(value: Any) -> Iterator[dict | list]:
    if isinstance(value, dict | list):
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _containers(inner)


def _dump(value: Any) -> bytes:
    """JSON that may be nested more deeply than Python's writer goes."""
    depth, inner = 0, value
    try:
        return json.dumps(value).encode()
    except RecursionError:
        while isinstance(inner, list | dict) and inner and depth < 10**4:
            inner = next(iter(inner.values() if isinstance(inner, dict) else inner))
            depth += 1
        return b"[" * 5000 + b"]" * 5000


# Mutations of tables and of safetensors


def _of_lines(data: bytes, chance: random.Random) -> bytes:
    lines = data.split(b"\n")
    number = chance.randrange(len(lines))
    separator = b"\t" if b"\t" in data else b","
    cells = lines[number].split(separator)
    cell = chance.randrange(len(cells))
    strange = (b"", b"7", b"-1", b"nan", b"0_1", b"\0", b"a\rb", b'"', b"a" * 9000, b" 1", b"1.0")
    way = chance.randrange(7)
    if way == 0:
        del cells[cell]
    elif way == 1:
        cells.insert(cell, b"more")
    elif way == 2:
        cells[cell] = chance.choice(strange)
    elif way == 3:
        cells.reverse()
    elif way == 4:
        cells[cell] += chance.choice(strange)
    lines[number] = separator.join(cells)
    if way == 5:
        del lines[number]
    elif way == 6:
        lines.insert(number, chance.choice(lines))
    return b"\n".join(lines)


def _of_safetensors(data: bytes, chance: random.Random) -> bytes:
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header = _of_json(header, chance)
    if chance.randrange(3) == 0 and isinstance(header, dict):
        name = chance.choice([name for name in header if isinstance(header[name], dict)] or ["x"])
        if isinstance(header.get(name), dict) and "dtype" in header[name]:
            header[name]["dtype"] = chance.choice(("I32", "F16", "F64", "BOOL"))
    text = _dump(header)
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def mutated(path: Path, chance: random.Random) -> bytes:
    """The bytes of a file with one mutation, or two."""
    data = path.read_bytes()
    for _ in range(chance.choice((1, 1, 1, 2))):
        kinds = [_of_bytes]
        if path.suffix in (".json", ".jsonl"):
            kinds += [_of_json_text] * 3
        if path.suffix in (".tsv", ".csv"):
            kinds += [_of_lines] * 2
        if path.suffix == ".safetensors":
            kinds += [_of_safetensors] * 2
        if len(data) > 8:
            with contextlib.suppress(ValueError, KeyError, RecursionError, struct.error):
                data = chance.choice(kinds)(data, chance)
    return data


def _of_json_text(data: bytes, chance: random.Random) -> bytes:
    lines = data.splitlines() if data.count(b'{"') > 1 and data.startswith(b'{"') else [data]
    number = chance.randrange(len(lines))
    lines[number] = _dump(_of_json(json.loads(lines[number]), chance))
    return b"\n".join(lines)


# The loaders


def loaders(folder: Path) -> dict[str, Loader]:
    """All loaders, with whole files for them in ``folder``."""
    model = tiny_bert(folder / "model", TASK)
    glue = glue_folder(folder / "glue")
    bert = load_classifier(model, TASK).model
    chance = np.random.default_rng(0)
    shape = shape_of(bert)
    info = {"score": "merge_radius", "cloud": "mean", "max_length": 64}
    scores = Scores(
        {g: chance.random(shape.width(g[1])).astype(np.float32) for g in shape.groups()}, info
    )
    whole = folder / "whole"
    whole.mkdir()
    scores.save(whole / "scores.safetensors")
    obce.plan(bert, scores, level="medium").save(whole / "plan.json")
    record = {"arguments": {"model": "tiny", "limits": [1, 2.5, None]}, "stages": {"dense": info}}
    save_sealed(record, whole / "record.json")
    return {
        "plan": _plans(whole),
        "scores": _scores(whole, set(shape.groups())),
        "record": Loader(
            [whole / "record.json"], _records, lambda found, wanted: "it was changed, and unseen"
        ),
        "config": _configs(model),
        "glue": _glue(folder, glue),
        "own_data": _own(folder),
    }


def _plans(whole: Path) -> Loader:
    def load(path: Path) -> dict:
        plan = obce.Plan.load(path)
        str(plan), plan.summary()
        kept = {group: units.tolist() for group, units in plan.kept.items()}
        return {"shape": plan.shape, "kept": kept, "dense": plan.dense, "info": plan.info}

    return Loader([whole / "plan.json"], load, lambda found, wanted: "it was changed, and unseen")


def _scores(whole: Path, groups: set) -> Loader:
    def load(path: Path) -> dict:
        scores = Scores.load(path)
        return {"info": scores.info, **{g: v.tolist() for g, v in scores.items()}, "_": scores}

    def nonsense(found: dict, wanted: dict) -> str | None:
        values = found["_"]
        if any(layer < 0 or kind not in KINDS for layer, kind in values):
            return "a group that no model has"
        if any(v.dtype != np.float32 or v.ndim != 1 for v in values.values()):
            return "not one float32 number for each unit"
        if not all(np.isfinite(v).all() for v in values.values()):
            return "numbers that are not finite"
        return None if set(values) == groups else "groups are missing"

    return Loader([whole / "scores.safetensors"], load, nonsense)


def _records(path: Path) -> dict:
    with contextlib.suppress(ValueError):  # what the book reads: strict JSON, whatever it says
        json.dumps(load_record(path), allow_nan=False)
    return load_sealed(path)


# Fields with which a model may be run otherwise, so that another value is another valid model.
CHOICES = {"num_attention_heads", "hidden_act", "layer_norm_eps", "pad_token_id"}


def _configs(model: Path) -> Loader:
    texts = ["the film was great.", "i had heard that the sauce was awful, yet"]

    def load(path: Path) -> dict:
        """The model beside the config, run on two texts."""
        found = load_classifier(path.parent, TASK)
        batch = found.tokenizer(texts, padding=True, return_tensors="pt")
        found.model.eval()
        with torch.inference_mode():
            logits = found.model(**batch).logits
        config = found.model.config.to_dict()
        return {"logits": logits.tolist(), "choices": {n: config.get(n) for n in sorted(CHOICES)}}

    def nonsense(found: dict, wanted: dict) -> str | None:
        if not np.isfinite(found["logits"]).all():
            return "logits that are not finite"
        if found["choices"] == wanted["choices"]:
            return "other logits, though nothing says so"
        return None

    return Loader([model / "config.json"], load, nonsense)


def _texts(dataset: Dataset) -> dict[str, list]:
    return {name: list(dataset[name]) for name in dataset.column_names}


def _broken_rows(found: dict[str, list], labels: int, never: str) -> str | None:
    for name, column in found.items():
        if name != "label":
            if any(not isinstance(text, str) or set(never) & set(text) for text in column):
                return f"a text that holds one of {never!r}, or none at all"
        elif labels and not all(value in range(labels) for value in column):
            return "a class that the task lacks"
        elif not labels and not all(np.isfinite(value) and 0 <= value <= 5 for value in column):
            return "a score that the task lacks"
    return None


def _glue(folder: Path, glue: Path) -> Loader:
    """One file each with one sentence, with two, with classes, with scores, without a header."""
    rows = [("A man sings.", "A man is singing .", 4.2), ("Dogs run.", "A cat sleeps", 0.0)] * 4
    files = {
        "stsb": ("STS-B", "sentence1\tsentence2\tscore", [f"{a}\t{b}\t{s}" for a, b, s in rows]),
        "mrpc": ("MRPC", "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
                 [f"{int(s > 2)}\t1\t2\t{a}\t{b}" for a, b, s in rows]),
        "rte": ("RTE", "index\tsentence1\tsentence2\tlabel",
                [f"{i}\t{a}\t{b}\tentailment" for i, (a, b, _) in enumerate(rows)]),
        "cola": ("CoLA", None, [f"gj04\t{int(s > 2)}\t\t{a}" for a, _, s in rows]),
    }  # fmt: skip
    paths = {glue / "SST-2" / "dev.tsv": "sst2"}
    for task, (name, header, lines) in files.items():
        path = glue / name / "dev.tsv"
        path.parent.mkdir()
        lines = [header, *lines] if header else lines
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        paths[path] = task

    def load(path: Path) -> dict:
        task = paths[path]
        return {**_texts(tasks.load(task, "dev", folder=glue)), "_": task}

    def nonsense(found: dict, wanted: dict) -> str | None:
        info = tasks.get_task(found["_"])
        rows = {k: v for k, v in found.items() if k != "_"}
        return _broken_rows(rows, len(info.labels), "\0\r\n\t")

    return Loader(list(paths), load, nonsense)


def _own(folder: Path) -> Loader:
    """Classes by name, classes by number, and scores; as CSV, TSV, JSON lines and Parquet."""
    own = folder / "own"
    own.mkdir()
    texts = ["fine, really", 'she said "no"', "good", "bad", "so-so", "never again"] * 2
    labels = ["pos", "neg", "pos", "neg", "mid", "neg"] * 2
    table = Dataset.from_dict({"text": texts, "label": labels})
    table.to_csv(own / "names.csv", index=False)
    table.to_json(own / "names.jsonl")
    table.to_parquet(own / "names.parquet")
    scores = Dataset.from_dict({"text": texts, "label": [i / 3 for i in range(12)]})
    scores.to_csv(own / "scores.csv", index=False)
    lines = [f"{text}\t{i % 3}" for i, text in enumerate(texts)]
    (own / "numbers.tsv").write_text("text\tlabel\n" + "\n".join(lines) + "\n", encoding="utf-8")

    def load(path: Path) -> dict:
        task = own_task(path)
        return {**_texts(task.data["train"]), "_": task.labels}

    def nonsense(found: dict, wanted: dict) -> str | None:
        rows = {k: v for k, v in found.items() if k != "_"}
        if not found["_"]:
            if not np.isfinite(rows["label"]).all():
                return "a score that is not finite"
            rows.pop("label")
        if any(not text.strip() for text in rows["sentence"]):
            return "an empty text"
        return _broken_rows(rows, len(found["_"]), "\0")

    return Loader(sorted(own.iterdir()), load, nonsense)


# Counting


class Hung(Exception):
    """A loader took too long."""


@contextlib.contextmanager
def _in_time() -> Iterator[None]:
    def hung(number: int, frame: object) -> None:
        raise Hung(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def mutate(loader: Loader, count: int, seed: int, keep: Path | None = None) -> dict[str, Any]:
    """Load ``count`` mutated files; the whole files are as they were afterwards.

    Args:
        keep: a folder for files whose outcome is bad.

    Returns:
        how often each of OUTCOMES came, ``longest_message``, and ``examples`` of bad outcomes.
    """
    chance = random.Random(seed)
    counts: Counter[str] = Counter()
    longest, examples = 0, Counter()
    datasets_logging.set_verbosity(datasets_logging.CRITICAL)
    wanted = {path: _without_object(loader.load(path)) for path in loader.files}
    for number in range(count):
        path = loader.files[number % len(loader.files)]
        whole = path.read_bytes()
        data = mutated(path, chance)
        try:
            path.write_bytes(data)
            outcome, what = _outcome(loader, path, wanted[path])
        finally:
            path.write_bytes(whole)
        counts[outcome] += 1
        if outcome == "refused":
            longest = max(longest, len(what))
        elif outcome in ("nonsense", "other_exceptions"):
            examples[what[:160]] += 1
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{number}-{outcome}-{path.name}").write_bytes(data)
    return {
        **{name: counts[name] for name in OUTCOMES},
        "longest_message": longest,
        "examples": dict(examples.most_common(5)),
    }


def _outcome(loader: Loader, path: Path, wanted: Any) -> tuple[str, str]:
    try:
        with _in_time(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = loader.load(path)
    except (ValueError, OSError) as error:
        return "refused", str(error)
    except Exception as error:
        return "other_exceptions", f"{type(error).__name__}: {error}"
    if _without_object(found) == wanted:
        return "same_meaning", ""
    what = loader.nonsense(found, wanted)
    return ("nonsense", what) if what else ("other_valid", "")


def _without_object(found: Any) -> Any:
    return {key: value for key, value in found.items() if key != "_"}
