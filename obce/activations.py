"""Watching units: hooks on a BERT, and what every unit puts out over a corpus.

``collect`` runs the model over texts and writes the outputs of all units to a temporary file
per (layer, kind); memory is bounded by an argument, not by the corpus. ``Activations.cloud``
reads them back as point clouds.

Which tokens count: texts are cut to ``max_length`` tokens (never more than the model's
positions). Texts of equal length are run together, so no padding token is ever fed to the
model. [CLS] and [SEP] are real tokens and count, unless ``special_tokens=False``; the ``cls``
cloud always exists (in layer 0 it is one point for query, key and value: [CLS] has seen nothing
of its text yet).

With many processes (:mod:`obce.base.distributed`) each runs its share of the batches; then they swap
outputs, so that each holds all points of its share of the units.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from obce.base import distributed
from obce.base.devices import evaluating
from obce.base.files import Scratch, writing_to
from obce.base.threads import on_threads
from obce.texts import Text, batches, encode, length_limit, model_inputs
from obce.units import KINDS, OUTPUTS, Group, Shape, dense_bert, shape_of

CLOUDS = ("mean", "texts", "tokens", "cls")
BLOCK_UNITS, BLOCK_POINTS = 256, 512  # transposed at once, by one thread


@contextmanager
def hooked(bert, groups: Iterable[Group], receive) -> Iterator[None]:
    """Call ``receive(group, output)`` whenever the module of a (layer, kind) has put out.

    The hooks come off when the block ends, however it ends.
    """
    handles = []
    try:
        for layer, kind in groups:
            module = bert.encoder.layer[layer].get_submodule(OUTPUTS[kind])

            def hook(module, inputs, output, group=(layer, kind)):
                receive(group, output)

            handles.append(module.register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def watched(shape: Shape, kinds: Sequence[str], layers: Iterable[int] | None) -> list[Group]:
    """The (layer, kind) pairs of these kinds and layers; all layers, if None.

    Raises:
        ValueError: a kind or layer that a BERT of this shape does not have.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"unknown kind {kind!r}; there are {', '.join(KINDS)}")
    layers = range(shape.layers) if layers is None else tuple(layers)
    for layer in layers:
        if not 0 <= layer < shape.layers:
            raise ValueError(f"no layer {layer}: this model has layers 0 to {shape.layers - 1}")
    return list(dict.fromkeys((layer, kind) for layer in layers for kind in kinds))


class Activations:
    """What the units of a BERT put out over a corpus; made by :func:`collect`.

    Attributes:
        shape: the model's ``Shape``.
        groups: the (layer, kind) pairs that were watched.
        encodings: the tokenized texts.
        clouds: the readings that can be asked for.
        counted: ``(texts,)`` number of counted tokens of each text.
        processes: how many processes share the units; 1, unless :mod:`obce.base.distributed` was used.

    The outputs lie in a temporary folder, which goes with the object (or at ``close()``, or at
    the end of a ``with`` block).
    """

    def __init__(self, shape, groups, encodings, clouds, special_tokens, max_length, memory):
        self.shape, self.groups, self.encodings = shape, groups, encodings
        self.clouds, self.special_tokens = clouds, special_tokens
        self.max_length, self.memory = max_length, memory
        self.masks = [
            np.ones(len(e["input_ids"]), dtype=bool)
            if special_tokens
            else ~np.array(e["special_tokens_mask"], dtype=bool)
            for e in encodings
        ]
        self.counted = np.array([mask.sum() for mask in self.masks])
        for i in np.flatnonzero(self.counted == 0):
            raise ValueError(f"text {i} has no tokens but special ones, which are left out")
        self.order: list[int] = []  # texts in the order in which one process would run them
        self.process, self.processes = distributed.rank(), distributed.size()
        scratch = Scratch()
        self._folder = scratch.path
        self._remove = weakref.finalize(self, scratch.close)
        self._stores = [s for s in ("cls", "mean") if s in clouds]
        if {"texts", "tokens"} & set(clouds):
            self._stores.append("tokens")
        self._medians: dict[Group, np.ndarray] = {}

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self) -> None:
        """Remove the temporary files."""
        self._remove()

    def __len__(self) -> int:
        return len(self.encodings)

    def held(self, kind: str, process: int | None = None) -> slice:
        """The units of each layer's ``kind`` whose clouds this process holds: all of them, if it
        is the only one."""
        process = self.process if process is None else process
        return distributed.share(self.shape.width(kind), process, self.processes)

    def _path(self, group: Group, store: str) -> Path:
        return self._folder / f"{group[0]:02d}.{group[1]}.{store}.float32"

    def _append(self, group: Group, batch: list[int], output: torch.Tensor) -> None:
        """Write one batch's outputs, (texts, tokens, units), to the stores of ``group``."""
        values = output.detach().float()
        if not all(map(torch.isfinite, torch.aminmax(values))):
            layer, kind = group
            raise ValueError(
                f"layer {layer}, {kind}: the model puts out values that are not finite"
            )
        rows = torch.from_numpy(np.stack([self.masks[i] for i in batch])).to(values.device)
        for store in self._stores:
            if store == "cls":
                block = values[:, 0]
            elif store == "mean":
                # in float64, in which a constant unit's mean does not depend on the length
                means = [text[row].double().mean(0) for text, row in zip(values, rows, strict=True)]
                block = torch.stack(means).float()
            else:
                block = values.flatten(0, 1) if rows.all() else values[rows]
            with writing_to(self._folder.parent), open(self._path(group, store), "ab") as file:
                file.write(np.ascontiguousarray(block.cpu().numpy()))

    def _swap(self, batched: list[list[int]]) -> None:
        """From all units over this process's batches to its units over all batches, in order."""
        for group in self.groups:
            width = self.shape.width(group[1])
            for store in self._stores:
                path = self._path(group, store)
                path.touch()  # more processes than batches
                rows = [self._rows(store, batch) for batch in batched]
                swapped = path.with_suffix(".swapped")
                full = writing_to(self._folder.parent)
                with full, open(path, "rb") as source, open(swapped, "wb") as target:
                    for piece in _pieces(rows, self.memory // (4 * width)):
                        totals = [sum(counts) for counts in zip(*piece, strict=True)]
                        block = np.fromfile(source, np.float32, totals[self.process] * width)
                        block = torch.from_numpy(block.reshape(-1, width))
                        found = distributed.transpose(block, totals)
                        # from process by process to batch by batch
                        columns = zip(*piece, strict=True)
                        parts = iter(found.split([rows for column in columns for rows in column]))
                        by_process = [[next(parts) for _ in piece] for _ in totals]
                        for one_round in zip(*by_process, strict=True):
                            for part in one_round:
                                target.write(np.ascontiguousarray(part.numpy()))
                os.replace(swapped, path)

    def _rows(self, store: str, batch: list[int]) -> int:
        return int(self.counted[batch].sum()) if store == "tokens" else len(batch)

    def _range(self, group: Group, units: slice) -> tuple[int, int]:
        """(start, stop) of a slice of units; ValueError if they are not held here."""
        layer, kind = group
        if group not in self.groups:
            raise ValueError(f"layer {layer}, {kind!r} was not collected")
        if not self._remove.alive:
            raise ValueError("these activations are closed: their temporary files are gone")
        start, stop, _ = units.indices(self.shape.width(kind))
        held = self.held(kind)
        if start < stop and not held.start <= start < stop <= held.stop:
            raise ValueError(
                f"layer {layer}, {kind}: of {self.shape.width(kind)} units, process "
                f"{self.process} of {self.processes} holds those of held({kind!r}): "
                f"{held.start} up to {held.stop}, not {start} up to {stop}"
            )
        return start, max(start, stop)

    def _read(self, group: Group, store: str, start: int, stop: int) -> np.ndarray:
        """(units, points) of a store, whose file is (points, units): transposed in blocks."""
        total = int(self.counted.sum()) if store == "tokens" else len(self)
        held = self.held(group[1])
        width, start, stop = held.stop - held.start, start - held.start, stop - held.start
        result = np.empty((stop - start, total), dtype=np.float32)
        if start == stop:
            return result
        path = self._path(group, store)
        stored = np.asarray(np.memmap(path, np.float32, "r", shape=(total, width)))
        # Copied to rows of an odd number of cache lines first: in the file, a unit's outputs lie
        # a multiple of 4096 bytes apart, which a cache has few places for.
        block = np.empty((BLOCK_POINTS, stop - start + 16), dtype=np.float32)
        for first in range(0, total, BLOCK_POINTS):
            part = stored[first : first + BLOCK_POINTS, start:stop]
            copied = block[: len(part), : stop - start]
            copied[:] = part
            result[:, first : first + len(part)] = copied.T
        return result

    def _in_text_order(self, pooled: np.ndarray) -> np.ndarray:
        result = np.empty_like(pooled)
        result[:, self.order] = pooled
        return result

    def cloud(
        self, layer: int, kind: str, cloud: str, units: slice = slice(None), length: int = 0
    ) -> np.ndarray:
        """The point clouds of some units of one layer and kind.

        Args:
            cloud: ``texts``: one point in R^length per text, the outputs at its first tokens
                less the unit's median over all counted tokens, 0 after the text's end;
                ``tokens``: one point in R per counted token, in no promised order;
                ``cls``, ``mean``: one point in R per text, in the order of the texts.
            units: which of them; all, if left out. Of many processes, each has its own
                (``held``).
            length: for ``texts``, at most the corpus' ``max_length``, which is the default.

        Returns:
            float32, ``(units, n)``, or ``(units, texts, length)`` for ``texts``.

        Raises:
            ValueError: a layer, kind or cloud that was not collected, or units of another process.
        """
        group = (layer, kind)
        if cloud not in self.clouds:
            raise ValueError(f"cloud {cloud!r} was not collected; there are {list(self.clouds)}")
        start, stop = self._range(group, units)
        if cloud in ("cls", "mean"):
            return self._in_text_order(self._read(group, cloud, start, stop))
        longest = int(self.counted.max())
        length = min(length or longest, longest)
        points = (len(self), length) if cloud == "texts" else (int(self.counted.sum()),)
        result = np.zeros((stop - start, *points), dtype=np.float32)

        def fill(first: int) -> None:
            last = min(first + BLOCK_UNITS, stop)
            tokens = self._read(group, "tokens", first, last)
            if cloud == "texts":
                self._fold(tokens, result[first - start : last - start])
            else:
                result[first - start : last - start] = tokens

        on_threads(fill, range(start, stop, BLOCK_UNITS))
        return result

    def _fold(self, tokens: np.ndarray, result: np.ndarray) -> None:
        """(units, tokens of all texts) -> (units, texts, length), less each unit's median."""
        tokens -= self._median_of(tokens)
        start = 0
        for text in self.order:
            count = self.counted[text]
            take = min(count, result.shape[2])
            result[:, text, :take] = tokens[:, start : start + take]
            start += count

    @staticmethod
    def _median_of(tokens: np.ndarray) -> np.ndarray:
        """(units, points) -> (units, 1). Of an even number the lower of the two in the middle,
        which is as robust, and is an output that did occur."""
        middle = (tokens.shape[1] - 1) // 2
        step = max(1, (1 << 20) // (4 * tokens.shape[1]))
        parts = [tokens[i : i + step] for i in range(0, max(1, len(tokens)), step)]
        return np.concatenate([np.partition(p, middle, axis=1)[:, [middle]] for p in parts])

    def medians(self, layer: int, kind: str) -> np.ndarray:
        """``(units,)`` float32: each unit's median output over the counted tokens (the lower
        one of an even number); of all units, also with many processes, which all must ask."""
        group = (layer, kind)
        if group not in self._medians:
            parts = [
                self._median_of(self._read(group, "tokens", *self._range(group, part)))[:, 0]
                for part in self.chunks(layer, kind, "tokens")
            ]
            own = np.concatenate([np.zeros(0, np.float32), *parts])
            self._medians[group] = self.gather({group: own})[group]
        return self._medians[group]

    def chunks(self, layer: int, kind: str, cloud: str) -> list[slice]:
        """Slices of units whose clouds together stay within the ``memory`` given to collect."""
        points = len(self)
        if cloud in ("texts", "tokens"):
            points = int(self.counted.sum())
        if cloud == "texts":
            points += len(self) * int(self.counted.max())
        held = self.held(kind)
        step = max(1, min(held.stop - held.start, self.memory // (4 * points)))
        starts = range(held.start, held.stop, step)
        return [slice(start, min(start + step, held.stop)) for start in starts]

    def gather(self, own: dict[Group, np.ndarray]) -> dict[Group, np.ndarray]:
        """From a number for each unit held here, by group, to those of all units on all processes.

        The numbers become float32: 4 bytes per unit are sent.
        """
        if self.processes == 1:
            return own
        if self.processes != distributed.size():
            raise ValueError(
                f"these activations are shared by {self.processes} processes, which have parted"
            )
        flat = np.concatenate([own[group] for group in own], dtype=np.float32)
        held = [[self.held(kind, p) for _, kind in own] for p in range(self.processes)]
        counts = [[part.stop - part.start for part in parts] for parts in held]
        found = distributed.gather(torch.from_numpy(flat), [sum(c) for c in counts])
        parts = iter(found.split([count for each in counts for count in each]))
        by_process = [dict(zip(own, parts)) for _ in held]  # noqa: B905, an iterator that goes on
        return {group: np.concatenate([each[group] for each in by_process]) for group in own}


def _pieces(rows: list[int], most: int) -> Iterator[list[list[int]]]:
    """Rounds of batches that are swapped at once: about ``most`` rows of each process.

    A round is one batch of each process, given as its number of rows: 0 where none is left.
    """
    piece: list[list[int]] = []
    processes = distributed.size()
    for one_round in distributed.rounds(rows):
        if piece and sum(max(each) for each in piece) + max(one_round) > most:
            yield piece
            piece = []
        piece.append(one_round + [0] * (processes - len(one_round)))
    yield piece


def collect(
    model,
    tokenizer,
    texts: Sequence[Text],
    *,
    clouds: Sequence[str] = CLOUDS,
    kinds: Sequence[str] = KINDS,
    layers: Sequence[int] | None = None,
    max_length: int | None = None,
    special_tokens: bool = True,
    batch_size: int = 32,
    memory: int = 64 << 20,
    progress: bool = False,
) -> Activations:
    """Run a BERT over texts and keep what its units put out.

    No gradients are taken; the model's training state and hooks are as before afterwards, also
    after an error. The outputs are written to temporary files. With many processes, each runs
    every P-th batch, and holds the outputs of its share of the units afterwards.

    Args:
        model: a transformers BERT, or a model that holds one. The model's device is used.
        texts: strings, or pairs of strings; at least two.
        clouds: the readings that will be asked for. ``mean`` and ``cls`` need little room;
            ``texts`` and ``tokens`` keep 4 bytes per unit and token on disk.
        kinds, layers: which units; all, if left out.
        max_length: tokens to which texts are cut; 64, if left out.
        special_tokens: whether [CLS] and [SEP] count.
        batch_size: texts run at once.
        memory: bytes that a chunk of clouds may take when they are read back.

    Raises:
        ValueError: no BERT, a compressed one, fewer than two texts, unknown kinds or clouds, a
            ``max_length`` beyond the model, or outputs that are not finite.
    """
    bert = dense_bert(model)
    shape = shape_of(model)
    groups, clouds = watched(shape, tuple(kinds), layers), tuple(clouds)
    for cloud in clouds:
        if cloud not in CLOUDS:
            raise ValueError(f"unknown cloud {cloud!r}; there are {', '.join(CLOUDS)}")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: at least 1 text is run at once")
    max_length = length_limit(bert, max_length)
    encodings = encode(tokenizer, texts, max_length)
    if len(encodings) < 2:
        raise ValueError("one text makes clouds of one point: at least two texts are needed")

    found = Activations(shape, groups, encodings, clouds, special_tokens, max_length, memory)
    batched = batches(encodings, batch_size)
    own = distributed.mine(batched)
    # The bar counts tokens: long texts run first, so that counting texts would make the
    # estimate of the time left too long.
    tokens = [sum(len(encodings[i]["input_ids"]) for i in batch) for batch in own]
    bar = distributed.bar(
        progress, total=sum(tokens), desc="activations", unit="token", unit_scale=True
    )
    try:
        with distributed.together(), bar, evaluating(model), torch.inference_mode():
            for batch, count in zip(own, tokens, strict=True):
                with hooked(bert, groups, lambda group, out, b=batch: found._append(group, b, out)):
                    bert(**model_inputs(encodings, batch, bert.device))
                bar.update(count)
        found.order = [text for batch in batched for text in batch]
        if found.processes > 1:
            found._swap(batched)
    except BaseException:
        found.close()
        raise
    return found
