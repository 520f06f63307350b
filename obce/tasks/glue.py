"""The tasks: GLUE from a folder or the Hub, the built-in miniatures, and their official metrics.

GLUE: A. Wang et al., "GLUE: A Multi-Task Benchmark and Analysis Platform for Natural Language
Understanding", ICLR 2019. Label orders, split sizes and column names are those of
``nyu-mll/glue`` on the Hugging Face Hub.
"""

from __future__ import annotations

import math
import os
import random
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obce.base.hub import on_hub
from obce.tasks import miniature
from obce.tasks.task import Task

if TYPE_CHECKING:
    import datasets
    from transformers import PretrainedConfig

HUB_NAME = "nyu-mll/glue"
FOLDER_VARIABLE = "OBCE_GLUE_DIR"


_ONE, _TWO = ("sentence",), ("sentence1", "sentence2")
_SIGN = ("negative", "positive")
_GRAMMAR = ("unacceptable", "acceptable")
_SAME = ("not_equivalent", "equivalent")
_RTE = ("entailment", "not_entailment")
_MNLI = ("entailment", "neutral", "contradiction")
_ACCURACY, _MCC, _F1 = ("accuracy",), ("matthews_correlation",), ("accuracy", "f1")
_CORRELATION = ("pearson", "spearmanr")
_PREMISE = ("premise", "hypothesis")


def _rows(train: int, dev: int, test: int) -> dict[str, int]:
    return {"train": train, "dev": dev, "test": test}


_MINI_ROWS = _rows(*(miniature.SIZES[split] for split in ("train", "dev", "test")))

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("cola", _ONE, _GRAMMAR, _MCC, _rows(8551, 1043, 1063), "CoLA",
             headerless=("source", "label", "mark", "sentence")),
        Task("sst2", _ONE, _SIGN, _ACCURACY, _rows(67349, 872, 1821), "SST-2"),
        Task("mrpc", _TWO, _SAME, _F1, _rows(3668, 408, 1725), "MRPC",
             columns=("#1 String", "#2 String"), label_column="Quality"),
        Task("stsb", _TWO, (), _CORRELATION, _rows(5749, 1500, 1379), "STS-B",
             label_column="score"),
        Task("qqp", _TWO, ("not_duplicate", "duplicate"), _F1, _rows(363846, 40430, 390965), "QQP",
             columns=("question1", "question2"), label_column="is_duplicate",
             hub_columns=("question1", "question2")),
        Task("mnli", _TWO, _MNLI, _ACCURACY,
             _rows(392702, 9815, 9796) | {"dev_mismatched": 9832, "test_mismatched": 9847}, "MNLI",
             label_column="gold_label", file_labels=_MNLI, hub_columns=_PREMISE),
        Task("qnli", _TWO, _RTE, _ACCURACY, _rows(104743, 5463, 5463), "QNLI",
             columns=("question", "sentence"), file_labels=_RTE,
             hub_columns=("question", "sentence")),
        Task("rte", _TWO, _RTE, _ACCURACY, _rows(2490, 277, 3000), "RTE", file_labels=_RTE),
        Task("wnli", _TWO, ("not_entailment", "entailment"), _ACCURACY, _rows(635, 71, 146),
             "WNLI"),
        Task("ax", _TWO, _MNLI, _MCC, {"test": 1104}, "AX", file_labels=_MNLI,
             hub_columns=_PREMISE),
        Task("mini-acceptability", _ONE, _GRAMMAR, _MCC, _MINI_ROWS),
        Task("mini-sentiment", _ONE, _SIGN, _ACCURACY, _MINI_ROWS),
        Task("mini-paraphrase", _TWO, _SAME, _F1, _MINI_ROWS),
        Task("mini-similarity", _TWO, (), _CORRELATION, _MINI_ROWS),
        Task("mini-entailment", _TWO, _RTE, _ACCURACY, _MINI_ROWS),
    )
}  # fmt: skip


def get_task(name: str | Task) -> Task:
    """The task of that name; case, ``-`` and ``_`` do not matter (``SST-2`` is ``sst2``).

    A ``Task`` is returned as it is, so that functions take either.

    Raises:
        ValueError: an unknown name; the message lists those there are.

    >>> get_task("SST-2").labels
    ('negative', 'positive')
    """
    if isinstance(name, Task):
        return name
    plain = str(name).lower().replace("-", "").replace("_", "")
    for task in TASKS.values():
        if task.name.replace("-", "") == plain:
            return task
    raise ValueError(f"unknown task {name!r}; known are {', '.join(TASKS)}")


def load(
    name: str | Task,
    split: str,
    folder: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> datasets.Dataset:
    """Rows of a task: ``sentence``, or ``sentence1`` and ``sentence2``, and ``label``.

    ``label`` is an int class in the task's label order, a float for a regression, and absent
    where the split is unlabelled. Built-in tasks are generated, a user's own hold their rows. GLUE
    comes from ``folder`` (the official TSV layout), else from the folder that ``OBCE_GLUE_DIR``
    names, else from the Hub. ``limit`` takes that many rows at random, drawn with ``seed`` (all
    rows, in their order, if there are no more). Raises ValueError for an unknown task or split, a
    missing or torn file, and a Hub that cannot be reached.

    >>> load("mini-sentiment", "dev", limit=2).column_names
    ['sentence', 'label']
    """
    task = get_task(name)
    if split not in task.rows:
        raise ValueError(f"task {task.name} has no split {split!r}; it has {', '.join(task.rows)}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1 row, not {limit}")
    folder = folder or os.environ.get(FOLDER_VARIABLE)
    if task.data:
        dataset = task.data[split]
    elif task.builtin:
        dataset = _dataset(task, miniature.generate(task.name, split))
    elif folder:
        dataset = _dataset(task, _read_folder(task, split, Path(folder)))
    else:
        dataset = _read_hub(task, split)
    if limit is not None and limit < len(dataset):
        dataset = dataset.select(random.Random(seed).sample(range(len(dataset)), limit))
    return dataset


def _features(task: Task, labelled: bool) -> datasets.Features:
    import datasets

    features = {field: datasets.Value("string") for field in task.fields}
    if labelled and task.is_regression:
        features["label"] = datasets.Value("float32")  # as on the Hub: then sha256 agrees too
    elif labelled:
        features["label"] = datasets.ClassLabel(names=list(task.labels))
    return datasets.Features(features)


def _dataset(task: Task, rows: list[tuple]) -> datasets.Dataset:
    from datasets import Dataset

    features = _features(task, labelled=len(rows[0]) > len(task.fields))
    columns = {name: [row[i] for row in rows] for i, name in enumerate(features)}
    return Dataset.from_dict(columns, features)


def _path(task: Task, split: str, folder: Path) -> Path:
    if not folder.is_dir():
        raise ValueError(f"GLUE folder {folder} does not exist; it should hold {task.folder}/")
    if task.name == "ax":
        old = folder / "diagnostic" / "diagnostic.tsv"  # where the official script puts it
        path = old if old.is_file() else folder / task.folder / "diagnostic.tsv"
    elif task.name == "mnli" and split in ("dev", "test"):
        path = folder / task.folder / f"{split}_matched.tsv"
    else:
        path = folder / task.folder / f"{split}.tsv"
    if not path.is_file():
        raise ValueError(f"no {split} split of {task.name}: {path} does not exist")
    return path


def _read_folder(task: Task, split: str, folder: Path) -> list[tuple]:
    """Rows of one official TSV file: nothing is quoted, only a line feed ends a line."""
    path = _path(task, split, folder)
    try:
        lines = path.read_bytes().decode("utf-8-sig").rstrip("\r\n").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 (byte {error.start})") from None
    lines = [line.removesuffix("\r") for line in lines]
    for number, line in enumerate(lines, 1):
        if "\0" in line or "\r" in line:
            what = "NUL byte" if "\0" in line else "carriage return inside a line"
            raise ValueError(f"{path}, line {number}: a {what}; the file is broken")
    table = [line.split("\t") for line in lines]
    is_test = split.startswith("test")
    first = 1 if task.headerless and not is_test else 2  # the number of the first row's line
    header = list(task.headerless) if first == 1 else table.pop(0)
    wanted = list(task.columns or task.fields)
    if task.label_column in header or not is_test:
        wanted.append(task.label_column)
    for column in wanted:
        if header.count(column) != 1:
            how_many = "more than one" if column in header else "no"
            there = textwrap.shorten(", ".join(header), 200, placeholder=" ...")
            raise ValueError(f"{path} has {how_many} column {column!r}; it has {there}")
    places = [header.index(column) for column in wanted]

    rows, torn = [], []
    for number, cells in enumerate(table, start=first):
        if len(cells) != len(header):
            torn.append((number, len(cells)))
            continue
        row: list[Any] = [cells[place] for place in places]
        if len(row) > len(task.fields):
            row[-1] = _label(task, row[-1], f"{path}, line {number}")
        rows.append(tuple(row))
    # The official QQP files hold a few torn lines, and the official counts leave them out.
    if torn and len(rows) != task.rows[split]:
        number, found = torn[0]
        raise ValueError(f"{path}, line {number}: {found} columns where {len(header)} are expected")
    if not rows:
        raise ValueError(f"{path} has no rows")
    return rows


def _label(task: Task, text: str, place: str) -> int | float:
    if not task.is_regression:
        if text in task.file_labels:
            return task.file_labels.index(text)
        known = ", ".join(task.file_labels)
        raise ValueError(f"{place}: unknown label {text[:40]!r}; known are {known}")
    try:
        score = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        score = math.nan
    if not 0 <= score <= 5:
        raise ValueError(f"{place}: label {text[:40]!r} is no score from 0 to 5")
    return score


@contextmanager
def _cache_only_if_unreachable() -> Iterator[None]:
    """Without a network, ``datasets`` would retry for half a minute before it tries its cache."""
    import datasets

    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = before or not on_hub(HUB_NAME, "dataset")
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def _read_hub(task: Task, split: str) -> datasets.Dataset:
    import datasets

    hub_split = split.replace("dev", "validation")
    if task.name == "mnli" and split in ("dev", "test"):
        hub_split += "_matched"
    try:
        with _cache_only_if_unreachable():
            dataset = datasets.load_dataset(HUB_NAME, task.name, split=hub_split)
    except Exception as error:  # no network, a broken cache or download: many kinds
        miniatures = ", ".join(name for name, task in TASKS.items() if task.builtin)
        raise ValueError(
            f"cannot get {task.name} from {HUB_NAME} on the Hub ({type(error).__name__}); pass "
            f"--glue-dir or set {FOLDER_VARIABLE} to a folder with GLUE's official TSV files, "
            f"or use a built-in task: {miniatures}"
        ) from error
    hub_columns = task.hub_columns or task.fields
    labelled = dataset.unique("label") != [-1]
    keep = [*hub_columns, "label"] if labelled else list(hub_columns)
    dataset = dataset.select_columns(keep).rename_columns(
        {hub: own for hub, own in zip(hub_columns, task.fields, strict=True) if hub != own}
    )
    return dataset.cast(_features(task, labelled))


def check_labels(task: str | Task, config: PretrainedConfig) -> None:
    """Raise ValueError unless a model's labels stand in the task's order.

    ``config``: a transformers config (``num_labels``, ``id2label``). Generic names (``LABEL_0``,
    ``0``) pass when their number is right; case, ``-`` and spaces do not matter.

    >>> from transformers import BertConfig
    >>> check_labels("sst2", BertConfig(num_labels=3))
    Traceback (most recent call last):
    ValueError: the model has 3 labels, task sst2 has 2 (negative, positive)
    """
    task = get_task(task)
    if config.num_labels != task.num_labels:
        raise ValueError(
            f"the model has {config.num_labels} labels, task {task.name} has {task.num_labels}"
            + (f" ({', '.join(task.labels)})" if task.labels else " (a score)")
        )
    if task.is_regression:
        return
    found = labels_of(config)
    if _plain(found) == _plain(task.labels):
        return
    count = range(task.num_labels)
    generic = ([f"label_{i}" for i in count], [str(i) for i in count])
    if _plain(found) not in generic:
        raise ValueError(
            f"the model's labels ({', '.join(found)}) are not those of task {task.name} in its "
            f"order ({', '.join(task.labels)}); --label-map MODEL=TASK,... says which is which"
        )
    if task.data and list(task.labels) != [str(i) for i in count]:
        raise ValueError(
            f"the model calls its labels {', '.join(found)}: --label-map {found[0]}=NAME,... must "
            f"say which of {', '.join(task.labels)} each is"
        )


def labels_of(config: PretrainedConfig) -> list[str]:
    """What a model calls its labels, in its order."""
    numbered = (config.id2label or {}).items()
    return [str(label) for _, label in sorted((int(number), label) for number, label in numbered)]


def _plain(labels: Iterable[str]) -> list[str]:
    return [label.lower().replace("-", "_").replace(" ", "_") for label in labels]
