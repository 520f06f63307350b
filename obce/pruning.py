"""The plan: which units stay, chosen from their scores by percentile, level or budget.

A plan knows shapes and scores, no weights. It states exactly how many parameters will be left.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from obce.base.files import replacing
from obce.base.settings import DEFAULT_KINDS, LEVELS, TOLERANCE
from obce.units import KINDS, READS, Group, Parameters, Shape, count_parameters, shape_of

FORMAT = "obce plan 1"
PAIRED = ("pair", "value")  # what lives inside heads, where a pair is a query and a key unit

Step = tuple[float, int]
"""All units up to this quantile go, and of the groups (layers and kinds) that have the quantile
in common those up to this number: so a budget can stop between them."""


@dataclass
class Plan:
    """Which units of a BERT stay.

    Attributes:
        shape: the dense model's shape.
        kept: ``{(layer, kind): ascending unit numbers}`` for all layers and kinds.
        dense: parameters of the model that the plan was made for.
        info: how the plan was made.

    Units that nothing reads any more are dropped from ``kept``: the query-key pairs of a head
    without value units, and the value or intermediate units of a layer whose residual map
    writes nothing.
    """

    shape: Shape
    kept: dict[Group, np.ndarray]
    dense: Parameters
    info: dict = field(default_factory=dict)

    def __post_init__(self):
        wanted = set(self.shape.groups())
        if set(self.kept) != wanted:
            raise ValueError(f"a plan for {self.shape} must list all {len(wanted)} layers x kinds")
        self.kept = {
            group: _checked_units(self.shape, group, self.kept[group]) for group in sorted(wanted)
        }
        for layer in range(self.shape.layers):
            if not np.array_equal(self.kept[layer, "query"], self.kept[layer, "key"]):
                raise ValueError(f"layer {layer}: query and key units must go in pairs")
        self.kept = _without_dead(self.shape, self.kept)

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

    def check(self, model) -> None:
        """Raise a ValueError if the plan is not for a model of this shape."""
        shape = shape_of(model)
        if shape != self.shape:
            raise ValueError(f"the plan is for a BERT with {self.shape}; this one has {shape}")

    def summary(self) -> dict:
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
        full = self.shape.layer_parameters({kind: self.shape.width(kind) for kind in KINDS})
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
        """Write as JSON."""
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
        with replacing(path) as part:
            part.write_text(json.dumps(data) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike) -> Plan:
        """Read what ``save`` wrote.

        Raises:
            ValueError: no such file, not a plan, or a plan that contradicts itself.
        """
        if not Path(path).is_file():
            raise ValueError(f"no plan at {path}")
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            shape, dense = Shape(**data["shape"]), Parameters(**data["dense"])
            kept = {
                (layer, kind): units
                for layer, kinds in enumerate(data["kept"])
                for kind, units in kinds.items()
            }
            if data["format"] != FORMAT:
                raise ValueError(f"its format is {data['format']!r}, not {FORMAT!r}")
            plan = cls(shape, kept, dense, dict(data["info"]))
            if plan.parameters != Parameters(**data["parameters"]):
                raise ValueError("its parameters are not those that follow from its units")
        except (ArithmeticError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is not an obce plan: {error}") from error
        return plan


def _checked_units(shape: Shape, group: Group, units) -> np.ndarray:
    layer, kind = group
    units = np.asarray(units) if len(units) else np.empty(0, dtype=np.int64)
    if units.dtype.kind not in "iu":
        raise ValueError(f"layer {layer}, {kind}: units are named by whole numbers")
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

    The two units meet in a product, so a pair matters as little as the smaller of its factors
    lets it.
    """
    if query.min(initial=0) < 0 or key.min(initial=0) < 0:
        raise ValueError("scores of query and key units must not be negative")
    return np.sqrt(query.astype(np.float64) * key)


def plan(
    model,
    scores: Mapping[Group, np.ndarray],
    *,
    percentile: float | None = None,
    level: str | None = None,
    keep_total: float | None = None,
    keep_encoder: float | None = None,
    kinds: Sequence[str] = DEFAULT_KINDS,
    scope: str = "layer",
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
            stays; one common percentile is solved for it, to within 0.1 points.
        kinds: the kinds that are cut; query and key go together.
        scope: ``layer``: percentiles within each layer and kind; ``network``: within each kind
            over all layers.
        heads: ``equal``: each head of a layer loses equally many units (percentiles within the
            head), which runs fastest; ``free``: percentiles over the layer, heads may become
            unequal. ``equal`` is the default where ``scope`` is ``layer``.
        multiple_of: round the number of units that stay, in each head and in each layer's other
            kinds, to the nearest multiple (8, say); never to none where some were to stay, and
            never above what there is. With a budget, the kinds outside heads then make up for
            the coarser heads. See ``benchmarks/model_speed.py`` for what it is worth.

    Raises:
        ValueError: not exactly one target, a value out of range, scores that do not fit, or a
            budget that cannot be reached (the message names what can).
    """
    shape, dense = shape_of(model), count_parameters(model)
    heads = heads or ("equal" if scope == "layer" else "free")
    _check_choices(kinds, scope, heads)
    if not isinstance(multiple_of, int) or not 1 <= multiple_of <= shape.hidden:
        raise ValueError(f"multiple_of={multiple_of}: a whole number from 1 to {shape.hidden}")
    targets = {
        "percentile": percentile,
        "level": level,
        "keep_total": keep_total,
        "keep_encoder": keep_encoder,
    }
    given = {name: value for name, value in targets.items() if value is not None}
    if len(given) != 1:
        raise ValueError(f"give exactly one of {', '.join(targets)}, not {len(given)}")
    if level is not None:
        if level not in LEVELS:
            raise ValueError(f"unknown level {level!r}; there are {', '.join(LEVELS)}")
        percentile = LEVELS[level]
    quantiles = _quantiles(shape, _checked_scores(shape, scores, kinds), scope, heads)
    info = {**getattr(scores, "info", {}), **given}
    info |= {"kinds": list(kinds), "scope": scope, "heads": heads}
    if multiple_of > 1:
        info["multiple_of"] = multiple_of

    def cut(through: Step, in_heads: Step | None = None, multiple: int = multiple_of) -> Plan:
        kept = _keep_after(shape, quantiles, through, in_heads or through, multiple)
        return Plan(shape, kept, dense, dict(info))

    if percentile is not None:
        if not 0 <= percentile <= 100:
            raise ValueError(f"percentile={percentile}: it must be from 0 to 100")
        return cut((percentile / 100, len(quantiles)))
    (target, fraction), steps = given.popitem(), _steps(quantiles)
    outside = [step for step in steps if step[1] in _outside_heads(quantiles)]
    if multiple_of > 1 and len(outside) < len(steps) and outside:
        exact = partial(cut, multiple=1)
        # Rounded heads move the size in large steps: they take those nearest to the exact plan.
        in_heads = _nearest(exact, steps, target, fraction)
        cut, steps = partial(cut, in_heads=in_heads), [(-1.0, 0), *outside]
    return _solve(cut, steps, target, fraction)


def _check_choices(kinds: Sequence[str], scope: str, heads: str) -> None:
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"unknown kind {kind!r}; there are {', '.join(KINDS)}")
    if not kinds:
        raise ValueError("kinds is empty: nothing would be cut")
    if ("query" in kinds) != ("key" in kinds):
        raise ValueError("query and key units go in pairs: name both kinds, or neither")
    for name, value, known in (
        ("scope", scope, ("layer", "network")),
        ("heads", heads, ("equal", "free")),
    ):
        if value not in known:
            raise ValueError(f"unknown {name} {value!r}; there are {', '.join(known)}")
    if scope == "network" and heads == "equal":
        raise ValueError("heads='equal' needs scope='layer': over the network, heads differ")


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


def _quantiles(shape: Shape, scores: dict, scope: str, heads: str) -> dict[Group, np.ndarray]:
    """Each unit's place in its group, from 0 (lowest score) to 1: (rank + 1/2) / group size.

    The group is a head, a layer or the network. Ties are broken by the unit's number.
    """
    quantiles = {}
    if scope == "network":
        for kind in {kind for _, kind in scores}:
            every = np.stack([scores[layer, kind] for layer in range(shape.layers)])
            for layer, row in enumerate(_ranks(every.reshape(1, -1)).reshape(every.shape)):
                quantiles[layer, kind] = (row + 0.5) / every.size
        return quantiles
    for key, values in scores.items():
        in_heads = heads == "equal" and key[1] in PAIRED
        groups = values.reshape(shape.heads if in_heads else 1, -1)
        quantiles[key] = ((_ranks(groups) + 0.5) / groups.shape[1]).ravel()
    return quantiles


def _ranks(groups: np.ndarray) -> np.ndarray:
    return groups.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")


def _keep_after(
    shape: Shape, quantiles: dict, through: Step, in_heads: Step, multiple_of: int
) -> dict:
    """Units left when all up to ``through`` are cut (``in_heads``: of the kinds inside heads)."""
    kept = {
        (layer, kind): np.arange(shape.width(kind))
        for layer in range(shape.layers)
        for kind in KINDS
    }
    for group, ((layer, kind), values) in enumerate(sorted(quantiles.items())):
        last, last_group = in_heads if kind in PAIRED else through
        stays = (values > last) | ((values == last) & (group > last_group))
        if multiple_of > 1:
            stays = _rounded(values, stays, shape.heads if kind in PAIRED else 1, multiple_of)
        for name in ("query", "key") if kind == "pair" else (kind,):
            kept[layer, name] = np.flatnonzero(stays)
    return kept


def _rounded(values: np.ndarray, stays: np.ndarray, heads: int, multiple_of: int) -> np.ndarray:
    """As many of each head's best units as the nearest multiple of what was to stay."""
    counts = stays.reshape(heads, -1).sum(1)
    width = len(values) // heads
    nearest = (2 * counts + multiple_of) // (2 * multiple_of) * multiple_of
    nearest = np.where(counts > 0, np.maximum(nearest, multiple_of), 0)
    nearest = np.where(counts == width, width, np.minimum(nearest, width))
    from_best = _ranks(-values.reshape(heads, width))
    return (from_best < nearest[:, None]).ravel()


def _steps(quantiles: dict) -> list[Step]:
    """All places at which the number of units changes, the first before any unit."""
    return [(-1.0, 0)] + sorted(
        (float(q), group)
        for group, (_, values) in enumerate(sorted(quantiles.items()))
        for q in np.unique(values)
    )


def _outside_heads(quantiles: dict) -> set[int]:
    """The numbers of the groups whose units do not live inside heads."""
    return {group for group, (_, kind) in enumerate(sorted(quantiles)) if kind not in PAIRED}


def _nearest(cut, steps: list[Step], target: str, fraction: float) -> Step:
    """Bisect for the step whose plan is nearest to a budget."""
    low, high = 0, len(steps) - 1  # the fraction kept falls with every step
    while high - low > 1:
        middle = (low + high) // 2
        if getattr(cut(steps[middle]), target) >= fraction:
            low = middle
        else:
            high = middle
    return min(
        (steps[low], steps[high]), key=lambda step: abs(getattr(cut(step), target) - fraction)
    )


def _solve(cut, steps: list[Step], target: str, fraction: float) -> Plan:
    """The plan nearest to a budget, if that is near enough."""
    if not 0 < fraction <= 1:
        raise ValueError(f"{target}={fraction}: it must be above 0 and at most 1")
    most, least = (getattr(cut(step), target) for step in (steps[0], steps[-1]))
    if fraction < least - TOLERANCE or fraction > most + TOLERANCE:
        raise ValueError(
            f"{target}={fraction} cannot be reached by cutting these kinds: "
            f"from {least:.4f} to {most:.4f} can"
        )
    nearest = _nearest(cut, steps, target, fraction)
    best = cut(nearest)
    reached = getattr(best, target)
    if abs(reached - fraction) > TOLERANCE:
        raise ValueError(
            f"{target}={fraction} cannot be met to within 0.1 points, since units go in coarser "
            f"steps here; the nearest that can is {reached:.4f}"
        )
    best.info["percentile"] = round(100 * max(nearest[0], 0), 3)
    return best
