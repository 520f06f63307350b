"""How far a compressed model is from its dense one, on texts without labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from obce.base import distributed
from obce.base.checks import check_positive
from obce.base.devices import inference
from obce.base.settings import BATCH_SIZE, LENGTH
from obce.running.encoders import as_encoder_takes, pool
from obce.running.heads import Loaded
from obce.texts import Text, check_texts, encode, length_limit, padded, sorted_batches
from obce.units import find_bert

EVERY = 7  # one word in so many is masked, about the 15 % of BERT's own training
WORDS = ("masked words", "pre-training")


def compare(
    dense: Loaded,
    small: Loaded,
    texts: Sequence[Text],
    *,
    max_length: int | None = None,
    batch_size: int = BATCH_SIZE,
    device: str = "auto",
    progress: bool = False,
) -> dict[str, Any]:
    """Compare a compressed model's outputs with the dense one's, text by text.

    What a prediction is depends on the head: one per text for a classifier and for next sentence;
    one per token but [CLS] and [SEP] for a token classifier; start and end of the answer; one per
    label. For masked words, and a pre-training head's words, every seventh word of each text is
    replaced by [MASK], the same ones for both models, and predicted (the hidden states are then
    those of the masked texts). A regression and the score
    of a multiple-choice model (each text as one choice) are numbers: see ``divergence``.

    Args:
        dense, small: from :func:`obce.load_model <obce.running.loading.load_model>`, or
            ``dense._replace(model=small)``; the
            tokenizer and the pooling are the dense one's.
        texts: strings or pairs of strings. Take none that the repair has seen.
        max_length: tokens to which the texts are cut; 128, or what a sentence encoder's folder
            says, if left out.
        batch_size: texts run at once.

    Returns:
        plain JSON values: ``texts``; ``hidden_error``, the relative Frobenius error of the last
        hidden state over all real tokens (0: equal, 1: as far off as zeros). With a head
        ``agreement``, the share of equal predictions (absent for numbers), and ``divergence``, the
        mean over predictions of the Kullback-Leibler divergence from the dense to the compressed
        distribution, in nats (for numbers the mean squared difference, as a share of the dense
        numbers' variance; None if they do not vary). For a sentence encoder ``cosine``: ``median``,
        ``min`` and ``max`` over the texts of the cosine between old and new vector.

    Raises:
        ValueError: two models with other heads, widths or labels, no texts, outputs that are not
            finite, an argument out of range.
    """
    check_positive(batch_size=batch_size)
    check_texts(texts)
    _check_alike(dense, small)
    encoder, tokenizer = dense.encoder, dense.tokenizer
    default = (encoder.max_length if encoder else None) or LENGTH
    length = length_limit(find_bert(dense.model), max_length, default)
    texts = as_encoder_takes(texts, encoder) if encoder else texts
    rows = encode(tokenizer, texts, length, model=find_bert(dense.model))
    sums, cosines = _Sums(), np.empty(len(rows))
    bar = distributed.bar(progress, total=len(rows), desc="compare", unit="text", leave=False)
    with bar, inference(dense.model, device) as target, inference(small.model, device):
        groups = sorted_batches(rows, batch_size)
        for places, batch in padded(tokenizer, rows, groups, target):
            special = _special([rows[place]["special_tokens_mask"] for place in places])
            real = batch["attention_mask"].bool()
            where = real & ~special.to(target)
            if dense.head in WORDS:
                where = _masked(batch, where, tokenizer)
            old, old_logits = _outputs(dense, batch, real, where)
            new, new_logits = _outputs(small, batch, real, where)
            sums.add_hidden(old[real], new[real])
            if old_logits is not None and new_logits is not None:
                sums.add_predictions(dense, old_logits, new_logits)
            if encoder:
                one, other = (pool(hidden, real, encoder).double() for hidden in (old, new))
                cosines[places] = nn.functional.cosine_similarity(one, other).cpu().numpy()
            bar.update(len(places))
    found: dict[str, Any] = {"texts": len(rows), **sums.result(dense)}
    if encoder:
        found["cosine"] = {
            name: float(getattr(np, name)(cosines)) for name in ("median", "min", "max")
        }
    return found


def _check_alike(dense: Loaded, small: Loaded) -> None:
    if dense.head != small.head:
        raise ValueError(
            f"the two models have other heads: {dense.head or 'none'} and {small.head or 'none'}"
        )
    for name in ("hidden_size", "vocab_size", "num_labels"):
        old, new = (getattr(find_bert(loaded.model).config, name) for loaded in (dense, small))
        if old != new:
            raise ValueError(f"the two models differ in {name}: {old} and {new}")


def _special(masks: list[list[int]]) -> torch.Tensor:
    """(texts, tokens), True for [CLS], [SEP]; padding is left False."""
    rows = [torch.tensor(mask, dtype=torch.bool) for mask in masks]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True)


def _masked(batch: Any, words: torch.Tensor, tokenizer: PreTrainedTokenizerBase) -> torch.Tensor:
    """Put [MASK] for every seventh word of each text, in place, from its first one on.

    Returns:
        (texts, tokens), True where. (A tokenizer without [MASK] leaves the words.)
    """
    where = words & ((words.long().cumsum(1) - 1) % EVERY == 0)
    if tokenizer.mask_token_id is not None:
        batch["input_ids"].masked_fill_(where, tokenizer.mask_token_id)
    return where


def _outputs(
    loaded: Loaded, batch: Any, real: torch.Tensor, where: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The last hidden state, and logits with one row per prediction (None without a head).

    A vocabulary's logits are computed where words are masked only: all of them would be large.
    """
    model, head = loaded.model, loaded.head
    bert = find_bert(model)
    if not head:
        return bert(**batch).last_hidden_state, None
    if head in WORDS:
        hidden = bert(**batch).last_hidden_state
        return hidden, model.get_submodule("cls.predictions")(hidden[where])
    if head == "multiple choice":  # (texts, choices, tokens)
        batch = {name: tensor.unsqueeze(1) for name, tensor in batch.items()}
    found = model(**batch, output_hidden_states=True)
    hidden = found.hidden_states[-1]
    if head == "question answering":
        logits = torch.cat([found.start_logits, found.end_logits])
        outside = torch.finfo(logits.dtype).min / 2
        return hidden, logits.masked_fill(~real.repeat(2, 1), outside)
    return hidden, found.logits[where] if head == "token classification" else found.logits


class _Sums:
    """Running sums over batches, in float64."""

    def __init__(self) -> None:
        self.error = self.square = self.equal = self.divergence = 0.0
        self.count = 0
        self.mean = self.spread = 0.0  # of a dense model's numbers, by Welford's recurrence

    def add_hidden(self, old: torch.Tensor, new: torch.Tensor) -> None:
        self.error += (new.double() - old.double()).square().sum().item()
        self.square += old.double().square().sum().item()

    def add_predictions(self, loaded: Loaded, old: torch.Tensor, new: torch.Tensor) -> None:
        old, new = old.double(), new.double()
        if _gives_numbers(loaded):
            self._add_numbers(old.flatten(), new.flatten())
            return
        if loaded.head == "multiple labels":  # each label is a choice of two
            old, new = (torch.stack([x, torch.zeros_like(x)], -1).flatten(0, 1) for x in (old, new))
        self.equal += (old.argmax(-1) == new.argmax(-1)).sum().item()
        old, new = old.log_softmax(-1), new.log_softmax(-1)
        self.divergence += (old.exp() * (old - new)).sum().item()
        self.count += len(old)

    def _add_numbers(self, old: torch.Tensor, new: torch.Tensor) -> None:
        self.divergence += (new - old).square().sum().item()
        for value in old.tolist():
            self.count += 1
            step = value - self.mean
            self.mean += step / self.count
            self.spread += step * (value - self.mean)

    def result(self, loaded: Loaded) -> dict[str, float | None]:
        if not math.isfinite(self.error + self.square + self.divergence):
            raise ValueError("a model puts out values that are not finite")
        error = math.sqrt(self.error / self.square) if self.square else 0.0
        found: dict[str, float | None] = {"hidden_error": error}
        if not loaded.head or not self.count:
            return found
        if _gives_numbers(loaded):
            constant = self.spread <= 1e-12 * self.count * self.mean**2
            return found | {"divergence": None if constant else self.divergence / self.spread}
        agreement = self.equal / self.count
        return found | {"agreement": agreement, "divergence": self.divergence / self.count}


def _gives_numbers(loaded: Loaded) -> bool:
    single = loaded.head == "sequence classification" and loaded.model.config.num_labels == 1
    return single or loaded.head == "multiple choice"
