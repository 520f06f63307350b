"""A net whose rule is known, since its weights are set by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerBase

FILLERS = "stone river letter window".split()


def two_words(
    tokenizer: PreTrainedTokenizerBase, texts: int = 400, seed: int = 0
) -> tuple[BertForSequenceClassification, list[str]]:
    """A net of one layer that says yes to texts with "good" and without "film", and texts of six
    words, each with either of the two in half of all cases.

    Of all words only these two have an embedding, e_0 and e_1 in R^4. The LayerNorm makes of e_0
    (3, -1, -1, -1) / sqrt(3). Value unit 0 reads coordinate 0 less coordinate 3: 4 / sqrt(3) of
    "good", 0 of all other tokens. Attention is even, so of a text of eight tokens with one "good"
    comes (4 / sqrt(3)) / 8 at each token. Value unit 1 does the same for "film". They are written
    to coordinates 0 and 1, and the head asks whether the first is larger.

    >>> import obce
    >>> model, texts = two_words(obce.load_bert()[1], texts=1)
    >>> len(texts[0].split()), model.config.id2label[1]
    (6, 'yes')
    """
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=4, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=4, max_position_embeddings=16, id2label={0: "no", 1: "yes"},
    )  # fmt: skip
    model = BertForSequenceClassification(config).eval()
    bert: Any = model.bert
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(float("LayerNorm.weight" in name))
        layer = bert.encoder.layer[0]
        for unit, word in enumerate(("good", "film")):
            token = tokenizer.convert_tokens_to_ids(word)
            bert.embeddings.word_embeddings.weight[token, unit] = 1
            layer.attention.self.value.weight[unit, [unit, 3]] = torch.tensor([1.0, -1.0])
            layer.attention.output.dense.weight[unit, unit] = 1
            bert.pooler.dense.weight[unit, unit] = 1
        model.classifier.weight[1, :2] = torch.tensor([4.0, -4.0])
        model.classifier.bias[1] = -1
    random, found = np.random.default_rng(seed), []
    for _ in range(texts):
        said = [word for word in ("good", "film") if random.random() < 0.5]
        said += random.choice(FILLERS, 6 - len(said)).tolist()
        found.append(" ".join(random.permutation(said)))
    return model, found
