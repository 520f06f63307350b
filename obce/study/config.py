"""What a study asks: a small TOML file in, its cells out, checked before anything runs.

A *cell* is one compressed model, judged: its settings are ``SETTINGS``. The cells of one task and
one seed of fine-tuning make a *group*: they share a dense model. ``[[grid]]`` tables stand in the
order in which their cells run; in each, a setting with a list of values is a factor, and the cells
are all combinations. ``score`` may be an inline table that sets more than the score's name.
``[dense]`` says how the dense models are made; ``dense = "other.toml"`` says: as in that study.
``judged_on = "train"`` is for choices: cells are then judged on rows of train that no calibration
text comes from, so that dev stays untouched.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from obce.base.records import plain_number
from obce.base.settings import (
    BATCH_SIZE,
    CLOUD_SCORES,
    CLOUDS,
    COVARIANCES,
    DEFAULT_CLOUD,
    DEFAULT_COVARIANCE,
    DEFAULT_KINDS,
    DEFAULT_METRIC,
    DEFAULT_OF_CLOUDS,
    DEFAULT_REPAIR,
    DEGREE,
    EMBEDDED,
    EPOCHS,
    HEADS,
    KINDS,
    LAYER_SCORES,
    LEARNING_RATE,
    LENGTH,
    LEVELS,
    METRICS,
    READ_CLOUDS,
    READ_POINTS,
    REPAIRS,
    RIDGE,
    SCOPES,
    SCORES,
    WEIGHTINGS,
    judged_kinds,
    of_layer,
)
from obce.tasks import TASKS, get_task

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DROP_LAYERS = "drop_layers"
SENTENCES = "sentences"
NONE = "none"
DEV, TRAIN = "dev", "train"
CUT_FIRST = "cut_first"
RIVALS = ("swaps", "hub_degree", "spectral")  # of this wing: see obce.study.rivals


class Setting(NamedTuple):
    """Its value where a study does not say, which values fit, and what to say of others."""

    default: Any
    fits: Callable[[Any], bool]
    wanted: str


def _choice(default: str, *known: str) -> Setting:
    return Setting(default, lambda value: value in known, f"one of {', '.join(known)}")


def _whole(default: int, least: int) -> Setting:
    def fits(value: Any) -> bool:
        return type(value) is int and value >= least

    return Setting(default, fits, f"a whole number from {least} on")


def _number(default: float, fits: Callable[[float], bool], wanted: str) -> Setting:
    return Setting(default, lambda v: type(v) in (int, float) and fits(v), wanted)


def _kinds_fit(value: Any) -> bool:
    return isinstance(value, str) and {*value.split(",")} <= {*KINDS}


def _ridge_fits(value: Any) -> bool:
    return value == "auto" or (type(value) in (int, float) and 0 <= value < math.inf)


# Defaults when the first records were made: a cell that names none has these, and so its id.
FIRST_WEIGHTING = "none"
FIRST_FLOOR = 0.1
CORPORA = ("own", SENTENCES, *TASKS)
FIRST_HEADS = {"layer": "equal", "network": "free", "global": "free"}
SETTINGS: dict[str, Setting] = {
    "score": _choice(DEFAULT_OF_CLOUDS, *SCORES, *RIVALS, DROP_LAYERS),
    "metric": _choice(DEFAULT_METRIC, *METRICS),
    "degree": _number(DEGREE, lambda value: value >= 1, "a number from 1 on, or inf"),
    "covariance": _choice(DEFAULT_COVARIANCE, *COVARIANCES),
    "cloud": _choice(DEFAULT_CLOUD, *CLOUDS),
    "points": _whole(READ_POINTS, 2),
    "special_tokens": Setting(True, lambda value: type(value) is bool, "true or false"),
    "score_seed": _whole(0, 0),
    "shuffle": _choice(NONE, NONE, "units", "texts"),
    "corpus": _choice("own", *CORPORA),
    "texts": _whole(768, 2),
    "draw": _whole(0, 0),
    "max_length": _whole(64, 3),
    "keep_encoder": _number(0.465, lambda value: 0 < value <= 1, "a number above 0, at most 1"),
    "level": _choice(NONE, NONE, *LEVELS),
    "kinds": Setting(",".join(DEFAULT_KINDS), _kinds_fit, f"some of {','.join(KINDS)}"),
    "scope": _choice("layer", *SCOPES),
    "floor": _number(FIRST_FLOOR, lambda value: 0 <= value <= 1, "a number from 0 to 1"),
    "heads": _choice(NONE, NONE, *HEADS),
    "repair": _choice(DEFAULT_REPAIR, *REPAIRS),
    "ridge": Setting(RIDGE, _ridge_fits, "a number from 0 on, or auto"),
    "weighting": _choice(FIRST_WEIGHTING, *WEIGHTINGS),
    "again": _number(0, lambda v: v >= 0 and math.isfinite(v), "epochs, from 0 on"),
    "teacher": _choice(NONE, NONE, "dense"),
    "order": _choice("tune_first", "tune_first", "cut_first"),
    "dev_limit": _whole(1000, 2),
    "stability": _choice(NONE, NONE, "halves"),
}
"""The settings of a cell: how units are scored, on what, how many go, what follows, on how many
rows of dev it is judged (a fixed sample, all if there are no more). ``heads``: what the scope has
by default, if ``none``. ``order``: whether the model is fine-tuned before it is cut, or
(``cut_first``) only afterwards, for ``again`` epochs. ``stability``: whether the score is computed
on each half of the texts as well, to compare ranks."""

TEXTS = ("corpus", "texts", "draw", "max_length")


def heard(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that make a difference, given the others: so no cell is computed twice.

    A layer's cloud has a point for each token, unless ``cloud`` says otherwise; ``std`` and ``rms``
    are scores of a layer where ``metric`` is said.

    >>> sorted(heard({"score": "magnitude", "repair": "none", "degree": 1}))
    ['again', 'dev_limit', 'keep_encoder', 'kinds', 'repair', 'scope', 'score']
    """
    full = {name: setting.default for name, setting in SETTINGS.items()} | dict(settings)
    score, layered = full["score"], reads_layer(settings)
    names = ["score", "dev_limit", "again"]
    names += ["teacher"] if full["again"] else []
    names += ["order"] * (full["order"] == CUT_FIRST)
    if score == DROP_LAYERS:
        return {name: full[name] for name in SETTINGS if name in (*names, *TEXTS, "keep_encoder")}
    names += ["kinds", "scope", "repair"]
    names += ["keep_encoder"] if full["level"] == NONE else ["level"]
    names += ["floor"] * (full["scope"] == "global" and full["floor"] != FIRST_FLOOR)
    names += ["heads"] * (full["heads"] not in (NONE, FIRST_HEADS[full["scope"]]))
    if layered:
        full["cloud"] = settings.get("cloud", READ_CLOUDS[0])
        names += ["points", "shuffle"] + ["metric"] * (score != "fisher")
        names += OPTIONS.get(score, [])
        names += ["score_seed"] * (full["shuffle"] != NONE)
    if layered or score in CLOUD_SCORES:
        names += ["cloud", "special_tokens"]
        names += ["stability"] * (full["stability"] != NONE)
    if layered or score in (*CLOUD_SCORES, "taylor") or full["repair"] != NONE:
        names += TEXTS
    names += ["score_seed"] * (score == "random")
    names += ["ridge", "weighting"] * (full["repair"] == "least_squares")
    return {name: full[name] for name in SETTINGS if name in names}


OPTIONS = {"persistence_share": ["degree"], "second_order": ["covariance"]}
OPTIONS |= dict.fromkeys(RIVALS, ["covariance"])


def reads_layer(settings: Mapping[str, Any]) -> bool:
    """Whether a cell's score reads a layer as a whole."""
    score = settings.get("score", DEFAULT_OF_CLOUDS)
    return score in RIVALS or of_layer(score, settings.get("metric"))


@dataclass(frozen=True)
class Recipe:
    """How a dense model is made. ``start``: from the dense model of that task (seed 0), with a new
    head; else from ``model``."""

    model: str = EMBEDDED
    epochs: float = EPOCHS
    learning_rate: float = LEARNING_RATE
    batch_size: int = BATCH_SIZE
    max_length: int = LENGTH
    bf16: bool = False
    train_limit: int | None = None
    start: str | None = None


@dataclass(frozen=True)
class Cell:
    """The settings that matter, and ``id``, a hash of them."""

    settings: dict[str, Any]

    @property
    def id(self) -> str:
        text = json.dumps(plain(self.settings), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """For JSON, which has no infinity; 1 and 1.0 are one value."""
    return {name: _plain(value) if name in NUMBERS else value for name, value in settings.items()}


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else plain_number(float(value))


NUMBERS = ("degree", "keep_encoder", "floor", "ridge", "again")


GroupKey = tuple[str, int]
"""(task, seed of the fine-tuning)."""


@dataclass(frozen=True)
class Study:
    """``groups``: the cells of each task and seed in the order in which they run."""

    name: str
    question: str
    recipes: dict[str, Recipe]
    groups: dict[GroupKey, list[Cell]]
    judged_on: str = DEV

    def recipe(self, task: str) -> Recipe:
        return self.recipes[task]


def load_study(path: str | Path) -> Study:
    """Read a study's file.

    Raises:
        ValueError: no such file, no TOML, or a name or value in it that means nothing; the message
            says where, and what there is.
    """
    path = Path(path)
    config = _read(path)
    if isinstance(config.get("dense"), str):
        config["dense"] = _read(path.parent / config["dense"]).get("dense", {})
    try:
        return parse_study(config)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ValueError(f"there is no study at {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no TOML: {error}") from None


def parse_study(config: Mapping[str, Any]) -> Study:
    """A study from what its file says; see :func:`load_study`.

    >>> study = parse_study({
    ...     "name": "small", "question": "Which?",
    ...     "grid": [{"tasks": ["sst2", "cola"], "seeds": [0, 1], "score": ["std", "random"]}],
    ... })
    >>> list(study.groups), len(study.groups["cola", 1])
    ([('sst2', 0), ('cola', 0), ('sst2', 1), ('cola', 1)], 2)
    """
    _check_names("the file", config, FILE)
    for name in ("name", "question"):
        if not isinstance(config.get(name), str):
            raise ValueError(f"{name} is missing: say it in a line of text")
    judged_on = config.get("judged_on", DEV)
    if judged_on not in (DEV, TRAIN):
        raise ValueError(f"judged_on={judged_on!r:.60}: one of {DEV}, {TRAIN}")
    recipes = _recipes(config.get("dense", {}))
    defaults = _table("[defaults]", config.get("defaults", {}))
    grids = config.get("grid", [])
    if not isinstance(grids, list) or not grids:
        raise ValueError("there is no [[grid]]: nothing would be run")
    found: dict[GroupKey, dict[str, Cell]] = {}
    for number, grid in enumerate(grids, 1):
        where = f"[[grid]] {number}"
        merged = defaults | _table(where, grid)
        _check_names(where, merged, ("tasks", "seeds", *SETTINGS))
        tasks = [_task(where, name) for name in _list(merged.pop("tasks", []))]
        seeds = _list(merged.pop("seeds", [0]))
        if not tasks:
            raise ValueError(f"{where} names no tasks")
        for seed in seeds:
            if type(seed) is not int or seed < 0:
                raise ValueError(f"{where}: seeds={seed!r}: whole numbers from 0 on")
        cells = [Cell(heard(settings)) for settings in _product(where, merged)]
        for task, seed in itertools.product(tasks, seeds):
            group = found.setdefault((task, seed), {})
            for cell in cells:
                group.setdefault(cell.id, cell)
    tasks = list(dict.fromkeys(task for task, _ in found))
    order = sorted(found, key=lambda key: (key[1], tasks.index(key[0])))
    for task in tasks:
        _check_start(task, recipes)
    known = {task: recipes.get(task, recipes[""]) for task in TASKS}
    groups = {key: list(found[key].values()) for key in order}
    return Study(config["name"], config["question"], known, groups, judged_on)


FILE = ("name", "question", "judged_on", "dense", "defaults", "grid")


def _product(where: str, grid: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """All combinations of a grid's factors, the last named turning fastest."""
    factors = [[(name, value) for value in _list(values)] for name, values in grid.items()]
    for chosen in itertools.product(*factors):
        settings = dict(chosen)
        if isinstance(settings.get("score"), dict):
            bundle = settings.pop("score")
            _check_names(f"{where}, score", bundle, tuple(SETTINGS))
            if "score" not in bundle:
                raise ValueError(f"{where}: score = {{...}} names no score")
            settings |= bundle
        for name, value in settings.items():
            if not SETTINGS[name].fits(value):
                raise ValueError(f"{where}: {name}={value!r:.60}: {SETTINGS[name].wanted}")
        _check_together(where, settings)
        yield settings


def _check_together(where: str, settings: Mapping[str, Any]) -> None:
    full = {name: setting.default for name, setting in SETTINGS.items()} | dict(settings)
    score, kinds = full["score"], {*full["kinds"].split(",")}
    read = reads_layer(settings)
    if read and full["cloud"] not in READ_CLOUDS:
        raise ValueError(f"{where}: the cloud of {score} is one of {', '.join(READ_CLOUDS)}")
    metric = settings.get("metric", DEFAULT_METRIC if score in LAYER_SCORES else None)
    judged = DEFAULT_KINDS if score in RIVALS else judged_kinds(score, metric)
    if not kinds <= {*judged}:
        raise ValueError(f"{where}: {score} judges {' and '.join(judged)} units only")
    if full["shuffle"] != NONE and not read:
        raise ValueError(f"{where}: shuffle is for scores of a layer's cloud, not for {score}")
    if score == "taylor" and full["corpus"] != "own":
        raise ValueError(f"{where}: taylor needs labels: corpus is the task's own")
    if full["order"] == CUT_FIRST and not full["again"]:
        raise ValueError(f"{where}: order {CUT_FIRST} is for cells that are fine-tuned: say again")
    if ("query" in kinds) != ("key" in kinds):
        raise ValueError(f"{where}: query and key units go in pairs: name both kinds, or neither")


def _recipes(dense: Any) -> dict[str, Recipe]:
    """The recipe of each task that has its own; under "" that of all others."""
    dense = _table("[dense]", dense)
    own = {name: value for name, value in dense.items() if isinstance(value, dict)}
    common = {name: value for name, value in dense.items() if name not in own}
    found = {"": _recipe("[dense]", common)}
    for name, more in own.items():
        found[_task("[dense]", name)] = _recipe(f"[dense.{name}]", common | more)
    return found


POSITIVE = ("epochs", "learning_rate", "batch_size", "max_length", "train_limit")


def _recipe(where: str, values: Mapping[str, Any]) -> Recipe:
    defaults = asdict(Recipe())
    _check_names(where, values, tuple(field.name for field in fields(Recipe)))
    for name, value in values.items():
        default = 1 if name == "train_limit" else "" if name == "start" else defaults[name]
        allowed = (int, float) if isinstance(default, float) else (type(default),)
        if type(value) not in allowed or (name in POSITIVE and not 0 < value < math.inf):
            kind = "true or false" if default is False else "a name" if default == "" else None
            wanted = kind or ("a name" if isinstance(default, str) else "a number above 0")
            raise ValueError(f"{where}: {name}={value!r:.60}: {wanted}")
    if "start" in values:
        values = {**values, "start": _task(where, values["start"])}
    numbers = {n: float(values[n]) for n in ("epochs", "learning_rate") if n in values}
    return Recipe(**{**values, **numbers})


def _check_start(task: str, recipes: Mapping[str, Recipe]) -> None:
    start = recipes.get(task, recipes[""]).start
    if start is not None and recipes.get(start, recipes[""]).start is not None:
        raise ValueError(
            f"[dense]: {task} starts from {start}, which starts from another: give {start} none"
        )


def _table(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is no table")
    return dict(value)


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]


def _task(where: str, name: Any) -> str:
    try:
        task = get_task(str(name))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if "dev" not in task.rows:
        raise ValueError(f"{where}: {task.name} has no dev rows")
    return task.name


def _check_names(where: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise ValueError(f"{where} has no {name!r:.40}; there are {', '.join(known)}")
