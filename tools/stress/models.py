"""A tiny BERT with a tokenizer of its own, saved like any other; everything here runs on it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel, BertTokenizerFast

from obce import tasks

TASK, ROWS = "sst2", {"train": 96, "dev": 40}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def tiny_bert(folder: Path, task: str | None = None, seed: int = 0) -> Path:
    """Save a random BERT of two layers, with a head for ``task``, or without one."""
    texts = tasks.texts(tasks.load("mini-sentiment", "train"))
    words = sorted({word for text in texts for word in re.findall(r"\w+|[^\w\s]", text.lower())})
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *words])}
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=40,
        max_position_embeddings=64,
    )
    if task is not None:
        labels = dict(enumerate(tasks.get_task(task).labels))
        config.id2label, config.label2id = labels, {name: i for i, name in labels.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BertModel(config) if task is None else BertForSequenceClassification(config)
    model.save_pretrained(folder)
    BertTokenizerFast(vocab=vocabulary).save_pretrained(folder)
    return folder


def glue_folder(folder: Path) -> Path:
    """SST-2 in GLUE's layout, with a few of the built-in sentences."""
    (folder / "SST-2").mkdir(parents=True)
    for split, count in ROWS.items():
        rows = tasks.load("mini-sentiment", split, limit=count)
        lines = [f"{row['sentence']}\t{row['label']}\n" for row in rows]
        path = folder / "SST-2" / f"{split}.tsv"
        path.write_text("sentence\tlabel\n" + "".join(lines), encoding="utf-8")
    return folder


def job(model: Path, glue: Path, out: Path) -> list[str]:
    """The arguments of a short ``obce compress`` that goes through every stage."""
    return [
        "compress", os.fspath(model), "--task", TASK, "--glue-dir", os.fspath(glue),
        "--out", os.fspath(out), "--quiet", "--level", "medium", "--epochs", "2",
        "--finetune-epochs", "2", "--batch-size", "16", "--texts", "32", "--repair-texts", "32",
        "--device", "cpu",
    ]  # fmt: skip
