"""What may stand in a BERT's ``config.json``: types and ranges, before anything is built of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from transformers.activations import ACT2FN

from obce.base.files import read_json

SIZES = {
    "vocab_size": 10**7,
    "hidden_size": 10**6,
    "num_hidden_layers": 10**3,
    "num_attention_heads": 10**4,
    "intermediate_size": 10**7,
    "max_position_embeddings": 10**7,
    "type_vocab_size": 10**4,
}
"""Whole numbers from 1 up to these, far above any BERT's: what is larger takes hours to refuse."""

RATES = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
SWITCHES = (
    "add_cross_attention", "gradient_checkpointing", "is_decoder", "is_encoder_decoder",
    "output_attentions", "output_hidden_states", "return_dict", "tie_word_embeddings", "use_cache",
)  # fmt: skip
NAMES = ("position_embedding_type", "transformers_version", "problem_type")


def read_config(path: str | os.PathLike) -> dict[str, Any]:
    """A ``config.json`` as it stands there, checked.

    Raises:
        ValueError: it is no JSON object, or a field has another type or range than BERT's.
    """
    try:
        config = read_json(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is no model's configuration: {error}") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path} is no model's configuration: it holds no JSON object")
    kind = config.get("model_type", "bert")
    try:
        _need(isinstance(kind, str), config, "model_type", "a string")
        if kind in ("bert", "obce_bert"):
            _check(config)
    except ValueError as error:
        raise ValueError(f"{Path(path)}: {error}") from None
    return config


def _check(config: dict[str, Any]) -> None:
    for name, most in SIZES.items():
        value = config.get(name, 1)
        _need(_is_int(value) and 1 <= value <= most, config, name, f"a whole number, 1 to {most:,}")
    for name in RATES:
        value = config.get(name)
        _need(value is None or (_is_number(value) and 0 <= value < 1), config, name, "from 0 to 1")
    eps, spread = config.get("layer_norm_eps", 1e-12), config.get("initializer_range", 0.02)
    _need(_is_number(eps) and 0 < eps < 0.1, config, "layer_norm_eps", "above 0, below 0.1")
    _need(_is_number(spread) and 0 <= spread < 10, config, "initializer_range", "from 0 to 10")
    for name in SWITCHES:
        _need(isinstance(config.get(name) or False, bool), config, name, "true or false")
    for name in NAMES:
        _need(isinstance(config.get(name) or "", str), config, name, "a string")
    act = config.get("hidden_act", "gelu")
    _need(isinstance(act, str) and act in ACT2FN, config, "hidden_act", "an activation's name")
    chunk = config.get("chunk_size_feed_forward", 0)
    _need(_is_int(chunk) and chunk >= 0, config, "chunk_size_feed_forward", "a whole number")
    padding, words = config.get("pad_token_id"), config.get("vocab_size", 30522)
    known = padding is None or (_is_int(padding) and 0 <= padding < words)
    _need(known, config, "pad_token_id", f"a token's number, below {words:,}")
    kinds = config.get("architectures") or []
    names = isinstance(kinds, list) and all(isinstance(kind, str) for kind in kinds)
    _need(names, config, "architectures", "a list of names")
    _check_labels(config)


def _check_labels(config: dict[str, Any]) -> None:
    names, numbers = config.get("id2label"), config.get("label2id")
    if names is not None:
        whole = isinstance(names, dict) and set(names) == {str(i) for i in range(len(names))}
        whole = whole and all(isinstance(name, str | int) for name in names.values())
        _need(whole and bool(names), config, "id2label", "a name for each number from 0")
    if numbers is not None:
        whole = isinstance(numbers, dict) and all(map(_is_int, numbers.values()))
        _need(whole, config, "label2id", "a number for each name")
    count = config.get("num_labels")
    if count is not None:
        whole = _is_int(count) and count == (len(names) if names else max(count, 1))
        _need(whole, config, "num_labels", "the number of labels")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _need(true: bool, config: dict[str, Any], name: str, wanted: str) -> None:
    if not true:
        raise ValueError(f"{name} is {config.get(name)!r:.60}; it must be {wanted}")
