"""The plan: which units stay, chosen from their scores by percentile, level or budget.

A plan knows shapes and scores, no weights. It states exactly how many parameters will be left.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from obce.base.checks import check_choice
from obce.base.files import read_json, replacing
from obce.base.settings import FLOOR, FLOORS, HEADS, LEVELS, SCOPES, TOLERANCE, fitting
from obce.units import KINDS, READS, Group, Parameters, Shape, count_parameters, shape_of

FORMAT = "obce plan 2"
BY_HAND = "obce plan 1"  # without a checksum: what earlier versions wrote, or a person
PAIRED = ("pair", "value")  # the kinds inside heads, where a pair is a query and a key unit

Step = tuple[float, int]
"""(quantile, group number): units go whose quantile is lower, or equal in a group up to this one.
A budget can so stop between the groups (layers and kinds) that have a quantile in common."""

START: Step = (-1.0, 0)  # no unit goes

# What ``Plan.info`` may say, and how; other names are free.
INFO: dict[str, tuple[type, ...]] = {
    "score": (str,),
    "cloud": (str,),
    "corpus": (dict,),
    "texts": (int,),
    "max_length": (int,),
    "length": (int,),
    "special_tokens": (bool,),
    "seed": (int,),
    "percentile": (int, float),
    "percentile_in_heads": (int, float),
    "keep_total": (int, float),
    "keep_encoder": (int, float),
    "level": (str,),
    "kinds": (list,),
    "scope": (str,),
    "floor": (int, float),
    "heads": (str,),
    "multiple_of": (int,),
}


@dataclass
class Plan:
    """Which units of a BERT stay.

    Attributes:
        shape: the dense model's shape.
        kept: ``{(layer, kind): ascending unit numbers}`` for all layers and kinds.
        dense: parameters of the model that the plan was made for.
        info: how the plan was made: plain JSON.

    Units that nothing reads any more are dropped from ``kept``: the query-key pairs of a head
    without value units, and the value or intermediate units of a layer whose residual map
    writes nothing.

    Raises:
        ValueError: what contradicts itself, or the shape.

    >>> import obce
    >>> model, _ = obce.load_bert()
    >>> scores = obce.score(None, "magnitude", model=model)
    >>> plan = obce.plan(model, scores, percentile=50)
    >>> len(plan.kept[0, "value"]), plan.head_widths(0, "value")[:3], plan.parameters.encoder
    (192, [16, 16, 16], 6217344)
    """

    shape: Shape
    kept: dict[Group, np.ndarray]
    dense: Parameters
    info: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        groups = len(KINDS) * self.shape.layers
        if len(self.kept) != groups or set(self.kept) != set(self.shape.groups()):
            raise ValueError(f"a plan for {self.shape} must list all {groups} layers x kinds")
        _check_dense(self.shape, self.dense)
        _check_info(self.info)
        self.kept = {
            group: _checked_units(self.shape, group, self.kept[group])
            for group in sorted(self.kept)
        }
        for layer in range(self.shape.layers):
            if not np.array_equal(self.kept[layer, "query"], self.kept[layer, "key"]):
                raise ValueError(f"layer {layer}: query and key units must go in pairs")
        self.kept = _without_dead(self.shape, self.kept)

    @classmethod
    def whole(cls, model: nn.Module) -> Plan:
        """The plan that cuts nothing. :func:`obce.cut <obce.surgery.cut>` makes of it the dense
        model in a compressed one's form, which a fair timing compares with.

        Raises:
            ValueError: no dense BERT.
        """
        shape = shape_of(model)
        kept = {group: np.arange(shape.width(group[1])) for group in shape.groups()}
        return cls(shape, kept, count_parameters(model))

    def counts(self, layer: int) -> dict[str, int]:
        """Number of units kept in one layer, per kind."""
        return {kind: len(self.kept[layer, kind]) for kind in KINDS}

    @property
    def parameters(self) -> Parameters:
        """Parameters of the compressed model."""
        encoder = sum(
            self.shape.layer_parameters(self.counts(layer)) for layer in range(self.shape.layers)
        )
        total = self.dense.total - self.dense.encoder + encoder
        return Parameters(total, encoder, self.dense.embeddings, self.dense.head)

    @property
    def keep_total(self) -> float:
        """Fraction of all parameters that stays."""
        return self.parameters.total / self.dense.total

    @property
    def keep_encoder(self) -> float:
        """Fraction of the encoder's parameters that stays."""
        return self.parameters.encoder / self.dense.encoder

    def head_widths(self, layer: int, kind: str) -> list[int]:
        """Units kept in each head: query, key or value units live inside heads."""
        heads = self.kept[layer, kind] // self.shape.head_size
        return np.bincount(heads, minlength=self.shape.heads).tolist()

    def check(self, model: nn.Module) -> None:
        """ValueError if the plan is not for a model of this shape."""
        shape = shape_of(model)
        if shape != self.shape:
            raise ValueError(f"the plan is for a BERT with {self.shape}; this one has {shape}")

    def summary(self) -> dict[str, Any]:
        """What a record says of a plan."""
        kept = {kind: sum(self.counts(i)[kind] for i in range(self.shape.layers)) for kind in KINDS}
        return {
            **self.info,
            "keep_total": round(self.keep_total, 6),
            "keep_encoder": round(self.keep_encoder, 6),
            "units_kept": kept,
            "units": {kind: self.shape.width(kind) * self.shape.layers for kind in KINDS},
        }

    def __str__(self) -> str:
        lines = ["layer " + "".join(f"{kind:>18}" for kind in KINDS) + f"{'parameters':>14}"]
        full = self.shape.layer_parameters(self.shape.full)
        for layer in range(self.shape.layers):
            counts = self.counts(layer)
            cells = [f"{counts[kind]:,} of {self.shape.width(kind):,}" for kind in KINDS]
            share = self.shape.layer_parameters(counts) / full
            lines.append(f"{layer:>5} " + "".join(f"{c:>18}" for c in cells) + f"{share:>13.1%} ")
        for name in ("encoder", "total"):
            after, before = getattr(self.parameters, name), getattr(self.dense, name)
            lines.append(f"{name}: {after:,} of {before:,} parameters ({after / before:.2%})")
        return "\n".join(lines)

    def save(self, path: str | os.PathLike) -> None:
        """Write as JSON, with a checksum over all that it says."""
        data = {
            "format": FORMAT,
            "shape": self.shape.as_dict(),
            "dense": self.dense._asdict(),
            "parameters": self.parameters._asdict(),
            "info": self.info,
            "kept": [
                {kind: self.kept[layer, kind].tolist() for kind in KINDS}
                for layer in range(self.shape.layers)
            ],
        }
        data["checksum"] = _checksum(data)
        with replacing(path) as part:
            part.write_text(json.dumps(data, allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike) -> Plan:
        """Read what ``save`` wrote, or a plan written by hand.

        The format ``obce plan 1`` has no checksum: plans of earlier versions have it, and whoever
        writes or changes a plan by hand can state it.

        Raises:
            ValueError: no such file, not a plan, a plan that contradicts itself, or one that was
                changed after it was written.
        """
        if not Path(path).is_file():
            raise ValueError(f"no plan at {path}")
        try:
            return cls._from_json(read_json(path))
        except (ArithmeticError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"{error!s:.300}"
            raise ValueError(f"{path} is not an obce plan: {reason}") from error

    @classmethod
    def _from_json(cls, data: dict[str, Any]) -> Plan:
        if data["format"] not in (FORMAT, BY_HAND):
            raise ValueError(f"its format is {data['format']!r:.40}, not {FORMAT!r}")
        names = {"format", "shape", "dense", "parameters", "info", "kept"}
        names |= {"checksum"} if data["format"] == FORMAT else set()
        if set(data) != names:
            raise ValueError(f"it does not hold {', '.join(sorted(names))}, or holds more")
        if "checksum" in names and data["checksum"] != _checksum(data):
            raise ValueError(
                "its checksum is another: it was changed after it was written (after a change by "
                f"hand, state the format {BY_HAND!r} and leave the checksum out)"
            )
        shape, dense, kept = Shape(**data["shape"]), Parameters(**data["dense"]), data["kept"]
        if len(kept) != shape.layers or any(set(kinds) != set(KINDS) for kinds in kept):
            raise ValueError(
                f"it does not list all kinds of units for each of {shape.layers} layers"
            )
        units = {(layer, kind): kept[layer][kind] for layer in range(len(kept)) for kind in KINDS}
        plan = cls(shape, units, dense, data["info"])
        if plan.parameters != Parameters(**data["parameters"]):
            raise ValueError("its parameters are not those that follow from its units")
        return plan


def _checksum(data: dict[str, Any]) -> str:
    """Of all that a plan's file says, whatever its order and spaces."""
    said = {name: value for name, value in data.items() if name != "checksum"}
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _check_dense(shape: Shape, dense: Parameters) -> None:
    """ValueError for parameter counts that no dense model of this shape has."""
    if any(type(count) is not int or count < 0 for count in dense):
        raise ValueError("the dense model's parameters must be whole numbers")
    encoder = shape.layers * shape.layer_parameters(shape.full)
    if dense.encoder != encoder:
        raise ValueError(f"a BERT with {shape} has {encoder:,} parameters in its encoder")
    if dense.total != dense.encoder + dense.embeddings + dense.head:
        raise ValueError("the dense model's parameters do not add up")


def _check_info(info: dict[str, Any]) -> None:
    """ValueError for notes that are not plain JSON, or that a reader would stumble over."""
    if not isinstance(info, dict) or not all(isinstance(name, str) for name in info):
        raise ValueError("info must be a dict of named notes")
    for name, value in info.items():
        types = INFO.get(name)
        if types and (not isinstance(value, types) or (type(value) is bool and bool not in types)):
            expected = " or ".join(each.__name__ for each in types)
            raise ValueError(f"info's {name} must be {expected}, not {value!r:.60}")
    if not all(kind in KINDS for kind in info.get("kinds", ())):
        raise ValueError(f"info's kinds are not all among {', '.join(KINDS)}")
    try:
        json.dumps(info, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"info must be plain JSON: {error}") from error


def _checked_units(shape: Shape, group: Group, units: Sequence[int] | np.ndarray) -> np.ndarray:
    """``(kept,)`` int64; ValueError for what is no ascending list of this group's units."""
    layer, kind = group
    try:
        units = np.asarray(units) if len(units) else np.empty(0, dtype=np.int64)
    except (TypeError, ValueError):
        units = np.empty(0, dtype=object)
    if units.dtype.kind not in "iu":
        raise ValueError(f"layer {layer}, {kind}: units are named by a list of whole numbers")
    units = units.astype(np.int64)
    width = shape.width(kind)
    if units.ndim != 1 or (np.diff(units) <= 0).any() or (len(units) and units[0] < 0):
        raise ValueError(f"layer {layer}, {kind}: kept units must ascend from 0, without repeats")
    if len(units) and units[-1] >= width:
        raise ValueError(f"layer {layer}, {kind}: there is no unit {units[-1]} of {width}")
    return units


def _without_dead(shape: Shape, kept: dict[Group, np.ndarray]) -> dict[Group, np.ndarray]:
    """Drop units that nothing reads any more."""
    kept = dict(kept)
    nothing = np.empty(0, dtype=np.int64)
    for layer in range(shape.layers):
        for outer, inner in READS.items():
            if not len(kept[layer, outer]):
                kept[layer, inner] = nothing
        live = np.unique(kept[layer, "value"] // shape.head_size)
        pairs = kept[layer, "query"]
        pairs = pairs[np.isin(pairs // shape.head_size, live)]
        kept[layer, "query"] = kept[layer, "key"] = pairs
    return kept


def pair_score(query: np.ndarray, key: np.ndarray) -> np.ndarray:
    """One score for each query-key pair: the geometric mean of the two.

    The two units are multiplied in attention, so the smaller of the two limits what the pair does.

    >>> pair_score(np.array([4.0, 1.0]), np.array([9.0, 0.0]))
    array([6., 0.])
    """
    if query.min(initial=0) < 0 or key.min(initial=0) < 0:
        raise ValueError("scores of query and key units must not be negative")
    return np.sqrt(query.astype(np.float64) * key)


def plan(
    model: nn.Module,
    scores: Mapping[Group, np.ndarray],
    *,
    percentile: float | None = None,
    level: str | None = None,
    keep_total: float | None = None,
    keep_encoder: float | None = None,
    kinds: Sequence[str] | None = None,
    scope: str | None = None,
    floor: float | None = None,
    heads: str | None = None,
    multiple_of: int = 1,
) -> Plan:
    """Choose the units that stay. Exactly one of the first four arguments says how many.

    Args:
        model: the dense model (its shape and parameter counts are read, no weights).
        scores: ``{(layer, kind): (units,)}``, from
            :func:`obce.score <obce.scores.score>` or your own.
        percentile: cut this percentage of the units, those with the lowest scores.
        level: ``light``, ``medium`` or ``severe``: keep what lies above the first, second or
            third quartile (as the journal version, doi 10.3390/app15010390, names it).
        keep_total, keep_encoder: the fraction of all, or of the encoder's, parameters that
            stays; one common percentile is solved for it, to within 0.1 points. Where that
            percentile moves the size in coarser steps (at the last units of a head), the kinds
            outside heads get a percentile of their own that makes up for it.
        kinds: the kinds that are cut; query and key go together. If left out, ``value`` and
            ``intermediate``; for scores that are in one unit, all kinds that they judge.
        scope: ``layer``: percentiles within each layer and kind; ``network``: within each kind
            over all layers; ``global``: over all kinds and layers at once, by score per parameter
            that goes with the unit. There the scores of all kinds and layers must be in one unit,
            such as shares of one loss: that is the caller's to see to. A query-key pair has the
            geometric mean of its two scores. If left out, ``global`` for scores of
            :func:`obce.score <obce.scores.score>` that are in one unit (in the metric ``loss``,
            and ``fisher``), else ``layer``.
        floor: with ``scope="global"``, the fraction of each layer's units of each kind (of each
            head's, where heads are equal) that stays in any case, the best ones; if left out, 0.1,
            and 0 for ``second_order``, which knows what the others make good.
        heads: ``equal``: each head of a layer loses equally many units (percentiles within the
            head; globally, the heads' n-th units go together, by the mean of their scores), which
            runs fastest; ``free``: percentiles over the layer, heads may become unequal.
            ``equal`` is the default of the scope ``layer``, ``free`` of the others.
        multiple_of: round the number of units that stay, in each head and in each layer's other
            kinds, to the nearest multiple (8, say); never to none where some were to stay, and
            never above what there is. With a budget, the kinds outside heads then make up for
            the coarser heads. See ``benchmarks/model_speed.py`` for what it is worth.

    Returns:
        :class:`Plan`.

    Raises:
        ValueError: not exactly one target, a value out of range, scores that do not fit, or a
            budget that cannot be reached (the message names what can).

    >>> import obce
    >>> model, _ = obce.load_bert()
    >>> scores = obce.score(None, "magnitude", model=model)
    >>> small = obce.plan(model, scores, keep_encoder=0.465)
    >>> round(small.keep_encoder, 3), small.counts(0)["intermediate"]
    (0.465, 552)
    """
    shape, dense = shape_of(model), count_parameters(model)
    about = getattr(scores, "info", {})
    fitting_scope, fitting_kinds = fitting(about)
    scope, kinds = scope or fitting_scope, kinds if kinds is not None else fitting_kinds
    heads = heads or ("equal" if scope == "layer" else "free")
    _check_choices(kinds, scope, heads, floor)
    if type(multiple_of) is not int or not 1 <= multiple_of <= shape.hidden:
        raise ValueError(f"multiple_of={multiple_of}: a whole number from 1 to {shape.hidden}")
    target, value = _the_target(
        percentile=percentile, level=level, keep_total=keep_total, keep_encoder=keep_encoder
    )
    info = {**about, target: value}
    info |= {"kinds": list(kinds), "scope": scope, "heads": heads}
    if scope == "global":
        usual = FLOORS.get(str(about.get("score")), FLOOR)
        floor = info["floor"] = usual if floor is None else floor
    if multiple_of > 1:
        info["multiple_of"] = multiple_of
    checked = _checked_scores(shape, scores, kinds)
    if scope == "global":
        quantiles = _global_quantiles(shape, checked, heads, info["floor"])
    else:
        quantiles = _quantiles(shape, checked, scope, heads)
    cuts = _Cuts(shape, dense, quantiles, multiple_of, info)
    if target == "level":
        check_choice("level", value, LEVELS)
        value = LEVELS[value]
    if target in ("percentile", "level"):
        if not 0 <= value <= 100:
            raise ValueError(f"percentile={value}: it must be from 0 to 100")
        return cuts.plan((value / 100, len(quantiles)))
    return cuts.solve(target, value)


def _the_target(**targets: Any) -> tuple[str, Any]:
    """Name and value of the one that is given."""
    given = {name: value for name, value in targets.items() if value is not None}
    if len(given) != 1:
        raise ValueError(f"give exactly one of {', '.join(targets)}, not {len(given)}")
    return given.popitem()


def _check_choices(kinds: Sequence[str], scope: str, heads: str, floor: float | None) -> None:
    for kind in kinds:
        check_choice("kind", kind, KINDS)
    if not kinds:
        raise ValueError("kinds is empty: nothing would be cut")
    if ("query" in kinds) != ("key" in kinds):
        raise ValueError("query and key units go in pairs: name both kinds, or neither")
    check_choice("scope", scope, SCOPES)
    check_choice("heads", heads, HEADS)
    if scope == "network" and heads == "equal":
        raise ValueError(
            "heads='equal' needs scope='layer' or 'global': over the network, heads differ"
        )
    if floor is not None and scope != "global":
        raise ValueError(f"floor={floor:g} is for scope='global', not for {scope!r}")
    if floor is not None and not 0 <= floor <= 1:
        raise ValueError(f"floor={floor:g}: it must be from 0 to 1")


def _checked_scores(shape: Shape, scores: Mapping, kinds: Sequence[str]) -> dict[Group, np.ndarray]:
    """The scores of all groups that are cut; ``pair`` stands for query and key."""
    checked = {}
    for kind in kinds:
        for layer in range(shape.layers):
            if (layer, kind) not in scores:
                raise ValueError(f"there are no scores for layer {layer}, {kind}")
            values = np.asarray(scores[layer, kind])
            if values.shape != (shape.width(kind),):
                raise ValueError(
                    f"layer {layer}, {kind}: scores have shape {values.shape}, the model has "
                    f"{shape.width(kind)} units; were they made for another model?"
                )
            if not np.isfinite(values).all():
                raise ValueError(f"layer {layer}, {kind}: scores are not finite")
            checked[layer, kind] = values
        every = np.concatenate([checked[layer, kind] for layer in range(shape.layers)])
        if every.min() == every.max():
            raise ValueError(
                f"all {len(every)} scores of {kind} units are {every[0]:g}: they say nothing "
                "about which to keep (does the model put out constants?)"
            )
    if "query" in kinds:
        for layer in range(shape.layers):
            query, key = checked.pop((layer, "query")), checked.pop((layer, "key"))
            checked[layer, "pair"] = pair_score(query, key)
    return checked


def _quantiles(
    shape: Shape, scores: dict[Group, np.ndarray], scope: str, heads: str
) -> dict[Group, np.ndarray]:
    """Each unit's quantile, from 0 (lowest score) to 1: (rank + 1/2) / number of units ranked.

    Ranked are the units of a head, a layer or the network. Ties are broken by the unit's number.
    """
    quantiles = {}
    if scope == "network":
        for kind in {kind for _, kind in scores}:
            every = np.stack([scores[layer, kind] for layer in range(shape.layers)])
            for layer, row in enumerate(_ranks(every.reshape(1, -1)).reshape(every.shape)):
                quantiles[layer, kind] = (row + 0.5) / every.size
        return quantiles
    for group, values in scores.items():
        in_heads = heads == "equal" and group[1] in PAIRED
        rows = values.reshape(shape.heads if in_heads else 1, -1)
        quantiles[group] = ((_ranks(rows) + 0.5) / rows.shape[1]).ravel()
    return quantiles


def _global_quantiles(
    shape: Shape, scores: dict[Group, np.ndarray], heads: str, floor: float
) -> dict[Group, np.ndarray]:
    """Each unit's quantile among those of all kinds and layers, ranked by score per parameter.

    With equal heads the n-th lowest units of a layer's heads are one step: they have the mean of
    their scores and go together. Units of the floor are infinitely high: they never go.
    """
    keys, falls = [], []
    for number, ((_, kind), values) in enumerate(sorted(scores.items())):
        in_heads = heads == "equal" and kind in PAIRED
        rows = values.astype(np.float64).reshape(shape.heads if in_heads else 1, -1)
        ranks, width = _ranks(rows), rows.shape[1]
        worth = np.sort(rows, axis=1).mean(0) / _parameters_of_unit(shape, kind)  # by rank
        keys.append(np.stack([worth[ranks], np.full_like(rows, number), ranks]).reshape(3, -1))
        stays = math.ceil(round(floor * width, 6))  # 0.1 * 30 is a little more than 3
        falls.append((ranks < width - stays).ravel())
    may_go = np.concatenate(falls)
    _, step, sizes = np.unique(
        np.concatenate(keys, axis=1)[:, may_go], axis=1, return_inverse=True, return_counts=True
    )
    quantiles = np.full(len(may_go), np.inf)
    quantiles[may_go] = ((sizes.cumsum() - sizes / 2) / len(may_go))[step.ravel()]
    starts = np.cumsum([len(fall) for fall in falls])[:-1]
    return dict(zip(sorted(scores), np.split(quantiles, starts), strict=True))


def _parameters_of_unit(shape: Shape, kind: str) -> int:
    """Parameters that go with one unit (or pair) of a layer that is whole otherwise."""
    full = shape.full
    one_less = {name: full[name] - 1 for name in (("query", "key") if kind == "pair" else (kind,))}
    return shape.layer_parameters(full) - shape.layer_parameters(full | one_less)


def _ranks(rows: np.ndarray) -> np.ndarray:
    """Ranks within each row, from 0 for the lowest."""
    return rows.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")


@dataclass(frozen=True)
class _Cuts:
    """The plans that quantiles can make of a model, from the whole model on, step by step."""

    shape: Shape
    dense: Parameters
    quantiles: dict[Group, np.ndarray]
    multiple_of: int
    info: dict[str, Any]

    def plan(self, through: Step, in_heads: Step | None = None) -> Plan:
        """The plan that cuts all up to a step (of the kinds inside heads, up to another one)."""
        return Plan(self.shape, self._kept(through, in_heads or through), self.dense, {**self.info})

    def _kept(self, through: Step, in_heads: Step) -> dict[Group, np.ndarray]:
        kept = {group: np.arange(self.shape.width(group[1])) for group in self.shape.groups()}
        for number, ((layer, kind), values) in enumerate(sorted(self.quantiles.items())):
            last, last_number = in_heads if kind in PAIRED else through
            stays = (values > last) | ((values == last) & (number > last_number))
            if self.multiple_of > 1:
                heads = self.shape.heads if kind in PAIRED else 1
                stays = _rounded(values, stays, heads, self.multiple_of)
            for name in ("query", "key") if kind == "pair" else (kind,):
                kept[layer, name] = np.flatnonzero(stays)
        return kept

    def steps(self, outside_heads: bool = False) -> list[Step]:
        """All steps at which the number of units changes, in order; or of kinds outside heads."""
        return [START] + sorted(
            (float(quantile), number)
            for number, ((_, kind), values) in enumerate(sorted(self.quantiles.items()))
            if not (outside_heads and kind in PAIRED)
            for quantile in np.unique(values[np.isfinite(values)])
        )

    def solve(self, target: str, fraction: float) -> Plan:
        """The plan nearest to a budget, if that is near enough."""
        if not 0 < fraction <= 1:
            raise ValueError(f"{target}={fraction}: it must be above 0 and at most 1")
        nearest: list[float] = []
        for steps, in_heads in self._attempts(target, fraction):
            most, least = (
                getattr(self.plan(step, in_heads), target) for step in (steps[0], steps[-1])
            )
            if not nearest and not least - TOLERANCE <= fraction <= most + TOLERANCE:
                floor = f" with floor={self.info['floor']:g}" if "floor" in self.info else ""
                raise ValueError(
                    f"{target}={fraction} cannot be reached by cutting these kinds{floor}: "
                    f"from {least:.4f} to {most:.4f} can"
                )
            around = self._around(steps, in_heads, target, fraction)
            best = min(around, key=lambda step: self._distance(step, in_heads, target, fraction))
            plan = self.plan(best, in_heads)
            if abs(getattr(plan, target) - fraction) <= TOLERANCE:
                plan.info["percentile"] = _percentile(best)
                if in_heads is not None:
                    plan.info["percentile_in_heads"] = _percentile(in_heads)
                return plan
            nearest += [getattr(self.plan(step, in_heads), target) for step in around]
        above = [each for each in nearest if each > fraction]
        below = [each for each in nearest if each < fraction]
        two = " and ".join(f"{each:.4f}" for each in [*sorted(above)[:1], *sorted(below)[-1:]])
        raise ValueError(
            f"{target}={fraction} cannot be met to within 0.1 points, since units go in coarser "
            f"steps here; the nearest that can are {two}"
        )

    def _attempts(self, target: str, fraction: float) -> Iterator[tuple[list[Step], Step | None]]:
        """Steps to try one after the other, and the step for the kinds inside heads, if it is
        another one."""
        steps, outside = self.steps(), self.steps(outside_heads=True)
        mixed = 1 < len(outside) < len(steps)
        if self.multiple_of == 1 or not mixed:
            yield steps, None
        if not mixed:
            return
        # Units inside heads can move the size in large steps: rounded ones, or the last of a head,
        # which takes the head's pairs along. They stop at a step of the unrounded plan, and the
        # kinds outside heads make up for the difference.
        exact = replace(self, multiple_of=1)
        around = exact._around(steps, None, target, fraction)
        if self.multiple_of > 1:
            yield outside, min(around, key=lambda s: exact._distance(s, None, target, fraction))
        yield outside, around[-1]

    def _around(
        self, steps: list[Step], in_heads: Step | None, target: str, fraction: float
    ) -> tuple[Step, Step]:
        """Bisect for the last step that keeps at least a fraction, and the one after it."""
        low, high = 0, len(steps) - 1  # the fraction kept falls with every step
        while high - low > 1:
            middle = (low + high) // 2
            if getattr(self.plan(steps[middle], in_heads), target) >= fraction:
                low = middle
            else:
                high = middle
        return steps[low], steps[high]

    def _distance(self, step: Step, in_heads: Step | None, target: str, fraction: float) -> float:
        return abs(getattr(self.plan(step, in_heads), target) - fraction)


def _percentile(step: Step) -> float:
    return round(100 * max(step[0], 0), 3)


def _rounded(values: np.ndarray, stays: np.ndarray, heads: int, multiple_of: int) -> np.ndarray:
    """As many of each head's best units as the nearest multiple of what was to stay."""
    counts = stays.reshape(heads, -1).sum(1)
    width = len(values) // heads
    nearest = (2 * counts + multiple_of) // (2 * multiple_of) * multiple_of
    nearest = np.where(counts > 0, np.maximum(nearest, multiple_of), 0)
    nearest = np.where(counts == width, width, np.minimum(nearest, width))
    from_best = _ranks(-values.reshape(heads, width))
    return (from_best < nearest[:, None]).ravel()
