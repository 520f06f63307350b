"""Watching units: hooks on a BERT, and what every unit puts out over a corpus.

``collect`` runs the model over texts and writes the outputs of all units to a temporary file
per (layer, kind); memory is bounded by an argument, not by the corpus. ``Activations.cloud``
reads them back as point clouds.

Which tokens count: texts are cut to ``max_length`` tokens (never more than the model's
positions). Texts of equal length are run together, so no padding token is ever fed to the
model. [CLS] and [SEP] are real tokens and count, unless ``special_tokens=False``; the ``cls``
cloud always exists (in layer 0 it is one point for query, key and value: [CLS] has seen nothing
of its text yet).

With many processes (:mod:`obce.base.distributed`) each runs its share of the batches; then they
exchange outputs, so that each holds all points of its share of the units.
"""

from __future__ import annotations

import shutil
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import BertModel, PreTrainedTokenizerBase

from obce.base import distributed
from obce.base.checks import check_choice, check_positive
from obce.base.devices import inference
from obce.base.files import Scratch, writing_to
from obce.base.settings import BATCH_SIZE, CLOUDS
from obce.base.threads import on_threads
from obce.texts import Encoding, Text, batches, encode, length_limit, model_inputs
from obce.units import KINDS, OUTPUTS, Group, Shape, dense_bert, shape_of

BLOCK_UNITS, BLOCK_POINTS = 256, 512  # transposed together by one thread
MEMORY = 64 << 20  # bytes


@contextmanager
def hooked(
    bert: BertModel,
    groups: Iterable[Group],
    receive: Callable[..., Any],
    inputs: bool = False,
) -> Iterator[None]:
    """Call ``receive(group, output)`` for each group of units, once in every pass of ``bert``.

    The feed-forward parts run in one chunk meanwhile (``chunk_size_feed_forward`` splits them,
    with equal results). The hooks come off when the block ends, however it ends.

    Args:
        bert: the BertModel that will run.
        groups: (layer, kind) pairs.
        receive: takes a group and its output, ``(texts, tokens, units)``.
        inputs: whether ``receive`` also takes what the units read, as ``receive(group, input,
            output)``.

    Raises:
        ValueError: in a pass, units put out more than once (layers that share their weights) or
            not at all (a layer that was skipped).

    >>> import obce
    >>> model, tokenizer = obce.load_bert()
    >>> outputs = {}
    >>> with hooked(model, [(0, "query")], outputs.__setitem__):
    ...     _ = model(**tokenizer("A fine film.", return_tensors="pt"))
    >>> outputs[0, "query"].shape
    torch.Size([1, 6, 384])
    """
    calls: Counter[Group] = Counter()
    handles = []
    groups = list(groups)
    layers: list[Any] = list(bert.encoder.layer)
    chunks = [getattr(layer, "chunk_size_feed_forward", 0) for layer in layers]

    def hook(group: Group, module: nn.Module, read: Any, output: torch.Tensor) -> None:
        calls[group] += 1
        receive(group, *(read[:1] if inputs else ()), output)

    def check(*_: Any) -> None:
        for layer, kind in groups:
            if calls[layer, kind] != 1:
                raise ValueError(
                    f"layer {layer}, {kind}: these units put out {calls[layer, kind]} times in one "
                    "pass, not once; are layers shared or skipped?"
                )

    try:
        for layer in layers:
            layer.chunk_size_feed_forward = 0
        handles.append(bert.register_forward_pre_hook(lambda *_: calls.clear()))
        for group in groups:
            module = layers[group[0]].get_submodule(OUTPUTS[group[1]])
            handles.append(module.register_forward_hook(partial(hook, group)))
        handles.append(bert.register_forward_hook(check))
        yield
    finally:
        for handle in handles:
            handle.remove()
        for layer, size in zip(layers, chunks, strict=True):
            layer.chunk_size_feed_forward = size


def watched(shape: Shape, kinds: Sequence[str], layers: Iterable[int] | None) -> list[Group]:
    """The (layer, kind) pairs of these kinds and layers; all layers, if None.

    Raises:
        ValueError: a kind or layer that a BERT of this shape does not have.

    >>> watched(Shape(layers=2, hidden=4, heads=2, intermediate=8), ["query", "key"], [1])
    [(1, 'query'), (1, 'key')]
    """
    for kind in kinds:
        check_choice("kind", kind, KINDS)
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
        order: the texts in the order in which one process would run them.
        processes: how many processes share the units; 1, unless :mod:`obce.base.distributed` was
            used.

    The outputs lie in a temporary folder, which goes with the object (or at ``close()``, or at
    the end of a ``with`` block).

    >>> import obce
    >>> model, tokenizer = obce.load_bert()
    >>> with obce.collect(model, tokenizer, ["Good.", "A bad film."]) as activations:
    ...     activations.cloud(5, "output", "mean").shape, activations.medians(5, "output").shape
    ((384, 2), (384,))
    """

    def __init__(
        self,
        shape: Shape,
        groups: Sequence[Group],
        encodings: Sequence[Encoding],
        batched: Sequence[list[int]],
        *,
        clouds: Sequence[str] = CLOUDS,
        special_tokens: bool = True,
        max_length: int,
        memory: int = MEMORY,
    ):
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
        self.order = [text for batch in batched for text in batch]
        self.process, self.processes = distributed.rank(), distributed.size()
        self._batches = batched
        self._stores = [store for store in ("cls", "mean") if store in clouds]
        if {"texts", "tokens"} & set(clouds):
            self._stores.append("tokens")
        self._medians: dict[Group, np.ndarray] = {}
        scratch = Scratch()
        self._folder = scratch.path
        self._remove = weakref.finalize(self, scratch.close)

    def __enter__(self) -> Activations:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the temporary files."""
        self._remove()

    def __len__(self) -> int:
        return len(self.encodings)

    def held(self, kind: str, process: int | None = None) -> slice:
        """The units of each layer's ``kind`` whose clouds a process holds (this one, if none is
        named): all of them, if it is the only one."""
        process = self.process if process is None else process
        return distributed.share(self.shape.width(kind), process, self.processes)

    def _path(self, group: Group, store: str) -> Path:
        return self._folder / f"{group[0]:02d}.{group[1]}.{store}.float32"

    def check_room(self) -> None:
        """ValueError if the disk has no room for what this process is going to write."""
        own = distributed.mine(self._batches)
        points = sum(self._rows(store, batch) for store in self._stores for batch in own)
        need = 4 * points * sum(self.shape.width(kind) for _, kind in self.groups)
        free = shutil.disk_usage(self._folder).free
        if need > free:
            raise ValueError(
                f"the outputs over {len(self)} texts take {need / 1e9:.1f} GB in "
                f"{self._folder.parent}, where {free / 1e9:.1f} GB are free: fewer texts, kinds or "
                "layers take less, and the clouds mean and cls take very little"
            )

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
                file.write(np.ascontiguousarray(block.cpu().numpy()).data)

    def _exchange(self) -> None:
        """From all units over this process's batches to its units over all batches, in order."""
        for group in self.groups:
            width = self.shape.width(group[1])
            for store in self._stores:
                rows = [self._rows(store, batch) for batch in self._batches]
                most = self.memory // (4 * width)
                with writing_to(self._folder.parent):
                    distributed.transpose_file(self._path(group, store), width, rows, most)

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
            self._medians[group] = self.of_all_processes({group: own})[group]
        return self._medians[group]

    def of_all_processes(self, own: dict[Group, np.ndarray]) -> dict[Group, np.ndarray]:
        """From a number for each unit held here, by group, to float32 numbers of all units."""
        widths = {group: self.shape.width(group[1]) for group in own}
        return distributed.gather_shares(own, widths, self.processes)

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


def collect(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    *,
    clouds: Sequence[str] = CLOUDS,
    kinds: Sequence[str] = KINDS,
    layers: Sequence[int] | None = None,
    max_length: int | None = None,
    special_tokens: bool = True,
    batch_size: int = BATCH_SIZE,
    memory: int = MEMORY,
    device: str = "auto",
    progress: bool = False,
) -> Activations:
    """Run a BERT over texts and keep what its units put out.

    No gradients are taken; the model's device, training state and hooks are as before afterwards,
    also after an error. The outputs are written to temporary files. With many processes, each
    runs every P-th batch, and holds the outputs of its share of the units afterwards.

    Args:
        model: a transformers BERT, or a model that holds one.
        texts: strings, or pairs of strings; at least two.
        clouds: the readings that will be asked for. ``mean`` and ``cls`` need little room;
            ``texts`` and ``tokens`` keep 4 bytes per unit and token on disk.
        kinds, layers: which units; all, if left out.
        max_length: tokens to which texts are cut; 64, if left out.
        special_tokens: whether [CLS] and [SEP] count.
        batch_size: texts run at once.
        memory: bytes that a chunk of clouds may take when they are read back.
        device: where the model runs meanwhile: ``auto``, ``cpu`` or ``cuda`` (see
            :mod:`obce.base.devices`).
        progress: whether to show a progress bar.

    Returns:
        :class:`Activations`.

    Raises:
        ValueError: no BERT, a compressed one, fewer than two texts, unknown kinds or clouds, a
            ``max_length`` beyond the model, a disk without room for the outputs, or outputs that
            are not finite.

    >>> import obce
    >>> model, tokenizer = obce.load_bert()
    >>> with obce.collect(model, tokenizer, ["Good.", "A bad film."]) as activations:
    ...     activations.cloud(5, "output", "mean").shape
    (384, 2)
    """
    bert = dense_bert(model)
    shape = shape_of(model)
    groups, clouds = watched(shape, tuple(kinds), layers), tuple(clouds)
    for cloud in clouds:
        check_choice("cloud", cloud, CLOUDS)
    check_positive(batch_size=batch_size)
    max_length = length_limit(bert, max_length)
    encodings = encode(tokenizer, texts, max_length, model=bert)
    if len(encodings) < 2:
        raise ValueError("one text makes clouds of one point: at least two texts are needed")
    batched = batches(encodings, batch_size)
    activations = Activations(
        shape, groups, encodings, batched,
        clouds=clouds, special_tokens=special_tokens, max_length=max_length, memory=memory,
    )  # fmt: skip
    try:
        _run(bert, activations, distributed.mine(batched), device, progress)
        if activations.processes > 1:
            activations._exchange()
    except BaseException:
        activations.close()
        raise
    return activations


def _run(
    bert: BertModel,
    activations: Activations,
    batched: Sequence[list[int]],
    device: str,
    progress: bool,
) -> None:
    """Run this process's batches and write what the units put out."""
    encodings = activations.encodings
    # The bar counts tokens: long texts run first, so that counting texts would make the
    # estimate of the time left too long.
    tokens = [sum(len(encodings[i]["input_ids"]) for i in batch) for batch in batched]
    bar = distributed.bar(
        progress, total=sum(tokens), desc="activations", unit="token", unit_scale=True
    )
    batch: list[int] = []

    def receive(group: Group, output: torch.Tensor) -> None:
        activations._append(group, batch, output)

    with (
        distributed.together(),
        bar,
        inference(bert, device) as target,
        hooked(bert, activations.groups, receive),
    ):
        activations.check_room()
        for batch, count in zip(batched, tokens, strict=True):  # receive reads batch
            bert(**model_inputs(encodings, batch, target))
            bar.update(count)
