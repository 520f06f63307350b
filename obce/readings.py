"""Readings: what the residual maps of a BERT read over a corpus, and what the loss feels of them.

A unit by itself cannot know its worth: others may say the same, and nobody may listen. A *reading*
is the view of the map that listens: the outputs of all units of one group, token by token (of
value units, what attention has made of them), beside the weights with which the map reads them.

The *metric* says how far apart two things are that a map writes: ``plain`` forgets the weights,
``norm`` takes them as they are, ``loss`` weighs the coordinates of the residual stream by what the
model's predictions feel of them (of an encoder without a head, its texts' embeddings). No labels
are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from transformers import (
    BertForMultipleChoice,
    BertModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from obce import homology
from obce.activations import hooked
from obce.base import distributed
from obce.base.checks import check_choice
from obce.base.devices import evaluating, on_device
from obce.base.settings import BATCH_SIZE, COVARIANCES, METRICS, READ_CLOUDS, READ_POINTS
from obce.texts import Encoding, Text, batches, encode, length_limit, model_inputs
from obce.units import READS, WEIGHTS, Group, Shape, dense_bert, find_bert, is_compressed

# Of the loss's metric: directions that no prediction feels keep so much of the mean weight.
FLOOR = 0.1
PAIR = ("query", "key")


@dataclass
class Readings:
    """What :func:`read` gives.

    A group is (layer, ``value``) or (layer, ``intermediate``): the units that a residual map reads.

    Attributes:
        shape: the model's ``Shape``.
        points: ``{group: float32 (points, units)}``: the outputs that the map reads, at a sample
            of tokens (or once per text).
        weights: ``{group: float32 (hidden, units)}``: the weights that read them.
        mean, square: ``{group: float64 (units,)}``: mean output and mean squared output, of all
            tokens (or texts) of the corpus, not of the sample alone.
        moments: ``{group: float64 (units, units)}``: the mean of x x^T over all of them, if asked
            for.
        felt: ``{group: float64 (hidden, hidden)}``: the metric of the loss, if asked for: the sum
            over a text's tokens of g g^T, in the mean over texts, g the slope of the log-likelihood
            of the model's own predictions by what the map writes. It has the same unit for all
            groups, so that scores in it can be weighed against each other over the network.
        fisher: ``{group: float64 (units,)}``: the mean over texts of the squared slope of that
            log-likelihood by a factor of a unit's outputs, if the loss was asked for. Here query
            and key units are groups as well; a pair's two units have the same, since a factor of
            either is a factor of the pair's part of the attention logits.
        pairs: ``{layer: float64 (hidden,)}``: of query-key pairs the same, but with the square
            taken token by token, as ``felt`` takes it, if the loss was asked for.
        info: how they were made.
    """

    shape: Shape
    points: dict[Group, np.ndarray]
    weights: dict[Group, np.ndarray]
    mean: dict[Group, np.ndarray] = field(default_factory=dict)
    square: dict[Group, np.ndarray] = field(default_factory=dict)
    moments: dict[Group, np.ndarray] = field(default_factory=dict)
    felt: dict[Group, np.ndarray] = field(default_factory=dict)
    fisher: dict[Group, np.ndarray] = field(default_factory=dict)
    pairs: dict[int, np.ndarray] = field(default_factory=dict)
    info: dict = field(default_factory=dict)
    _trees: dict[tuple[Group, str], np.ndarray] = field(
        default_factory=dict, init=False, repr=False
    )

    def with_points(self, points: dict[Group, np.ndarray]) -> Readings:
        """The same maps, as if they had read these points and no others."""
        square = {group: np.square(x, dtype=np.float64).mean(axis=0) for group, x in points.items()}
        mean = {group: x.mean(axis=0, dtype=np.float64) for group, x in points.items()}
        return replace(self, points=points, mean=mean, square=square, moments={})

    def squared_norms(self, group: Group, metric: str = "norm") -> np.ndarray:
        """``(units,)`` float64: what one unit of output moves what the map writes, squared."""
        check_choice("metric", metric, METRICS)
        weights = self.weights[group].astype(np.float64)
        if metric == "plain":
            return np.ones(weights.shape[1])
        if metric == "norm":
            return np.einsum("hu,hu->u", weights, weights)
        return np.einsum("hu,hu->u", weights, self._felt(group) @ weights)

    def root(self, group: Group, metric: str = "norm") -> np.ndarray:
        """``(k, units)`` float64: A, so that the squared length of A x is what the map writes of
        the outputs x, measured in the metric: the weights that read them, under ``norm``."""
        check_choice("metric", metric, METRICS)
        weights = self.weights[group].astype(np.float64)
        if metric == "plain":
            return np.eye(weights.shape[1])
        return weights if metric == "norm" else np.linalg.cholesky(self._felt(group)).T @ weights

    def _felt(self, group: Group) -> np.ndarray:
        if group not in self.felt:
            raise ValueError("metric 'loss' needs read(..., loss=True)")
        return self.felt[group]

    def cloud(self, group: Group, metric: str = "norm") -> np.ndarray:
        """``(points, units)`` float32: the layer's cloud, ``|w_u| x_u(t)``."""
        scale = np.sqrt(self.squared_norms(group, metric))
        return self.points[group] * scale.astype(np.float32)

    def tree(self, group: Group, metric: str = "norm") -> np.ndarray:
        """``(points - 1, 2)``: the minimum spanning tree of the layer's cloud, found once."""
        if (group, metric) not in self._trees:
            self._trees[group, metric] = homology.spanning_tree(self.cloud(group, metric))
        return self._trees[group, metric]

    def covariance(self, group: Group, of: str = "points", metric: str = "norm") -> np.ndarray:
        """``(units, units)`` float64: how the outputs of a group vary together.

        Over all pairs of points (``points``), from the ``moments`` of all tokens where there are
        any. Or over the edges of the layer's minimum spanning tree (``tree``): the mean of d d^T,
        d = x(a) - x(b) for an edge between a and b.
        """
        check_choice("covariance", of, COVARIANCES)
        if of == "points" and group in self.moments:
            return self.moments[group] - np.outer(self.mean[group], self.mean[group])
        points = self.points[group].astype(np.float64)
        if of == "points":
            differences = points - points.mean(axis=0)
        else:
            a, b = self.tree(group, metric).T
            differences = points[a] - points[b]
        return differences.T @ differences / len(differences)


def read(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    *,
    points: int = READ_POINTS,
    cloud: str = "tokens",
    special_tokens: bool = True,
    moments: bool = False,
    loss: bool = False,
    max_length: int | None = None,
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
    device: str = "auto",
    progress: bool = False,
) -> Readings:
    """Run a BERT over texts and keep what its residual maps read.

    Args:
        model: a transformers BERT, or a model that holds one; a compressed one without ``loss``.
        texts: strings, or pairs of strings.
        points: how many are kept, drawn from all with ``seed``; all, if there are no more.
        cloud: what a point is: one of the ``tokens``, or the ``mean`` over a text's tokens, or its
            [CLS] token (``cls``).
        special_tokens: whether [CLS] and [SEP] count.
        moments: also add up the second moments of all tokens: about as much work again.
        loss: also measure the metric of the loss, by one backward pass per batch. Without a head,
            predictions are the embeddings of texts (the mean over tokens, normalised), each as far
            as it points in a direction drawn at random.
        max_length: tokens to which texts are cut; 64, if left out.
        device: see :mod:`obce.base.devices`.

    Memory: 4 bytes for each point and unit; ``moments`` take 8 for each pair of a group's units.

    Raises:
        ValueError: no BERT, no texts, or outputs that are not finite.

    >>> import obce
    >>> model, tokenizer = obce.load_bert()
    >>> readings = read(model, tokenizer, ["A good film.", "It rained.", "Why not?"])
    >>> readings.points[0, "value"].shape, readings.weights[0, "intermediate"].shape
    ((16, 384), (384, 1536))
    """
    bert = find_bert(model) if is_compressed(model) and not loss else dense_bert(model)
    check_choice("cloud", cloud, READ_CLOUDS)
    if points < 2:
        raise ValueError(f"points={points}: a cloud needs at least two")
    limit = length_limit(bert, max_length)
    encodings = encode(tokenizer, texts, limit, model=bert)
    batched = batches(encodings, batch_size)
    sums = _Sums(bert, moments, loss, seed)
    kept = _sample(
        [_pooling(encodings, batch, cloud, special_tokens) for batch in batched], points, seed
    )
    layers = range(sums.shape.layers)
    outer = [(layer, place) for layer in layers for place in READS]
    pairs = [(layer, "query") for layer in layers] if loss else []
    seen: dict[Group, tuple[torch.Tensor, torch.Tensor]] = {}
    queries: dict[Group, torch.Tensor] = {}

    def receive(group: Group, read: torch.Tensor, written: torch.Tensor) -> None:
        seen[group[0], READS[group[1]]] = read, _felt(written, loss)

    def receive_query(group: Group, query: torch.Tensor) -> None:
        queries[group] = _felt(query, loss)

    bar = distributed.bar(progress, batched, desc="readings", unit="batch")
    with (
        on_device(model, device), evaluating(model), torch.set_grad_enabled(loss),
        hooked(bert, outer, receive, inputs=True), hooked(bert, pairs, receive_query),
    ):  # fmt: skip
        for batch, (pooling, rows) in zip(bar, kept, strict=True):
            inputs = model_inputs(encodings, batch, bert.device)
            objective = _objective(model, inputs, sums.generator) if loss else None
            if objective is None:
                bert(**inputs)
            sums.add(seen, pooling.to(bert.device), rows)
            if objective is not None:
                sums.add_slopes(seen, queries, objective, len(batch))
            seen.clear()
            queries.clear()
    about = {"texts": len(encodings), "max_length": limit, "seed": seed, "cloud": cloud}
    return sums.readings(about | {"special_tokens": special_tokens})


def _felt(output: torch.Tensor, loss: bool) -> torch.Tensor:
    """An output by which slopes can be taken, if the loss is asked for (a frozen encoder's too)."""
    return output.requires_grad_() if loss and not output.requires_grad else output


def _pooling(
    encodings: list[Encoding], batch: list[int], cloud: str, special_tokens: bool
) -> torch.Tensor:
    """What makes a point of a batch's tokens, as they follow one another: the numbers of the tokens
    that are points, ``(points,)``, or the weights of each point's tokens, ``(points, tokens)``."""
    masks = [np.array(encodings[text]["special_tokens_mask"], dtype=bool) for text in batch]
    counts = [np.ones_like(mask) if special_tokens else ~mask for mask in masks]
    if cloud == "tokens":
        return torch.from_numpy(np.flatnonzero(np.concatenate(counts)))
    if cloud == "cls":
        counts = [np.arange(len(mask)) == 0 for mask in masks]
    return torch.block_diag(*(torch.from_numpy(each / max(each.sum(), 1)) for each in counts))


def _pooled(values: torch.Tensor, pooling: torch.Tensor) -> torch.Tensor:
    """``(texts, tokens, units)`` -> ``(points, units)`` float32."""
    flat = values.detach().float().flatten(0, 1)
    return flat[pooling] if pooling.ndim == 1 else pooling.float() @ flat


def _sample(
    poolings: list[torch.Tensor], points: int, seed: int
) -> list[tuple[torch.Tensor, np.ndarray]]:
    """Beside each batch's pooling the indexes of its points that are kept."""
    sizes = [len(pooling) for pooling in poolings]
    total = sum(sizes)
    drawn = np.arange(total)
    if total > points:
        drawn = np.sort(np.random.default_rng(seed).choice(total, points, replace=False))
    starts = np.cumsum([0, *sizes])
    rows = [
        drawn[(drawn >= start) & (drawn < stop)] - start
        for start, stop in zip(starts[:-1], starts[1:], strict=True)
    ]
    return list(zip(poolings, rows, strict=True))


class _Sums:
    """What is added up while the model runs, in float64."""

    def __init__(self, bert: BertModel, moments: bool, loss: bool, seed: int):
        self.shape = Shape.of(bert.config)
        layers: Any = bert.encoder.layer
        weights = {
            (layer, kind): layers[layer].get_submodule(WEIGHTS[place]).weight.detach()
            for layer in range(self.shape.layers)
            for place, kind in READS.items()
        }
        self.weights = {group: weight.float() for group, weight in weights.items()}
        self.points: dict[Group, list[np.ndarray]] = {group: [] for group in weights}
        self.count = self.texts = 0
        self.generator = torch.Generator().manual_seed(seed)

        def zeros(*names: str) -> dict[Group, torch.Tensor]:
            widths = {"units": 1, "hidden": 0}
            return {
                group: torch.zeros([weight.shape[widths[name]] for name in names]).double()
                for group, weight in weights.items()
            }

        self.total, self.square = zeros("units"), zeros("units")
        self.moments = zeros("units", "units") if moments else {}
        self.felt = zeros("hidden", "hidden") if loss else {}
        self.fisher = zeros("units") if loss else {}
        self.pairs: dict[int, torch.Tensor] = {}
        for layer in range(self.shape.layers if loss else 0):
            self.pairs[layer] = torch.zeros(self.shape.hidden).double()
            self.fisher |= {(layer, kind): torch.zeros_like(self.pairs[layer]) for kind in PAIR}

    def add(
        self,
        seen: dict[Group, tuple[torch.Tensor, torch.Tensor]],
        pooling: torch.Tensor,
        rows: np.ndarray,
    ) -> None:
        self.count += len(pooling)
        for group, (values, _) in seen.items():
            x = _pooled(values, pooling)
            self.points[group].append(x[rows].cpu().numpy())
            self.total[group] += x.sum(dim=0, dtype=torch.float64).cpu()
            self.square[group] += x.square().sum(dim=0, dtype=torch.float64).cpu()
            if group in self.moments:  # products of a batch in float32 take half the time
                self.moments[group] += (x.T @ x).double().cpu()

    def add_slopes(
        self,
        seen: dict[Group, tuple[torch.Tensor, torch.Tensor]],
        queries: dict[Group, torch.Tensor],
        objective: torch.Tensor,
        texts: int,
    ) -> None:
        """The slopes of a batch's objective by what the maps write, and by queries."""
        self.texts += texts
        written = [written for _, written in seen.values()]
        slopes = torch.autograd.grad(objective, [*written, *queries.values()])
        for (layer, _), query in queries.items():
            by_token = query.detach().float() * slopes[len(written) + layer].float()
            self.pairs[layer] += by_token.double().square().sum(dim=(0, 1)).cpu()
            for kind in PAIR:
                by_factor = by_token.sum(dim=1).double()
                self.fisher[layer, kind] += by_factor.square().sum(dim=0).cpu()
        for (group, (values, _)), slope in zip(seen.items(), slopes, strict=False):
            flat = slope.float().flatten(0, 1)
            self.felt[group] += (flat.T @ flat).double().cpu()
            # The slope by a factor of unit u's outputs in one text: the sum over tokens of
            # x_u(t) <w_u, slope(t)>.
            by_factor = (values.detach().float() * (slope.float() @ self.weights[group])).sum(dim=1)
            self.fisher[group] += by_factor.double().square().sum(dim=0).cpu()

    def readings(self, info: dict[str, Any]) -> Readings:
        points = {group: np.concatenate(parts) for group, parts in self.points.items()}
        info["points"] = len(next(iter(points.values())))
        return Readings(
            self.shape,
            points,
            {group: weight.cpu().numpy() for group, weight in self.weights.items()},
            mean={group: total.numpy() / self.count for group, total in self.total.items()},
            square={group: total.numpy() / self.count for group, total in self.square.items()},
            moments={group: total.numpy() / self.count for group, total in self.moments.items()},
            felt={
                group: _with_floor(total.numpy() / self.texts) for group, total in self.felt.items()
            },
            fisher={group: total.numpy() / self.texts for group, total in self.fisher.items()},
            pairs={layer: total.numpy() / self.texts for layer, total in self.pairs.items()},
            info=info,
        )


def _objective(
    model: PreTrainedModel, inputs: dict[str, torch.Tensor], generator: torch.Generator
) -> torch.Tensor:
    """What a batch's slopes are of: the log-likelihood of the model's own predictions, of all that
    its head predicts; without a head, its embeddings in random directions."""
    if isinstance(model, BertForMultipleChoice):  # (texts, choices, tokens)
        inputs = {name: tensor.unsqueeze(1) for name, tensor in inputs.items()}
    output: Any = model(**inputs, return_dict=True)
    headless = isinstance(model, BertModel)
    found = [each for name, each in output.items() if headless or name.endswith("logits")]
    if not all(each.isfinite().all() for each in found):
        raise ValueError("the model puts out values that are not finite")
    if headless:
        return _of_embeddings(output[0], generator)
    if model.config.problem_type == "multi_label_classification":  # each a choice of two
        found = [torch.stack([each, torch.zeros_like(each)], dim=-1) for each in found]
    return torch.stack([_own_log_likelihood(each, generator) for each in found]).sum()


def _own_log_likelihood(logits: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The log-probability of classes drawn from the model's own predictions, summed over texts; of
    a regression, the predictions."""
    if logits.shape[-1] == 1:
        return logits.sum()
    flat = logits.flatten(0, -2)
    drawn = torch.multinomial(flat.detach().float().softmax(-1).cpu(), 1, generator=generator)
    return flat.log_softmax(-1).gather(1, drawn.to(flat.device)).sum()


def _of_embeddings(hidden: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """How far texts' embeddings point in a direction drawn for each, summed over texts."""
    embeddings = torch.nn.functional.normalize(hidden.float().mean(dim=1), dim=-1)
    directions = torch.randn(embeddings.shape, generator=generator).to(hidden.device)
    return (embeddings * directions).sum()


def _with_floor(matrix: np.ndarray) -> np.ndarray:
    mean = matrix.diagonal().mean()
    return matrix + FLOOR * (mean if mean > 0 else 1) * np.eye(len(matrix))
