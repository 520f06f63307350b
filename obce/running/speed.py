"""Theory beside practice: seconds of forward passes beside the multiply-adds that they take."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from obce.base.checks import check_positive
from obce.base.devices import inference, pick_device
from obce.base.settings import BATCH_SIZE, LENGTH, SHAPES, TIMING_ROUNDS
from obce.pruning import Plan
from obce.running.heads import Loaded
from obce.running.loading import Classifier
from obce.running.records import environment, spread
from obce.running.tables import text_table
from obce.surgery import cut
from obce.texts import Text, encode, length_limit, padded, sorted_batches
from obce.units import count_multiply_adds, count_parameters, find_bert, is_compressed

SHORTEST = 0.02  # seconds: a measurement repeats a shorter pass until it is as long

Result = TypeVar("Result")


def in_turns(
    runs: Mapping[str, Callable[[], Result]], rounds: int, progress: bool = False
) -> dict[str, list[Result]]:
    """Call every run once in each round, so that a busy moment hits all of them.

    >>> in_turns({"a": lambda: 1, "b": lambda: 2}, rounds=2)
    {'a': [1, 1], 'b': [2, 2]}
    """
    results: dict[str, list[Result]] = {name: [] for name in runs}
    turns = [name for _ in range(rounds) for name in runs]
    for name in tqdm(turns, desc="time", unit="pass", disable=not progress, leave=False):
        results[name].append(runs[name]())
    return results


@contextmanager
def running_threads(number: int) -> Iterator[None]:
    """So many threads for torch, and for the homology, which takes its number from torch.

    >>> with running_threads(1):
    ...     torch.get_num_threads()
    1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


ONE_MODEL = (
    "ms, longest: median and longest time of one pass. 10^9 multiply-adds: of one pass, and in "
    "one second (10^9/s)."
)
TWO_MODELS = (
    "against, ms: the model that it is compared with. times as fast, largest: how many times as "
    "fast as that one it is, median and largest.\nexpected: how many times fewer multiply-adds it "
    "has. reached: times as fast / expected."
)


class Benchmark(dict[str, Any]):
    """What :func:`benchmark` measured: plain JSON values that print as a table."""

    def __str__(self) -> str:
        against = "against" in self
        rows = [["texts x tokens", "threads", "ms", "longest", "10^9 multiply-adds", "10^9/s"]]
        if against:
            rows[0] += ["against, ms", "times as fast", "largest", "expected", "reached"]
        for row in self["rows"]:
            seconds = row["seconds"]
            cells = [
                f"{row['texts']}x{row['tokens']}",
                f"{row['threads']}",
                f"{1e3 * seconds['median']:.1f}",
                f"{1e3 * seconds['max']:.1f}",
                f"{row['multiply_adds'] / 1e9:.2f}",
                f"{row['multiply_adds'] / seconds['median'] / 1e9:.1f}",
            ]
            if against:
                cells += [
                    f"{1e3 * row['against_seconds']['median']:.1f}",
                    f"{row['speed_up']['median']:.2f}",
                    f"{row['speed_up']['max']:.2f}",
                    f"{row['multiply_add_ratio']:.2f}",
                    f"{row['speed_up']['median'] / row['multiply_add_ratio']:.2f}",
                ]
            rows.append(cells)
        notes = [ONE_MODEL, TWO_MODELS] if against else [ONE_MODEL]
        return "\n".join([text_table(rows), *notes])


def benchmark(
    model: nn.Module,
    *,
    against: nn.Module | None = None,
    shapes: Sequence[tuple[int, int]] = SHAPES,
    threads: int | Sequence[int] | None = None,
    repeats: int = 7,
    first_only: bool = False,
    device: str = "auto",
    progress: bool = False,
) -> Benchmark:
    """Time the forward pass of a BERT, dense or compressed, beside its multiply-adds.

    Timed is the BertModel inside: embeddings, encoder and pooler, on full batches of random tokens,
    without gradients. What ``obce.evaluate`` takes also depends on the texts' lengths.

    Args:
        model: any BERT of transformers, or what :func:`obce.compress <obce.repairs.compress>` made.
        against: a second one, for instance the dense original; both are timed in turns, and the
            speed-up is the median of the ratios of neighbouring measurements.
        shapes: texts and tokens of each batch.
        threads: of PyTorch on a CPU, one number or several; left alone if left out.
        repeats: measurements of each model, batch and number of threads.
        first_only: time what a classifier's logits need: the last layer's output for [CLS] alone.
            Compressed classifiers do so (``obce.modeling.reads_first_token``). A dense model
            is timed in the same form, so that the two differ by what was cut.
        device: where the models run meanwhile: ``auto``, ``cpu`` or ``cuda`` (see
            :mod:`obce.base.devices`).
        progress: whether to show a progress bar.

    Returns:
        a :class:`Benchmark`: under ``rows`` one entry for each batch and number of threads, with
        ``seconds`` of one pass (``median``, ``min``, ``max``), ``multiply_adds``,
        ``multiply_adds_per_second`` and, where there is a second model, ``against_seconds``,
        ``speed_up`` (``median``, ``min``, ``max``) and ``multiply_add_ratio``; beside them
        ``parameters``, ``bytes`` of the weights, ``device`` and ``environment``.

    Raises:
        ValueError: no BERT, an argument out of range, a text longer than the model takes.

    >>> import obce
    >>> model, _ = obce.load_bert()
    >>> scores = obce.score(None, "random", model=model)
    >>> small = obce.cut(model, obce.plan(model, scores, keep_encoder=0.5))
    >>> result = obce.benchmark(small, against=model, shapes=[(1, 8)], repeats=1)
    >>> row = result["rows"][0]
    >>> round(row["multiply_add_ratio"], 2), row["speed_up"]["median"] > 0
    (2.0, True)
    """
    target = pick_device(device)
    models = {"model": model} if against is None else {"model": model, "against": against}
    berts: dict[str, PreTrainedModel] = {name: find_bert(one) for name, one in models.items()}
    if first_only:
        berts = {name: alike(bert) for name, bert in berts.items()}
    numbers = [threads] if isinstance(threads, int) else threads or [torch.get_num_threads()]
    check_positive(repeats=repeats, threads=min(numbers))
    for texts, tokens in shapes:
        check_positive(texts=texts, tokens=tokens)
        longest = min(bert.config.max_position_embeddings for bert in berts.values())
        if tokens > longest:
            raise ValueError(f"texts of {tokens} tokens: this model takes at most {longest}")
    rows = [
        _row(berts, texts, tokens, number, repeats, first_only, target, progress)
        for number in numbers
        for texts, tokens in shapes
    ]
    result = Benchmark(
        rows=rows,
        repeats=repeats,
        first_only=first_only,
        device=target.type,
        environment=environment(),
        **_size(model),
    )
    if against is not None:
        result["against"] = _size(against)
    return result


def alike(model: PreTrainedModel) -> PreTrainedModel:
    """The model in the form of a compressed one, uncut if it is dense.

    >>> import obce
    >>> type(alike(obce.load_bert().model)).__name__
    'ObceBertModel'
    """
    return model if is_compressed(model) else cut(model, Plan.whole(model))


def _size(model: nn.Module) -> dict[str, Any]:
    """Parameters, and the bytes that they and the buffers of the state dict take in a file."""
    tensors = {t.data_ptr(): t.numel() * t.element_size() for t in model.state_dict().values()}
    return {"parameters": count_parameters(model)._asdict(), "bytes": sum(tensors.values())}


def _row(
    berts: Mapping[str, nn.Module],
    texts: int,
    tokens: int,
    threads: int,
    repeats: int,
    first_only: bool,
    device: torch.device,
    progress: bool,
) -> dict[str, Any]:
    """The record of one batch and number of threads."""
    seconds = times(berts, texts, tokens, threads, repeats, device.type, progress, first_only)
    work = {
        name: count_multiply_adds(bert, texts, tokens, first_only) for name, bert in berts.items()
    }
    taken = spread(seconds["model"])
    row = {
        "texts": texts,
        "tokens": tokens,
        "threads": threads,
        "seconds": taken,
        "multiply_adds": work["model"],
        "multiply_adds_per_second": work["model"] / taken["median"],
    }
    if "against" in berts:
        row["against_seconds"] = spread(seconds["against"])
        row["speed_up"] = spread(ratios(seconds["against"], seconds["model"]))
        row["multiply_add_ratio"] = work["against"] / work["model"]
    return row


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """The ratios of neighbouring measurements of two models that were timed in turns.

    >>> ratios([4.0, 6.0], [2.0, 2.0])
    [2.0, 3.0]
    """
    return [a / b for a, b in zip(above, below, strict=True)]


def times(
    models: Mapping[str, nn.Module],
    texts: int,
    tokens: int,
    threads: int,
    repeats: int,
    device: str = "auto",
    progress: bool = False,
    first_only: bool = False,
) -> dict[str, list[float]]:
    """Seconds of one pass of the BertModel inside each of several models, timed in turns.

    Args:
        models: by name.
        texts, tokens: the size of the batch.
        threads: of PyTorch.
        repeats: measurements of each model.
        device, progress, first_only: as for :func:`benchmark`; with ``first_only`` all models must
            be compressed ones, or what :func:`alike` makes of them.

    Returns:
        ``repeats`` times in seconds for each name.

    >>> import obce
    >>> model, _ = obce.load_bert()
    >>> len(times({"dense": model}, texts=1, tokens=8, threads=1, repeats=2)["dense"])
    2
    """
    berts = {name: find_bert(model) for name, model in models.items()}
    vocabulary = min(bert.config.vocab_size for bert in berts.values())
    target = pick_device(device)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(vocabulary, (texts, tokens), generator=generator).to(target)
    with running_threads(threads), ExitStack() as stack:
        for bert in berts.values():
            stack.enter_context(inference(bert, device))
        told = {"first_only": True} if first_only else {}
        runs = {name: _measurement(partial(bert, ids, **told), ids) for name, bert in berts.items()}
        return in_turns(runs, repeats, progress)


def _measurement(run: Callable[[], Any], ids: torch.Tensor) -> Callable[[], float]:
    """A function that measures the seconds of one pass.

    torch.utils.benchmark's ``Timer`` isn't used: it measures one statement after the other, and
    warms up by two more passes each time.
    """

    def now() -> float:
        if ids.is_cuda:
            torch.cuda.synchronize(ids.device)  # passes are only queued until it has run them
        return time.perf_counter()

    def seconds(passes: int) -> float:
        start = now()
        for _ in range(passes):
            run()
        return (now() - start) / passes

    first = seconds(1)  # sets up what later passes find ready
    passes = 1 if first > 10 * SHORTEST else math.ceil(SHORTEST / seconds(1))
    return lambda: seconds(passes)


def time_per_1000(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    *,
    max_length: int | None = None,
    batch_size: int = BATCH_SIZE,
    repeats: int = TIMING_ROUNDS,
    device: str = "auto",
) -> dict[str, Any]:
    """Seconds of forward passes per 1,000 texts: the ``median`` of ``repeats``, ``min``, ``max``.

    The texts are tokenized, sorted by length and batched beforehand, and one batch runs untimed.
    Batch size, threads and device, without which the number means little, are in the answer.

    Raises:
        ValueError: no texts, an argument out of range.
    """
    check_positive(batch_size=batch_size, repeats=repeats)
    target = pick_device(device)
    rows = encode(tokenizer, texts, length_limit(model, max_length, LENGTH), model=model)
    groups = sorted_batches(rows, batch_size)
    batches = [batch for _, batch in padded(tokenizer, rows, groups, target)]

    def run(batches: list[dict[str, torch.Tensor]]) -> float:
        start = time.perf_counter()
        for batch in batches:
            out = model(**batch)
            (out.logits if hasattr(out, "logits") else out[0]).cpu()  # the copy waits for the GPU
        return (time.perf_counter() - start) * 1000 / len(rows)

    with inference(model, device):
        run(batches[:1])
        seconds = [run(batches) for _ in range(repeats)]
    return {
        **spread(seconds),
        "repeats": repeats,
        "texts": len(rows),
        "batch_size": batch_size,
        "device": target.type,
        "threads": torch.get_num_threads(),
    }


def time_side_by_side(
    classifiers: Mapping[str, Classifier | Loaded],
    texts: Sequence[Text],
    *,
    rounds: int = TIMING_ROUNDS,
    progress: bool = False,
    **options: Any,
) -> dict[str, dict[str, Any]]:
    """``time_per_1000`` of several models in turn, so that a busy moment hits all of them.

    Returns:
        per model the median, least and most of ``rounds``, and what else they depend on.
    """
    runs = {
        name: partial(time_per_1000, one.model, one.tokenizer, texts, repeats=1, **options)
        for name, one in classifiers.items()
    }
    return {
        name: {**each[0], **spread([one["median"] for one in each]), "repeats": rounds}
        for name, each in in_turns(runs, rounds, progress).items()
    }
