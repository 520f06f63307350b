"""A user's own data: labelled rows as a task, and texts without labels.

Files are read by the ``datasets`` library, which parses them once, into its cache, and maps the
cache into memory, so that a file of a million rows does not fill it. In a CSV or TSV file every
cell is read as text, so that the label ``NA`` or the text ``1984`` stays what it is.
"""

from __future__ import annotations

import csv
import glob
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from obce.base.files import reason
from obce.tasks.task import Task

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

    Source: TypeAlias = Dataset | str | os.PathLike[str]

TEXT, LABEL = "text", "label"  # names that columns have unless others are given
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
ACCURACY, CORRELATION = ("accuracy", "macro_f1", "matthews_correlation"), ("pearson", "spearmanr")
BATCH = 10_000  # rows that are looked at together
LONGEST = 2**24  # characters of a cell in the first row; after an open quote it is the whole file
FEW = 5  # rows or names that a message lists


def own_task(
    train: Source | None,
    dev: Source | None = None,
    *,
    text_column: str = TEXT,
    text_pair_column: str | None = None,
    label_column: str = LABEL,
    regression: bool | None = None,
    labels: tuple[str, ...] | None = None,
    name: str = "own",
    metric: Callable[[np.ndarray, np.ndarray], float | Mapping[str, float]] | None = None,
) -> Task:
    """A task of your own rows, for wherever a task's name is taken.

    >>> from datasets import Dataset
    >>> rows = Dataset.from_dict({"text": ["fine", "bad", "good"], "label": ["pos", "neg", "pos"]})
    >>> task = own_task(rows, rows)
    >>> task.labels, task.data["dev"]["label"][:]
    (('neg', 'pos'), [1, 0, 1])

    Args:
        train, dev: a ``datasets.Dataset``, or a file: CSV, TSV (in which nothing is quoted), JSON
            lines or Parquet, by its suffix, in UTF-8. Without ``train`` the task can be evaluated
            only.
        text_column, text_pair_column: of the text, and of a second one that is read with it.
        label_column: of the label: a class's name or number, or a score.
        regression: whether labels are scores. By default a column of floats is, and in a CSV or
            TSV file one in which all are numbers and one at least is written with a point.
        labels: the class names in the model's order. By default those of a ClassLabel column, or
            else the names that occur in ``train``, sorted, numbers by their size.
        name: what records call the task.
        metric: a function of (predicted classes or scores, labels) that returns one fraction, or
            several by name, the main one first; instead of accuracy, macro-F1 and Matthews
            correlation, or Pearson and Spearman.

    Raises:
        ValueError: a file that cannot be read; a column that is not there; empty or missing texts
            or labels (the message says which rows); fewer than two classes; a class in ``dev``
            that ``train`` lacks.
    """
    tables = {
        split: _columns(source, split, text_column, text_pair_column, label_column)
        for split, source in (("train", train), ("dev", dev))
        if source is not None
    }
    if not tables:
        raise ValueError("an own task needs rows: give train, dev or both")
    first = next(iter(tables.values()))
    names = labels or _label_names(first)
    if regression is None:
        regression = labels is None and not _is_class_label(first) and _are_floats(first)
    if regression:
        names = ()
        data = {split: _with_scores(table, split) for split, table in tables.items()}
    else:
        data = {}
        names = names or _class_names(first)
        for split, table in tables.items():
            data[split] = _with_classes(table, split, names)
        _check_classes(data, names)
    return Task(
        name=name,
        fields=("sentence1", "sentence2") if text_pair_column else ("sentence",),
        labels=tuple(names),
        metrics=(CORRELATION if regression else ACCURACY) if metric is None else (_named(metric),),
        rows={split: len(rows) for split, rows in data.items()},
        data=data,
        function=metric,
    )


def read_table(path: str | os.PathLike[str]) -> Dataset:
    """All columns of a CSV, TSV, JSON lines or Parquet file, memory-mapped.

    Raises:
        ValueError: no such file, an unknown suffix, another encoding than UTF-8, a line with too
            many cells, a NUL character in a CSV or TSV file, a file without rows.
    """
    import datasets

    path = _existing(path)
    suffix = path.suffix.lower()
    if suffix not in TABLES:
        raise ValueError(f"{path}: unknown kind of file; known are {', '.join(TABLES)}")
    pattern = glob.escape(str(path))  # datasets would take brackets in a name for a pattern
    with _reading(path):
        if suffix == ".parquet":
            return _not_empty(datasets.Dataset.from_parquet(pattern), path)
        if suffix not in (".csv", ".tsv"):
            return _not_empty(datasets.Dataset.from_json(pattern), path)
        options = _dialect(suffix)
        columns = _header(path, options)
        _refuse_nul(path)
        text = datasets.Features({column: datasets.Value("string") for column in columns})
        table = datasets.Dataset.from_csv(
            pattern, features=text, encoding="utf-8-sig", keep_default_na=False, na_filter=False,
            sep=options["delimiter"], quoting=options["quoting"],
        )  # fmt: skip
        return _not_empty(table, path)


def read_texts(path: str | os.PathLike[str], field: str | None = None) -> Dataset:
    """Texts without labels, in the column ``sentence``: the lines of a ``.txt`` file that are not
    blank, or the column ``field`` (``text`` by default) of a table.

    Raises:
        ValueError: as :func:`read_table`, or a table with missing or empty texts.
    """
    import datasets

    path = _existing(path)
    if path.suffix.lower() in TABLES:
        return texts_of(read_table(path), field or TEXT)
    if field is not None:
        raise ValueError(f"{path} has no fields: its suffix is none of {', '.join(TABLES)}")
    with _reading(path):
        lines = datasets.Dataset.from_text(glob.escape(str(path)))
    full = [bool(line.strip()) for batch in lines.iter(BATCH) for line in batch["text"]]
    if not all(full):
        lines = lines.select(np.flatnonzero(full))
    return texts_of(_not_empty(lines, path), TEXT)


def texts_of(
    table: Dataset, text_column: str, text_pair_column: str | None = None, what: str = "the file"
) -> Dataset:
    """The text columns alone, checked, under the names that tasks give them."""
    columns = [column for column in (text_column, text_pair_column) if column is not None]
    ours = ["sentence"] if len(columns) == 1 else ["sentence1", "sentence2"]
    if len(set(columns)) < len(columns):
        raise ValueError(f"{text_column!r} cannot be both texts of a pair")
    for column in columns:
        check_column(table, column, what)
        if _type(table, column) not in ("string", "large_string"):
            raise ValueError(f"{what}: column {column!r} holds {_type(table, column)}, not texts")
        _refuse_rows(table, column, _is_blank, f"{what}: column {column!r} has no text in")
        _refuse_rows(table, column, _has_nul, f"{what}: column {column!r} has NUL characters in")
    kept = table.select_columns(columns)
    return kept.rename_columns({a: b for a, b in zip(columns, ours, strict=True) if a != b})


def _existing(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    return path


def _not_empty(table: Dataset, path: Path) -> Dataset:
    if not len(table):
        raise ValueError(f"{path} has no rows")
    return table


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn off datasets' bars and logs; turn its errors, and its parsers', into one line."""
    import datasets

    bars, level = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    except Exception as error:
        cause = error
        while isinstance(cause, datasets.exceptions.DatasetGenerationError) and cause.__cause__:
            cause = cause.__cause__
        if isinstance(cause, UnicodeDecodeError):
            raise ValueError(f"{path} is not in UTF-8: save it in that encoding") from error
        if isinstance(cause, OSError) or str(cause).startswith(str(path)):
            raise cause from None
        if isinstance(cause, StopIteration) or "corresponds to no data" in str(cause):
            raise ValueError(f"{path} has no rows") from error
        said = f"{reason(cause):.300}".removeprefix("Error tokenizing data. C error: ")
        raise ValueError(f"{path} cannot be read: {said}") from error
    finally:
        datasets.logging.set_verbosity(level)
        if not bars:
            datasets.enable_progress_bars()


def _dialect(suffix: str) -> dict[str, Any]:
    if suffix == ".tsv":
        return {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    return {"delimiter": ",", "quoting": csv.QUOTE_MINIMAL}


def _header(path: Path, options: dict[str, Any]) -> list[str]:
    """The names of the columns. ValueError for a first row with more cells than names: pandas would
    take its first cell for an index, and every other cell for its neighbour's."""
    limit = csv.field_size_limit(LONGEST)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = (row for row in csv.reader(file, **options) if row)
            header, first = next(rows, []), next(rows, [])
    finally:
        csv.field_size_limit(limit)
    if not first:
        raise ValueError(f"{path} has no rows")
    if len(first) > len(header):
        raise ValueError(f"{path}: {len(header)} columns are named, row 1 has {len(first)}")
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise ValueError(f"{path}: column {twice[0]!r} is there twice")
    return header


def _refuse_nul(path: Path) -> None:
    """pandas before 3.1 takes a NUL for the end of a cell: the rest of a text would be lost."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if b"\0" in line:
                raise ValueError(f"{path} has NUL characters in line {number:,}")


def _columns(source: Source, split: str, text: str, pair: str | None, label: str) -> Dataset:
    """The texts under our names of columns, and the labels as the source writes them."""
    from datasets import Dataset, concatenate_datasets

    given = isinstance(source, (str, os.PathLike))
    table, what = (read_table(source), str(source)) if given else (source, split)
    if not isinstance(table, Dataset):
        wrong = type(table).__name__
        raise ValueError(f"{split}: a datasets.Dataset or a file is wanted, not a {wrong}")
    table = table.with_format(None)  # plain values, whatever format its user has set
    if not len(table):
        raise ValueError(f"{what} has no rows")
    check_column(table, label, what)
    if label in (text, pair):
        raise ValueError(f"{label!r} cannot be both text and label")
    if type(table.features[label]).__name__ not in ("Value", "ClassLabel"):
        raise ValueError(f"{what}: the labels in {label!r} are neither all names nor all numbers")
    rows = texts_of(table, text, pair, what)
    _refuse_rows(table, label, _is_blank, f"{what}: column {label!r} has no label in")
    labels = table.select_columns([label]).rename_columns({label: LABEL} if label != LABEL else {})
    return concatenate_datasets([rows, labels], axis=1)


def check_column(table: Dataset, column: str, what: str) -> None:
    """ValueError that names the columns that are there."""
    if column not in table.column_names:
        raise ValueError(f"{what} has no column {column!r}; it has {_some(table.column_names, 20)}")


def _type(table: Dataset, column: str) -> str:
    feature = table.features[column]
    return str(getattr(feature, "dtype", None) or type(feature).__name__)


def _arrow(table: Dataset, column: str) -> Iterator[pa.Array]:
    """A column in pieces, without copying what is mapped into memory."""
    for batch in table.select_columns([column]).with_format("arrow").iter(BATCH):
        yield from batch.column(column).chunks


def _is_blank(values: pa.Array) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    blank = pc.is_null(values, nan_is_null=True)
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        blank = pc.or_(blank, pc.equal(pc.utf8_trim_whitespace(values).fill_null(""), ""))
    return blank.to_numpy(zero_copy_only=False)


def _has_nul(values: pa.Array) -> np.ndarray:
    import pyarrow.compute as pc

    return pc.match_substring(values, "\0").fill_null(False).to_numpy(zero_copy_only=False)


def _refuse_rows(
    table: Dataset, column: str, bad: Callable[[pa.Array], np.ndarray], message: str
) -> None:
    """ValueError that says which rows are bad, counted from 1 without a header."""
    found = np.flatnonzero(np.concatenate([bad(values) for values in _arrow(table, column)])) + 1
    if len(found):
        raise ValueError(f"{message} row{'s' * (len(found) > 1)} {_some(found.tolist())}")


def _some(values: Iterable, few: int = FEW) -> str:
    """The first few of many values, each shortened, for a message of one line."""
    values = list(values)
    more = f" and {len(values) - few:,} more" if len(values) > few else ""
    return ", ".join(f"{value!s:.40}" for value in values[:few]) + more


def _is_class_label(table: Dataset) -> bool:
    return type(table.features[LABEL]).__name__ == "ClassLabel"


def _label_names(table: Dataset) -> tuple[str, ...]:
    return tuple(table.features[LABEL].names) if _is_class_label(table) else ()


def _strings(values: pa.Array) -> pa.Array:
    """Labels as names: numbers as they are written, without blanks around."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        return pc.utf8_trim_whitespace(values.cast(pa.string()))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise ValueError(f"the labels are neither names nor numbers but {values.type}") from None


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def _are_floats(table: Dataset) -> bool:
    import pyarrow as pa

    whole = True
    for values in _arrow(table, LABEL):
        if pa.types.is_floating(values.type):
            return True
        if not pa.types.is_string(values.type) and not pa.types.is_large_string(values.type):
            return False
        for text in set(_strings(values).to_pylist()):
            if not _is_number(text):
                return False
            whole = whole and text.lstrip("+-").isdecimal()
    return not whole


def _class_names(table: Dataset) -> tuple[str, ...]:
    """The classes that occur, sorted: numbers by their size, names by the alphabet."""
    names: set[str] = set()
    for values in _arrow(table, LABEL):
        names |= set(_strings(values).unique().to_pylist())
    if len(names) > max(50, len(table) // 2):
        raise ValueError(
            f"column {LABEL!r} holds {len(names):,} classes in {len(table):,} rows: is it another "
            "column that holds the label, or is it a score (regression)?"
        )
    numbers = all(map(_is_number, names))
    return tuple(sorted(names, key=(lambda name: (float(name), name)) if numbers else None))


def _with_classes(table: Dataset, split: str, names: tuple[str, ...]) -> Dataset:
    import pyarrow as pa
    import pyarrow.compute as pc
    from datasets import ClassLabel

    if _is_class_label(table):
        own = table.features[LABEL].names
        _refuse_rows(table, LABEL, lambda v: pc.less(v, 0).to_numpy(zero_copy_only=False),
                     f"{split}: no label in")  # fmt: skip
        pieces = [pa.array([own[i] for i in v.to_pylist()]) for v in _arrow(table, LABEL)]
    else:
        pieces = list(map(_strings, _arrow(table, LABEL)))
    known = pa.array(names)
    numbers = [pc.index_in(piece, known) for piece in pieces]
    if any(piece.null_count for piece in numbers):
        strange: set[str] = set()
        for piece, number in zip(pieces, numbers, strict=True):
            strange |= set(piece.filter(pc.is_null(number)).to_pylist())
        hint = ""
        if all(map(_is_number, strange)) and not any(map(_is_number, names)):
            hint = " (numbers where names are expected)"
        raise ValueError(
            f"{split} has the label{'s' * (len(strange) > 1)} {_some(sorted(strange))}{hint}; "
            f"known are {_some(names)}"
        )
    column = np.concatenate([piece.to_numpy(zero_copy_only=False) for piece in numbers])
    feature = ClassLabel(names=list(names))
    return table.remove_columns(LABEL).add_column(LABEL, column.astype(np.int64), feature=feature)


def _check_classes(data: dict[str, Dataset], names: tuple[str, ...]) -> None:
    if len(names) < 2:
        raise ValueError(f"there is one class only, {names[0]!r}: nothing can be learnt from it")
    if "train" in data and len(np.unique(data["train"].with_format("numpy")[LABEL][:])) < 2:
        raise ValueError("all training rows have the same label: nothing can be learnt from them")


def _with_scores(table: Dataset, split: str) -> Dataset:
    import pyarrow as pa
    from datasets import Value

    def scores(values: pa.Array) -> np.ndarray:
        if _is_class_label(table) or not (
            pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
        ):
            return values.cast(pa.float64()).to_numpy(zero_copy_only=False)
        texts = _strings(values).to_pylist()
        return np.array([float(text) if _is_number(text) else np.nan for text in texts])

    _refuse_rows(table, LABEL, lambda v: ~np.isfinite(scores(v)), f"{split}: no number as label in")
    column = np.concatenate([scores(values) for values in _arrow(table, LABEL)])
    if split == "train" and column.min() == column.max():
        raise ValueError(f"all training labels are {column[0]:g}: nothing can be learnt from them")
    return table.remove_columns(LABEL).add_column(
        LABEL, column.astype(np.float32), feature=Value("float32")
    )


def _named(function: Callable) -> str:
    return getattr(function, "__name__", "metric").strip("<>")
