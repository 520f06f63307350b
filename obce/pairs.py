"""Query-key pairs: what one is worth, and a closed-form repair of the pairs that stay.

A head's attention logit of tokens a and b is the sum over its pairs of q(a) k(b). A constant added
to all logits of one query changes nothing, since softmax divides it out. So keys count as they
differ within a text, and a key's bias is without any effect. With queries and keys drawn
independently of each other, what a set of pairs does is in two matrices of each head: R = E[q qᵀ]
and K, the covariance of keys within texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from obce.activations import hooked
from obce.base.devices import inference
from obce.base.settings import ANALYSIS_LENGTH, BATCH_SIZE
from obce.pruning import Plan
from obce.texts import Text, batches, encode, length_limit, model_inputs
from obce.units import OUTPUTS, Group, Shape, dense_bert, find_bert


class Moments(NamedTuple):
    """Of one layer's heads, in float64: ``queries`` (heads, size, size), E[q qᵀ] over tokens;
    ``keys`` (heads, size, size), the covariance of keys within texts."""

    queries: torch.Tensor
    keys: torch.Tensor


def pair_moments(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    *,
    max_length: int | None = None,
    batch_size: int = BATCH_SIZE,
    device: str = "auto",
) -> list[Moments]:
    """Second moments of queries and keys over a corpus, head by head.

    All tokens count, special ones too: they ask and are asked as well.

    Args:
        model: the dense model.
        max_length: tokens of a text that are read; 64 if left out.

    Returns:
        :class:`Moments` for each layer.

    Raises:
        ValueError: no dense BERT, no texts, or a text too long.

    >>> import obce
    >>> model, tokenizer = obce.load_bert()
    >>> moments = pair_moments(model, tokenizer, ["A good film.", "It rained."])
    >>> len(moments), moments[0].keys.shape
    (6, torch.Size([12, 32, 32]))
    """
    bert = dense_bert(model)
    shape, length = Shape.of(bert.config), length_limit(bert, max_length, ANALYSIS_LENGTH)
    encodings = encode(tokenizer, texts, length, model=bert)
    size = (shape.heads, shape.head_size, shape.head_size)
    groups = [(layer, kind) for layer in range(shape.layers) for kind in ("query", "key")]
    seen: dict[Group, torch.Tensor] = {}
    with inference(bert, device) as target, hooked(bert, groups, seen.__setitem__):
        sums = {group: torch.zeros(size, dtype=torch.float64, device=target) for group in groups}
        for batch in batches(encodings, batch_size):
            bert(**model_inputs(encodings, batch, target))
            for (layer, kind), outputs in seen.items():  # (texts, tokens, hidden)
                heads = outputs.unflatten(-1, size[:2])
                heads = heads if kind == "query" else heads - heads.mean(1, keepdim=True)
                sums[layer, kind] += torch.einsum("btnd,btne->nde", heads, heads)
    tokens = sum(len(encoding["input_ids"]) for encoding in encodings)
    return [
        Moments(*(sums[layer, kind].cpu() / tokens for kind in ("query", "key")))
        for layer in range(shape.layers)
    ]


def pair_strengths(moments: Sequence[Moments]) -> dict[Group, torch.Tensor]:
    """A score of pairs: rms of the query times standard deviation of the key within a text.

    That is the root mean square of what the logits of a query lose with the pair, if queries and
    keys are independent and nothing else goes. Both units of a pair get it, so that a plan's
    score of the pair (``obce.pruning.pair_score``) is it again.

    Returns:
        ``{(layer, "query" or "key"): (hidden,) float64}``.

    >>> moments = Moments(torch.tensor([[[4.0, 0], [0, 1]]]), torch.tensor([[[9.0, 0], [0, 0]]]))
    >>> pair_strengths([moments])[0, "key"]
    tensor([6., 0.])
    """
    found = {}
    for layer, (queries, keys) in enumerate(moments):
        squares = [each.diagonal(dim1=-2, dim2=-1).flatten() for each in (queries, keys)]
        found[layer, "query"] = found[layer, "key"] = (squares[0] * squares[1]).clamp(min=0).sqrt()
    return found


def mixing(queries: torch.Tensor, keys: torch.Tensor, kept: Sequence[int]) -> torch.Tensor:
    """The matrix M for which q_S · (M k_S) is nearest to q · k, of one head whose pairs S stay.

    The mean squared error over independent q and k is least where R[S,S] M K[S,S] equals
    R[S,:] K[:,S]: M = R[S,S]⁻¹ R[S,:] K[:,S] K[S,S]⁻¹. Where a query or a key is constant, or a
    combination of others, the pseudo-inverse gives the smallest of the best.

    Args:
        queries, keys: (size, size), R and K of :class:`Moments`, for one head.
        kept: numbers of the pairs that stay, in the head.

    Returns:
        (kept, kept) float64.

    >>> mixing(torch.eye(3), torch.eye(3), [0, 2])  # nothing of pair 1 is in the others
    tensor([[1., 0.],
            [0., 1.]], dtype=torch.float64)
    """
    stays = torch.as_tensor(kept, dtype=torch.long)
    queries, keys = queries.double(), keys.double()
    wanted = queries[stays] @ keys[:, stays]
    left, right = (
        torch.linalg.pinv(each[stays][:, stays], rtol=1e-9, hermitian=True)
        for each in (queries, keys)
    )
    return left @ wanted @ right


def repair_pairs(small: PreTrainedModel, plan: Plan, moments: Sequence[Moments]) -> None:
    """Put each head's :func:`mixing` into the key map of a model that was cut to a plan, in place.

    Heads that keep all of their pairs, or none, stay as they are.

    Raises:
        ValueError: moments of another shape.
    """
    shape = plan.shape
    size = (shape.heads, shape.head_size, shape.head_size)
    if [each.keys.shape for each in moments] != [size] * shape.layers:
        raise ValueError(f"the moments are not those of a BERT with {shape}")
    for layer, (queries, keys) in enumerate(moments):
        key = find_bert(small).encoder.layer[layer].get_submodule(OUTPUTS["key"])
        start = 0
        for head in range(shape.heads):
            kept = plan.kept[layer, "key"] - head * shape.head_size
            kept = kept[(kept >= 0) & (kept < shape.head_size)]
            rows = slice(start, start + len(kept))
            start = rows.stop
            if not 0 < len(kept) < shape.head_size:
                continue
            mix = mixing(queries[head], keys[head], kept.tolist())
            with torch.no_grad():
                for parameter in key.parameters():  # weight (pairs, hidden) and bias (pairs,)
                    mixed = mix.to(parameter.device) @ parameter[rows].double()
                    parameter[rows] = mixed.to(parameter.dtype)
