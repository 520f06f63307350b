"""Sentence encoders: folders that sentence-transformers reads, and the vectors that they give."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch

from obce.base import distributed
from obce.base.checks import check_positive
from obce.base.devices import inference
from obce.base.settings import BATCH_SIZE, LENGTH
from obce.running.heads import Loaded, SentenceEncoder
from obce.texts import Text, check_texts, encode, length_limit, padded, sorted_batches
from obce.units import find_bert

POOLINGS = ("cls", "mean", "max", "mean_sqrt_len_tokens")
# Files that say how vectors are made: in the BERT's own folder, and in the encoder's.
SETTINGS = ("sentence_bert_config.json",)
TOP = ("modules.json", "config_sentence_transformers.json")


def read_encoder(read: Callable[[str], str | None]) -> SentenceEncoder | None:
    """The settings of a sentence-transformers folder; None if it is no sentence encoder.

    Args:
        read: the text of a file of the folder, None if there is no such file.

    Raises:
        ValueError: settings that are broken, or modules other than Transformer, Pooling, Normalize.
    """
    if read("modules.json") is None:
        return None
    files: dict[str, str] = {}

    def settings(path: str) -> dict:
        text = read(path)
        if text is None:
            return {}
        files[path] = text
        found = json.loads(text)
        return found if isinstance(found, dict) else {"modules": found}

    try:
        modules = [
            (module["type"].rpartition(".")[2], _inside(module["path"]))
            for module in settings("modules.json")["modules"]
        ]
        kinds = [kind for kind, _ in modules]
        if "Pooling" not in kinds:
            return None
        if kinds[:2] != ["Transformer", "Pooling"] or kinds[2:] not in ([], ["Normalize"]):
            raise ValueError(
                f"the sentence encoder's modules are {', '.join(kinds)}; only Transformer, "
                "Pooling and Normalize, in this order, can be compressed"
            )
        for name in TOP:
            settings(name)
        path = modules[0][1]
        tokens = settings(f"{path}/{SETTINGS[0]}".lstrip("/"))
        pooling = settings(f"{modules[1][1]}/config.json")
        for _, folder in modules[2:]:
            settings(f"{folder}/config.json")
    except (KeyError, TypeError, AttributeError, RecursionError, json.JSONDecodeError) as error:
        raise ValueError(
            f"its sentence-transformers settings are broken: {type(error).__name__} {error}"
        ) from error
    length = tokens.get("max_seq_length")
    return SentenceEncoder(
        _poolings(pooling),
        "Normalize" in kinds,
        length if isinstance(length, int) else None,
        bool(tokens.get("do_lower_case")),
        path,
        files,
    )


def _inside(path: str) -> str:
    """A module's folder; ValueError if it does not lie in the model's own."""
    if path.startswith("/") or {"..", "\\"} & {*path.split("/"), *path}:
        raise ValueError(f"modules.json names a folder outside of the model's own: {path}")
    return path.strip("/")


def _poolings(settings: dict) -> tuple[str, ...]:
    """The names of the poolings, which older folders state as one switch each."""
    stated = settings.get("pooling_mode")
    if stated is None:
        stated = [
            name.removeprefix("pooling_mode_").removesuffix("_tokens" if "sqrt" not in name else "")
            for name, on in settings.items()
            if name.startswith("pooling_mode_") and on is True
        ]
        stated = [name.removesuffix("_token") for name in stated]
    found = [stated] if isinstance(stated, str) else list(stated)
    if not found or not set(found) <= set(POOLINGS):
        raise ValueError(
            f"the sentence encoder pools by {', '.join(map(str, found)) or 'nothing'}; there are "
            f"{', '.join(POOLINGS)}"
        )
    return tuple(found)


def pool(hidden: torch.Tensor, real: torch.Tensor, encoder: SentenceEncoder) -> torch.Tensor:
    """One vector per text.

    Args:
        hidden: last hidden states, (texts, tokens, hidden size).
        real: (texts, tokens), True for tokens that are no padding.

    Returns:
        (texts, hidden size), or as many times that as there are poolings.
    """
    weights = real.unsqueeze(-1).to(hidden.dtype)
    total, count = (hidden * weights).sum(1), weights.sum(1).clamp(min=1e-9)
    ways = {
        "cls": lambda: hidden[:, 0],
        "mean": lambda: total / count,
        "mean_sqrt_len_tokens": lambda: total / count.sqrt(),
        "max": lambda: hidden.masked_fill(weights == 0, -torch.inf).amax(1),
    }
    vectors = torch.cat([ways[name]() for name in encoder.pooling], dim=1)
    return torch.nn.functional.normalize(vectors, dim=1) if encoder.normalize else vectors


def as_encoder_takes(texts: Sequence[Text], encoder: SentenceEncoder) -> Sequence[Text]:
    """The texts in lower case, if the folder asks for it."""
    if not encoder.lower:
        return texts
    lower = [t.lower() if isinstance(t, str) else tuple(p.lower() for p in t) for t in texts]
    return cast(Sequence[Text], lower)  # a pair stays one


def embed(
    loaded: Loaded,
    texts: Sequence[Text],
    *,
    max_length: int | None = None,
    batch_size: int = BATCH_SIZE,
    device: str = "auto",
    progress: bool = False,
) -> np.ndarray:
    """The vectors of texts, as ``SentenceTransformer.encode`` gives them (without a prompt).

    Args:
        loaded: a sentence encoder, from :func:`obce.load_model <obce.running.loading.load_model>`.
        max_length: tokens to which the texts are cut; as the folder says, if left out.

    Returns:
        float32, (texts, hidden size), in the order of ``texts``.

    Raises:
        ValueError: no sentence encoder, no texts, an argument out of range.
    """
    check_positive(batch_size=batch_size)
    check_texts(texts)
    model, tokenizer, _, encoder = loaded
    if encoder is None:
        raise ValueError("this model is no sentence encoder: its folder states no pooling")
    bert = find_bert(model)
    length = length_limit(bert, max_length, encoder.max_length or LENGTH)
    rows = encode(tokenizer, as_encoder_takes(texts, encoder), length, model=bert)
    vectors = np.empty((len(rows), len(encoder.pooling) * bert.config.hidden_size), np.float32)
    bar = distributed.bar(progress, total=len(rows), desc="embed", unit="text", leave=False)
    with bar, inference(model, device) as target:
        for places, batch in padded(tokenizer, rows, sorted_batches(rows, batch_size), target):
            hidden = bert(**batch).last_hidden_state
            found = pool(hidden, batch["attention_mask"].bool(), encoder)
            vectors[places] = found.float().cpu().numpy()
            bar.update(len(places))
    return vectors


def similarity(loaded: Loaded, pairs: Sequence[tuple[str, str]], **options: Any) -> np.ndarray:
    """The cosine of the two texts' vectors for each pair, float32 of shape (pairs,).

    Args:
        options: as for :func:`embed`.

    Raises:
        ValueError: as for :func:`embed`, or something that is no pair.
    """
    pairs = list(pairs)
    if not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs):
        raise ValueError("similarity wants pairs of texts")
    vectors = embed(loaded, [text for pair in pairs for text in pair], **options)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    return (vectors[0::2] * vectors[1::2]).sum(1)
