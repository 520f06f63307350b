"""Clouds in R past memory: the merge radius of a stream of points, from a table of buckets.

Sorting needs all points of a unit at once. :class:`GapSummary` keeps, for each unit, a row of
equally wide buckets and of each bucket the least and the largest point in it; its memory depends
on the units and the number of buckets alone. A gap between neighbours either lies between two
buckets, and is known exactly, or inside one, and is no wider than that bucket's own spread. So
where the widest gap *between* buckets is at least as wide as every spread, it is the merge
radius, and the summary can *certify* that.

Theorem. n points and at least 2n - 1 buckets: every unit is certified. Proof: let R be the range.
The widths are powers of two, the smallest with which the window holds the range; half the width w
would not do, so R > (buckets - 1) w / 2 >= (n - 1) w. The largest of the n - 1 gaps is at least
their mean, which is wider than w: too wide for the inside of a half-open bucket, so it lies
between two.
(Where w is the finest width of all, every number in the range is a multiple of w: one bucket,
one number.)

Source: the largest gap by pigeonholes, without sorting: T. Gonzalez, "Algorithms on sets and
related problems", University of Oklahoma 1975; F. Preparata and M. Shamos, "Computational
Geometry", 1985, chapter 6. Streaming, growing and merging are ours.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import BertModel, PreTrainedTokenizerBase

from obce.activations import hooked, watched
from obce.base import distributed
from obce.base.devices import inference
from obce.base.settings import BATCH_SIZE, BUCKETS
from obce.base.threads import on_threads
from obce.scores import Scores
from obce.texts import Encoding, Text, batches, check_texts, encode, length_limit, model_inputs
from obce.units import KINDS, Group, dense_bert, shape_of

MAX_BUCKETS = 1 << 20  # the theorem wants them well below float32's 2^24 steps per octave
CHUNK_TEXTS = 4096  # texts whose tokens are held at once
BLOCK = (1024, 128)  # points and units looked at together: tables that fit a core's cache
SLOTS = 1 << 19  # buckets walked at once
Array = np.ndarray | torch.Tensor
FINEST = -149  # all float32 numbers are multiples of 2^-149
INTEGER = 1.5 * 2.0**52  # added to a float64 integer, it leaves the integer in the low bits


class GapSummary:
    """What is kept of a stream of points in R, for many units at once.

    A unit's buckets have a width of 2^exponent and edges at its multiples: bucket i holds the
    points with floor(x / width) = i, and lies in slot i mod ``buckets`` of the table. The
    exponent is the smallest for which the points seen span at most ``buckets`` buckets, but
    the width never falls below half the spacing of float32 at the largest magnitude seen, of
    which every number that the window could hold is a multiple (and i stays within 2^26 of 0). When
    the range grows past the window, buckets join in pairs: floor(floor(x / w) / 2) =
    floor(x / 2w), exactly. So the state depends on the *set* of points alone: neither their
    order, nor how they were batched, nor how summaries were merged changes a bit of it.

    Args:
        units: number of units, at least 1.
        buckets: per unit; a power of two, 2 to 2^20. The tables take 8 bytes for each.
        device: where the tables lie. Points are brought there.

    Attributes:
        low, high: ``(units, buckets)`` float32 tensors: the least and the largest point of each
            bucket; +inf and -inf where it is empty.
        least, most: ``(units,)`` float32 tensors: each unit's range; +inf and -inf before the
            first point. These four, or ``low`` and ``high`` alone, are the whole state; the
            rest follows from them.
        exponent: ``(units,)`` int64 tensor.

    To combine summaries of several processes, give all the same range with :meth:`cover`
    (all-reduce ``least`` by MIN and ``most`` by MAX), after which their tables agree bucket by
    bucket: all-reduce ``low`` by MIN and ``high`` by MAX.

    Raises:
        ValueError: numbers of units or buckets out of range.

    >>> summary = GapSummary(units=2, buckets=8)
    >>> summary.update(np.array([[0, 0], [1, 1], [5, 9]], dtype=np.float32))
    >>> summary.merge_radius(), summary.certified()
    (array([4., 8.]), array([ True,  True]))
    """

    def __init__(self, units: int, buckets: int = BUCKETS, device: torch.device | str = "cpu"):
        if units < 1:
            raise ValueError(f"units={units}: a summary is of at least 1 unit")
        check_buckets(buckets)
        self.units, self.buckets = units, buckets
        self.low = torch.full((units, buckets), torch.inf, device=device)
        self.high = torch.full((units, buckets), -torch.inf, device=device)
        self.least = torch.full((units,), torch.inf, device=device)
        self.most = torch.full((units,), -torch.inf, device=device)
        self.exponent = _exponents(self.least, self.most, buckets)

    @property
    def nbytes(self) -> int:
        """Bytes of the state: they depend on units and buckets alone."""
        state = (self.low, self.high, self.least, self.most, self.exponent)
        return sum(tensor.nbytes for tensor in state)

    def update(self, values: torch.Tensor | np.ndarray) -> None:
        """Take in points.

        Args:
            values: ``(points, units)``, float32 or a half-precision type (which float32 holds
                exactly), on any device; no points at all change nothing.

        Raises:
            ValueError: another shape or type, or values that are not finite; the summary is as
                before.
        """
        if isinstance(values, np.ndarray):
            values = torch.from_numpy(np.require(values, requirements=["C", "W"]))
        values = values.detach()
        if values.ndim != 2 or values.shape[1] != self.units:
            raise ValueError(
                f"points are (points, {self.units}), not an array of shape {tuple(values.shape)}"
            )
        if values.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise ValueError(f"points must be float32 or half precision, not {values.dtype}")
        if len(values) == 0:
            return
        values = values.to(self.low.device, torch.float32)
        array = _native(values)
        if isinstance(array, np.ndarray):
            self.cover(torch.from_numpy(array.min(0)), torch.from_numpy(array.max(0)))
            self._insert_in_blocks(array)
        else:
            self.cover(array.amin(0), array.amax(0))
            units = torch.arange(self.units, device=array.device)
            self._insert(units.expand(len(array), -1).reshape(-1), array.reshape(-1))

    def merge(self, other: GapSummary) -> None:
        """Take in what another summary has seen, which stays as it is.

        Raises:
            ValueError: a summary of other shape.
        """
        if (self.units, self.buckets) != (other.units, other.buckets):
            raise ValueError(
                f"cannot merge {other.units} units x {other.buckets} buckets "
                f"into {self.units} x {self.buckets}"
            )
        self._widen(other.least.to(self.least), other.most.to(self.most))
        # The ends of all buckets are a small set of points that has the same summary.
        units = torch.arange(self.units, device=self.low.device)
        ends = other.low.to(self.low), other.high.to(self.high)
        self._insert_tables(*map(_native, (units, *ends)))

    def cover(self, least: torch.Tensor, most: torch.Tensor) -> None:
        """Let every unit's buckets reach over a range too, without putting points there.

        Args:
            least, most: ``(units,)`` float32, finite, least <= most.

        Raises:
            ValueError: a range that is not finite.
        """
        if not (torch.isfinite(least).all() and torch.isfinite(most).all()):
            raise ValueError("the points hold values that are not finite (NaN or infinity)")
        self._widen(least + 0.0, most + 0.0)  # + 0.0 makes -0.0 the one zero there is

    def _widen(self, least: torch.Tensor, most: torch.Tensor) -> None:
        """:meth:`cover` for a range that is known to be finite. The tables of units whose range
        has outgrown its window are made anew."""
        least, most = torch.minimum(self.least, least), torch.maximum(self.most, most)
        if torch.equal(least, self.least) and torch.equal(most, self.most):
            return
        self.least, self.most = least, most
        before, self.exponent = self.exponent, _exponents(least, most, self.buckets)
        low, high = _native(self.low), _native(self.high)
        grown: Any = _native(torch.nonzero(self.exponent != before)[:, 0])
        rows: Any
        for rows in _parts(grown, self.buckets):
            kept = low[rows], high[rows]
            low[rows], high[rows] = torch.inf, -torch.inf
            self._insert_tables(rows, *kept)

    def _insert_tables(self, units: Array, low: Array, high: Array) -> None:
        """Insert the ends of the buckets of other tables, (len(units), buckets), of some units."""
        for rows in _parts(range(len(units)), self.buckets):
            some = slice(rows[0], rows[-1] + 1)
            filled = (low[some] <= high[some]).nonzero()
            row, slot = filled if isinstance(filled, tuple) else filled.T
            for ends in (low, high):
                self._insert(units[some][row], ends[some][row, slot])

    def _insert(self, units: Array, points: Array) -> None:
        """Insert single points, (n,), of these units, (n,); the range covers them already."""
        low: Any = _native(self.low).reshape(-1)
        high: Any = _native(self.high).reshape(-1)
        # In float64, in which dividing by a power of two rounds nothing, down to subnormals.
        scale: Any = _native(_powers(-self.exponent))[units]
        index: Any
        if isinstance(points, np.ndarray):
            points = points + np.float32(0)
            index = np.floor(points * scale).astype(np.int64)
            slot = units * self.buckets + (index & (self.buckets - 1))
            np.minimum.at(low, slot, points)
            np.maximum.at(high, slot, points)
        else:
            points = points + 0.0
            index = torch.floor(points.double() * scale).long()
            slot = units * self.buckets + (index & (self.buckets - 1))
            low.scatter_reduce_(0, slot, points, "amin")
            high.scatter_reduce_(0, slot, points, "amax")

    def _insert_in_blocks(self, values: np.ndarray) -> None:
        """``_insert`` of (points, units) on the CPU, block by block, on torch's threads."""
        low, high = self.low.numpy(), self.high.numpy()
        scale = _powers(-self.exponent).numpy()
        points, units = BLOCK

        def run(start: int) -> None:
            part = slice(start, start + units)
            for first in range(0, len(values), points):
                block = values[first : first + points, part]
                _insert_block(block, scale[part], low[part], high[part])

        starts = range(0, self.units, units)
        if values.size < 1 << 15:  # threads cost more than they bring
            for start in starts:
                run(start)
        else:
            on_threads(run, starts)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """An interval that holds each unit's merge radius.

        Returns:
            two ``(units,)`` float64 arrays: the largest gap between buckets, and the larger of
            that and the largest spread inside one. Where they are equal, that is the merge
            radius.

        Raises:
            ValueError: there are units that have no points yet.
        """
        step = max(1, (1 << 17) // self.buckets)
        starts = range(0, self.units, step)
        parts = on_threads(lambda start: self._bounds(slice(start, start + step)), starts)
        between, spread = (np.concatenate(part) for part in zip(*parts, strict=True))
        return between, np.maximum(between, spread)

    def _bounds(self, units: slice) -> tuple[np.ndarray, np.ndarray]:
        """The largest gap between buckets, the largest spread inside one: (units,) each."""
        low, high = self.low[units].cpu().numpy(), self.high[units].cpu().numpy()
        scale = _powers(-self.exponent[units])
        first = torch.floor(self.least[units].double() * scale).long().cpu().numpy()
        order = (first[:, None] + np.arange(self.buckets)) & (self.buckets - 1)
        low, high = np.take_along_axis(low, order, 1), np.take_along_axis(high, order, 1)
        filled = low <= high
        if not filled.any(axis=1).all():
            raise ValueError("no points yet: the merge radius of an empty cloud does not exist")
        width = np.zeros(low.shape)
        np.subtract(high, low, out=width, where=filled, dtype=np.float64)
        spread = width.max(axis=1)
        before = np.maximum.accumulate(high, axis=1)[:, :-1]  # the last point of earlier buckets
        both = filled[:, 1:] & (before > -np.inf)
        width.fill(0)
        np.subtract(low[:, 1:], before, out=width[:, 1:], where=both, dtype=np.float64)
        return width.max(axis=1), spread

    def merge_radius(self) -> np.ndarray:
        """``(units,)`` float64: the largest gap between buckets.

        It is the merge radius where :meth:`certified` says so, bit for bit that of
        :func:`obce.homology.merge_radius`, and never more than it elsewhere.
        """
        return self.bounds()[0]

    def certified(self) -> np.ndarray:
        """``(units,)`` bool: whether :meth:`merge_radius` is proved exact."""
        least, most = self.bounds()
        return least == most


def check_buckets(buckets: int) -> None:
    """ValueError for a number of buckets that no summary can have.

    >>> check_buckets(100)
    Traceback (most recent call last):
    ValueError: buckets=100: it is a power of two, 2 to 1048576
    """
    if not 2 <= buckets <= MAX_BUCKETS or buckets & (buckets - 1):
        raise ValueError(f"buckets={buckets}: it is a power of two, 2 to {MAX_BUCKETS}")


def _native(tensor: torch.Tensor) -> Array:
    """A CPU's tensor as the NumPy array that shares its memory; a GPU's as it is.

    NumPy indexes on one thread. Torch shares even small work out among threads, all of which wait
    for one that another process keeps from its core.
    """
    return tensor.numpy() if tensor.device.type == "cpu" else tensor


def _parts(units: Array | range, buckets: int) -> Iterator[Array | range]:
    """Units whose buckets are walked together."""
    step = max(1, SLOTS // buckets)
    return (units[start : start + step] for start in range(0, len(units), step))


def _exponents(least: torch.Tensor, most: torch.Tensor, buckets: int) -> torch.Tensor:
    """(units,) int64: the exponents of the widths of buckets for these ranges."""
    empty = least > most  # as if they held a 0
    least, most = (end.double().masked_fill(empty, 0) for end in (least, most))
    # Float32 numbers of magnitude m 2^e, m in [1/2, 1), are 2^(e - 24) apart; subnormals 2^-149.
    magnitude, span = torch.maximum(-least, most), most - least
    finest = torch.frexp(magnitude).exponent.long() - 25
    finest = finest.masked_fill(magnitude == 0, FINEST).clamp(min=FINEST)
    # A width of span / buckets at least; rounding may have made the span an octave too large.
    exponent = torch.frexp(span).exponent.long() - buckets.bit_length()
    exponent = torch.maximum(exponent.masked_fill(span == 0, FINEST), finest)
    while True:
        scale = _powers(-exponent)
        narrow = torch.floor(most * scale) - torch.floor(least * scale) >= buckets
        if not bool(narrow.any()):
            return exponent
        exponent += narrow


def _powers(exponents: torch.Tensor) -> torch.Tensor:
    """2^exponent in float64, exactly, whatever the device's own functions round."""
    return ((exponents + 1023) << 52).view(torch.float64)


class _Scratch(threading.local):
    """A thread's arrays for one block, allocated once: new memory takes longer than the work."""

    def __init__(self) -> None:
        size = BLOCK[0] * BLOCK[1]
        self.points, self.ends = np.empty((2, size), dtype=np.float32)
        self.slots = np.empty(size)
        self.new, self.beyond = np.empty((2, size), dtype=bool)

    def shaped(self, shape: tuple[int, int]) -> list[np.ndarray]:
        size = shape[0] * shape[1]
        arrays = (self.points, self.ends, self.slots, self.new, self.beyond)
        return [array[:size].reshape(shape) for array in arrays]


_scratch = _Scratch()


def _insert_block(values: np.ndarray, scale: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    """Insert a block of points, (points, units), into the tables of its units.

    Once a bucket has seen a few points, a new one seldom lies outside of its ends. So the ends are
    read first, which is cheaper than writing them, and only points that move one are written.
    """
    points, ends, slot, new, beyond = _scratch.shaped(values.shape)
    np.add(values, np.float32(0), out=points)
    np.multiply(points, scale, out=slot)  # in float64
    np.floor(slot, out=slot)
    np.add(slot, INTEGER, out=slot)
    slot = slot.view(np.int64)
    np.bitwise_and(slot, low.shape[1] - 1, out=slot)
    np.add(slot, np.arange(0, low.size, low.shape[1]), out=slot)
    low, high = low.reshape(-1), high.reshape(-1)  # views: the tables are contiguous
    np.less(points, low.take(slot, mode="clip", out=ends), out=new)  # that mode does not check
    np.greater(points, high.take(slot, mode="clip", out=ends), out=beyond)
    np.logical_or(new, beyond, out=new)
    moved = np.flatnonzero(new)
    if len(moved):
        slot, points = slot.reshape(-1)[moved], points.reshape(-1)[moved]
        np.minimum.at(low, slot, points)
        np.maximum.at(high, slot, points)


def stream(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    texts: Iterable[Text],
    *,
    buckets: int = BUCKETS,
    passes: int = 4,
    kinds: Sequence[str] = KINDS,
    layers: Sequence[int] | None = None,
    max_length: int | None = None,
    special_tokens: bool = True,
    batch_size: int = BATCH_SIZE,
    device: str = "auto",
    progress: bool = False,
) -> Scores:
    """The merge radius of the ``tokens`` clouds over texts without end, in bounded memory.

    Gives what ``score(collect(...), "merge_radius", cloud="tokens")`` gives, but keeps
    ``8 * buckets`` bytes for each unit and some thousand tokenized texts, and nothing else.
    Units that are not certified in one pass over the texts are read again in the next one, with as
    many more buckets as the same memory has room for.

    Args:
        model: a transformers BERT, or a model that holds one.
        texts: strings, or pairs of strings; at least two. Further passes need an iterable that
            can be begun again, such as a list or a data set's column, not a generator.
        buckets: per unit, in the first pass; a power of two.
        passes: over the texts at most.
        kinds, layers, max_length, special_tokens, batch_size, device, progress: as for
            :func:`obce.collect <obce.activations.collect>`.

    Returns:
        ``Scores``. Its ``info`` says in ``passes`` how many units each pass read with how many
        buckets, and how many it certified; ``uncertified`` lists, by ``"layer.kind"`` and unit,
        bounds of the merge radii that stayed unproved. Their scores are the lower bounds, and a
        warning is given.

    Raises:
        ValueError: no BERT, a compressed one, fewer than two texts, unknown kinds or layers,
            numbers out of range, outputs that are not finite, or other texts in a later pass.

    >>> import obce
    >>> model, tokenizer = obce.load_bert()
    >>> scores = obce.stream(model, tokenizer, ["A good film.", "It rained."], kinds=["query"])
    >>> scores[0, "query"].shape, scores.info["passes"][0]["certified"]
    ((384,), 2304)
    """
    bert = dense_bert(model)
    shape = shape_of(model)
    check_buckets(buckets)
    if passes < 1:
        raise ValueError(f"passes={passes}: at least 1 pass over the texts is needed")
    groups = watched(shape, tuple(kinds), layers)
    max_length = length_limit(bert, max_length)
    left = {group: np.arange(shape.width(group[1])) for group in groups}
    lower = {group: np.zeros(len(units)) for group, units in left.items()}
    upper = {group: np.zeros(len(units)) for group, units in left.items()}
    room = buckets * _count(left)
    done: list[dict[str, int]] = []
    read: dict[str, int] | None = None
    while True:
        summaries, counts = summarize(
            bert, tokenizer, texts, left, buckets,
            max_length=max_length, special_tokens=special_tokens, batch_size=batch_size,
            device=device, progress=progress,
        )  # fmt: skip
        if read is not None and counts != read:
            raise ValueError(f"other texts in pass {len(done) + 1}: {counts}, before {read}")
        read = counts
        tried = _count(left)
        for group, summary in summaries.items():
            units = left[group]
            lower[group][units], upper[group][units] = summary.bounds()
            left[group] = units[lower[group][units] < upper[group][units]]
        left = {group: units for group, units in left.items() if len(units)}
        remain = _count(left)
        done.append({"buckets": buckets, "units": tried, "certified": tried - remain})
        del summaries  # before the next ones are made
        if not remain or len(done) == passes or iter(texts) is texts:
            break
        finer = min(MAX_BUCKETS, 1 << (room // remain).bit_length() - 1)
        if finer <= buckets:
            break
        buckets = finer
    if remain:
        warnings.warn(
            f"{remain} units are not certified: their scores are lower bounds "
            "(info['uncertified'] has the upper ones); more buckets or passes would do",
            stacklevel=2,
        )
    info: dict[str, Any] = {"score": "merge_radius", "cloud": "tokens", **read}
    info |= {"max_length": max_length, "special_tokens": special_tokens}
    info |= {"streamed": True, "passes": done}
    info["uncertified"] = {
        f"{layer}.{kind}": {
            str(unit): [lower[layer, kind][unit], upper[layer, kind][unit]]
            for unit in units.tolist()
        }
        for (layer, kind), units in left.items()
    }
    return Scores({group: value.astype(np.float32) for group, value in lower.items()}, info)


def _count(units: Mapping[Group, np.ndarray]) -> int:
    return sum(map(len, units.values()))


def summarize(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    texts: Iterable[Text],
    units: Mapping[Group, np.ndarray],
    buckets: int = BUCKETS,
    *,
    max_length: int = 64,
    special_tokens: bool = True,
    batch_size: int = BATCH_SIZE,
    device: str = "auto",
    progress: bool = False,
) -> tuple[dict[Group, GapSummary], dict[str, int]]:
    """One pass over the texts: a summary of the ``tokens`` clouds of some units.

    Args:
        units: ``{(layer, kind): indexes of units}``.
        buckets, max_length, special_tokens, batch_size, device, progress: as for :func:`stream`.

    With many processes each runs a share of the batches; combined, their summaries are bit for
    bit what one process gets. About 16 bytes per bucket are sent, however many tokens there were.

    Returns:
        ``{(layer, kind): GapSummary}``, in the order of the indexes, on the device; and how many
        ``texts`` and ``tokens`` were read.

    Raises:
        ValueError: as :func:`stream`.

    >>> import obce
    >>> model, tokenizer = obce.load_bert()
    >>> texts, units = ["A good film.", "It rained."], {(0, "query"): np.array([3, 5])}
    >>> summaries, counts = summarize(model, tokenizer, texts, units)
    >>> summaries[0, "query"].units, counts
    (2, {'texts': 2, 'tokens': 11})
    """
    bert = dense_bert(model)
    shape = shape_of(bert)
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: at least 1 text is run at once")
    whole = {group: len(some) == shape.width(group[1]) for group, some in units.items()}
    counts = {"texts": 0, "tokens": 0}
    total = len(texts) if isinstance(texts, Sized) else None
    bar = distributed.bar(progress, total=total, desc="streaming", unit="text")
    counted: slice | torch.Tensor = slice(None)  # the rows of a batch whose tokens count
    summaries: dict[Group, GapSummary] = {}

    def receive(group: Group, output: torch.Tensor) -> None:
        values = output.detach().float().flatten(0, 1)[counted]  # (tokens, units)
        if not whole[group]:
            values = values[:, units[group]]
        try:
            summaries[group].update(values)
        except ValueError:
            layer, kind = group
            raise ValueError(
                f"layer {layer}, {kind}: the model puts out values that are not finite"
            ) from None

    with (
        distributed.together(),
        bar,
        inference(bert, device) as target,
        hooked(bert, units, receive),
    ):
        for group, some in units.items():
            summaries[group] = GapSummary(len(some), buckets, target)
        for encodings in _encoded(bert, tokenizer, texts, max_length):
            for one_round in distributed.rounds(batches(encodings, batch_size)):
                bar.update(sum(map(len, one_round)))
                batch = next(iter(distributed.mine(one_round)), None)
                if batch is None:
                    continue
                if special_tokens:
                    tokens = sum(len(encodings[i]["input_ids"]) for i in batch)
                else:
                    special = np.concatenate([encodings[i]["special_tokens_mask"] for i in batch])
                    counted = torch.from_numpy(special == 0).to(target)
                    tokens = int((special == 0).sum())
                bert(**model_inputs(encodings, batch, target))
                counts["tokens"] += tokens
                counts["texts"] += len(batch)
    counts = _combined(summaries, counts)
    if counts["texts"] < 2:
        raise ValueError(f"{counts['texts']} texts: at least two texts are needed")
    if counts["tokens"] == 0:
        raise ValueError("the texts have no tokens but special ones, which are left out")
    return summaries, counts


def _combined(summaries: dict[Group, GapSummary], counts: dict[str, int]) -> dict[str, int]:
    """Give every process the summaries of what all have seen, and the counts of all.

    Once all windows reach over the same range, the tables agree bucket by bucket.
    """
    if distributed.size() == 1:
        return counts
    numbers = torch.tensor(list(counts.values()))
    distributed.add_up(numbers)
    for summary in summaries.values() if numbers.all() else ():
        least, most = summary.least.clone(), summary.most.clone()
        distributed.lowest(least)
        distributed.highest(most)
        summary.cover(least, most)
        distributed.lowest(summary.low)
        distributed.highest(summary.high)
    return dict(zip(counts, numbers.tolist(), strict=True))


def _encoded(
    bert: BertModel, tokenizer: PreTrainedTokenizerBase, texts: Iterable[Text], max_length: int
) -> Iterator[list[Encoding]]:
    """Tokenized texts, some thousand at a time."""
    check_texts(texts)
    source, first = iter(texts), 0
    while part := list(islice(source, CHUNK_TEXTS)):
        yield encode(tokenizer, part, max_length, first, bert)
        first += len(part)
