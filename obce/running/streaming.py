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
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch

from obce.activations import hooked, watched
from obce.base import distributed
from obce.base.devices import evaluating
from obce.base.settings import BATCH_SIZE, BUCKETS
from obce.base.threads import on_threads
from obce.scores import Scores
from obce.texts import Text, batches, check_texts, encode, length_limit, model_inputs
from obce.units import KINDS, Group, dense_bert, shape_of

MAX_BUCKETS = 1 << 20  # the theorem wants them well below float32's 2^24 steps per octave
CHUNK_TEXTS = 4096  # texts whose tokens are held at once
BLOCK = (1024, 128)  # points and units looked at together: tables that fit a core's cache
PLACES = 1 << 19  # buckets walked at once
Array = np.ndarray | torch.Tensor
FINEST = -149  # all float32 numbers are multiples of 2^-149
INTEGER = 1.5 * 2.0**52  # added to a float64 integer, it leaves the integer in the low bits


class GapSummary:
    """What is kept of a stream of points in R, for many units at once.

    A unit's buckets have a width of 2^exponent and edges at its multiples: bucket i holds the
    points with floor(x / width) = i, and lies in place i mod ``buckets`` of the table. The
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
            values = torch.from_numpy(np.require(values, requirements="CW"))
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
            self._put_in_blocks(array)
        else:
            self.cover(array.amin(0), array.amax(0))
            units = torch.arange(self.units, device=array.device)
            self._put(units.expand(len(array), -1).reshape(-1), array.reshape(-1))

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
        self._cover(other.least.to(self.least), other.most.to(self.most))
        # A summary is itself a small set of points that has this summary.
        units = torch.arange(self.units, device=self.low.device)
        self._put_tables(*map(_native, (units, other.low.to(self.low), other.high.to(self.high))))

    def cover(self, least: torch.Tensor, most: torch.Tensor) -> None:
        """Let every unit's buckets reach over a range too, without putting points there.

        Args:
            least, most: ``(units,)`` float32, finite, least <= most.

        Raises:
            ValueError: a range that is not finite.
        """
        if not (torch.isfinite(least).all() and torch.isfinite(most).all()):
            raise ValueError("the points hold values that are not finite (NaN or infinity)")
        self._cover(least + 0.0, most + 0.0)  # + 0.0 makes -0.0 the one zero there is

    def _cover(self, least: torch.Tensor, most: torch.Tensor) -> None:
        least, most = torch.minimum(self.least, least), torch.maximum(self.most, most)
        if torch.equal(least, self.least) and torch.equal(most, self.most):
            return
        self.least, self.most = least, most
        before, self.exponent = self.exponent, _exponents(least, most, self.buckets)
        low, high = _native(self.low), _native(self.high)
        grown = _native(torch.nonzero(self.exponent != before)[:, 0])
        for rows in _parts(grown, self.buckets):
            kept = low[rows], high[rows]
            low[rows], high[rows] = torch.inf, -torch.inf
            self._put_tables(rows, *kept)

    def _put_tables(self, units: Array, low: Array, high: Array) -> None:
        """Put in the ends of the buckets of other tables, (len(units), buckets), of some units."""
        for rows in _parts(range(len(units)), self.buckets):
            some = slice(rows[0], rows[-1] + 1)
            filled = (low[some] <= high[some]).nonzero()
            row, place = filled if isinstance(filled, tuple) else filled.T
            for ends in (low, high):
                self._put(units[some][row], ends[some][row, place])

    def _put(self, units: Array, points: Array) -> None:
        """Put single points into the tables, (n,) and (n,); the range covers them already."""
        low, high = _native(self.low).reshape(-1), _native(self.high).reshape(-1)
        # In float64, in which dividing by a power of two rounds nothing, down to subnormals.
        scale = _native(_powers(-self.exponent))[units]
        if isinstance(points, np.ndarray):
            points = points + np.float32(0)
            index = np.floor(points * scale).astype(np.int64)
            place = units * self.buckets + (index & (self.buckets - 1))
            np.minimum.at(low, place, points)
            np.maximum.at(high, place, points)
        else:
            points = points + 0.0
            index = torch.floor(points.double() * scale).long()
            place = units * self.buckets + (index & (self.buckets - 1))
            low.scatter_reduce_(0, place, points, "amin")
            high.scatter_reduce_(0, place, points, "amax")

    def _put_in_blocks(self, values: np.ndarray) -> None:
        """``_put`` of (points, units) on the CPU, block by block, on torch's number of threads."""
        low, high = self.low.numpy(), self.high.numpy()
        scale = _powers(-self.exponent).numpy()
        points, units = BLOCK

        def run(start: int) -> None:
            part = slice(start, start + units)
            for first in range(0, len(values), points):
                _put_block(values[first : first + points, part], scale[part], low[part], high[part])

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
    """ValueError for a number of buckets that no summary can have."""
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
    step = max(1, PLACES // buckets)
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
    """What a thread works with on one block, made once: fresh memory costs more than the work."""

    def __init__(self):
        size = BLOCK[0] * BLOCK[1]
        self.points, self.ends = np.empty((2, size), dtype=np.float32)
        self.places = np.empty(size)
        self.new, self.beyond = np.empty((2, size), dtype=bool)

    def shaped(self, shape: tuple[int, int]) -> list[np.ndarray]:
        size = shape[0] * shape[1]
        arrays = (self.points, self.ends, self.places, self.new, self.beyond)
        return [array[:size].reshape(shape) for array in arrays]


_scratch = _Scratch()


def _put_block(values: np.ndarray, scale: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    """Put a block of points, (points, units), into the tables of its units.

    Once a bucket has seen a few points, the next one seldom lies outside of what it holds: look
    the ends up, which is cheaper than writing them, and write the few that move one.
    """
    points, ends, place, new, beyond = _scratch.shaped(values.shape)
    np.add(values, np.float32(0), out=points)
    np.multiply(points, scale, out=place)  # in float64
    np.floor(place, out=place)
    np.add(place, INTEGER, out=place)
    place = place.view(np.int64)
    np.bitwise_and(place, low.shape[1] - 1, out=place)
    np.add(place, np.arange(0, low.size, low.shape[1]), out=place)
    low, high = low.reshape(-1), high.reshape(-1)  # views: the tables are contiguous
    np.less(points, low.take(place, mode="clip", out=ends), out=new)  # that mode does not check
    np.greater(points, high.take(place, mode="clip", out=ends), out=beyond)
    np.logical_or(new, beyond, out=new)
    moved = np.flatnonzero(new)
    if len(moved):
        place, points = place.reshape(-1)[moved], points.reshape(-1)[moved]
        np.minimum.at(low, place, points)
        np.maximum.at(high, place, points)


def stream(
    model,
    tokenizer,
    texts: Iterable[Text],
    *,
    buckets: int = BUCKETS,
    passes: int = 4,
    kinds: Sequence[str] = KINDS,
    layers: Sequence[int] | None = None,
    max_length: int | None = None,
    special_tokens: bool = True,
    batch_size: int = BATCH_SIZE,
    progress: bool = False,
) -> Scores:
    """The merge radius of the ``tokens`` clouds over texts without end, in bounded memory.

    Gives what ``score(collect(...), "merge_radius", cloud="tokens")`` gives, but keeps
    ``8 * buckets`` bytes for each unit and some thousand tokenized texts, and nothing else.
    Units that are not certified at first are done again, they alone and with as many more
    buckets each as the same memory has room for, in further passes over the texts.

    Args:
        model: a transformers BERT, or a model that holds one. The model's device is used.
        texts: strings, or pairs of strings; at least two. Further passes need an iterable that
            can be begun again, such as a list or a data set's column, not a generator.
        buckets: per unit, in the first pass; a power of two.
        passes: over the texts at most.
        kinds, layers, max_length, special_tokens, batch_size: as for
            :func:`obce.collect <obce.activations.collect>`.

    Returns:
        ``Scores``. Its ``info`` says in ``passes`` how many units each pass read with how many
        buckets, and how many it certified; ``uncertified`` lists, by ``"layer.kind"`` and unit,
        bounds of the merge radii that stayed unproved. Their scores are the lower bounds, and a
        warning is given.

    Raises:
        ValueError: no BERT, a compressed one, fewer than two texts, unknown kinds or layers,
            numbers out of range, outputs that are not finite, or other texts in a later pass.
    """
    bert = dense_bert(model)
    shape = shape_of(model)
    check_buckets(buckets)
    if passes < 1:
        raise ValueError(f"passes={passes}: at least 1 pass over the texts is needed")
    left = {key: np.arange(shape.width(key[1])) for key in watched(shape, tuple(kinds), layers)}
    options = dict(
        max_length=length_limit(bert, max_length),
        special_tokens=special_tokens,
        batch_size=batch_size,
        progress=progress,
    )
    lower = {key: np.zeros(len(units)) for key, units in left.items()}
    upper = {key: np.zeros(len(units)) for key, units in left.items()}
    room = buckets * _count(left)
    done: list[dict[str, int]] = []
    read = None
    while True:
        summaries, counts = summarize(bert, tokenizer, texts, left, buckets, **options)
        if read is not None and counts != read:
            raise ValueError(f"other texts in pass {len(done) + 1}: {counts}, before {read}")
        read = counts
        tried = _count(left)
        for key, summary in summaries.items():
            units = left[key]
            lower[key][units], upper[key][units] = summary.bounds()
            left[key] = units[lower[key][units] < upper[key][units]]
        left = {key: units for key, units in left.items() if len(units)}
        remain = _count(left)
        done.append({"buckets": buckets, "units": tried, "certified": tried - remain})
        del summaries  # the next ones take their room
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
    info = {"score": "merge_radius", "cloud": "tokens", **read}
    info |= {"max_length": options["max_length"], "special_tokens": special_tokens}
    info |= {"streamed": True, "passes": done}
    info["uncertified"] = {
        f"{layer}.{kind}": {
            str(unit): [lower[layer, kind][unit], upper[layer, kind][unit]]
            for unit in units.tolist()
        }
        for (layer, kind), units in left.items()
    }
    return Scores({key: value.astype(np.float32) for key, value in lower.items()}, info)


def _count(units: dict[Group, np.ndarray]) -> int:
    return sum(map(len, units.values()))


def summarize(
    model,
    tokenizer,
    texts: Iterable[Text],
    units: dict[Group, np.ndarray],
    buckets: int = BUCKETS,
    *,
    max_length: int = 64,
    special_tokens: bool = True,
    batch_size: int = BATCH_SIZE,
    progress: bool = False,
) -> tuple[dict[Group, GapSummary], dict[str, int]]:
    """One pass over the texts: a summary of the ``tokens`` clouds of some units.

    Args:
        units: ``{(layer, kind): indexes of units}``.

    Many processes share the batches out and combine their summaries, bit for bit into what one
    process gets; about 16 bytes per bucket are sent, however many tokens there were.

    Returns:
        ``{(layer, kind): GapSummary}``, in the order of the indexes, on the model's device; and
        how many ``texts`` and ``tokens`` were read.
    """
    bert = dense_bert(model)
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: at least 1 text is run at once")
    summaries = {key: GapSummary(len(some), buckets, bert.device) for key, some in units.items()}
    everything = {key: len(some) == shape_of(bert).width(key[1]) for key, some in units.items()}
    counts = {"texts": 0, "tokens": 0}
    total = len(texts) if hasattr(texts, "__len__") else None
    bar = distributed.bar(progress, total=total, desc="streaming", unit="text")
    counted = slice(None)  # the rows of a batch whose tokens count

    def receive(key: Group, output: torch.Tensor) -> None:
        values = output.detach().float().flatten(0, 1)[counted]
        if not everything[key]:
            values = values[:, units[key]]
        try:
            summaries[key].update(values)
        except ValueError:
            layer, kind = key
            raise ValueError(
                f"layer {layer}, {kind}: the model puts out values that are not finite"
            ) from None

    with (
        distributed.together(),
        bar,
        evaluating(model),
        torch.inference_mode(),
        hooked(bert, units, receive),
    ):
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
                    counted = torch.from_numpy(special == 0).to(bert.device)
                    tokens = int((special == 0).sum())
                bert(**model_inputs(encodings, batch, bert.device))
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


def _encoded(bert, tokenizer, texts: Iterable[Text], max_length: int) -> Iterator[list[dict]]:
    """Tokenized texts, some thousand at a time."""
    check_texts(texts)
    source, first = iter(texts), 0
    while part := list(islice(source, CHUNK_TEXTS)):
        yield encode(tokenizer, part, max_length, first, bert)
        first += len(part)
