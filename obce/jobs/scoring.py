"""Scores of all units over the texts that a judge hands out."""

from __future__ import annotations

from typing import Any

from obce import tasks
from obce.activations import collect
from obce.base.devices import on_device
from obce.base.settings import of_layer
from obce.jobs.arguments import Analysis
from obce.jobs.judges import Judge, LoadedModel
from obce.running.streaming import check_buckets, stream
from obce.scores import Scores, score
from obce.units import dense_bert


def score_units(
    loaded: LoadedModel, judge: Judge, analysis: Analysis, device: str, progress: bool
) -> Scores:
    """Score all units; ``info["corpus"]`` says over which texts."""
    model, tokenizer = loaded.model, loaded.tokenizer
    dense_bert(model)
    rows = judge.sample(analysis.texts)
    if len(rows) < 2:
        raise ValueError("one text says little of a unit: at least two texts are needed")
    texts, corpus = tasks.texts(rows), judge.corpus(rows)
    reading: dict[str, Any] = {"max_length": analysis.max_length, "progress": progress}
    with on_device(model, device):
        if analysis.score in ("random", "magnitude"):
            scores = score(None, analysis.score, model=model, seed=judge.data.seed)
        elif analysis.score == "taylor":
            if judge.task is None:
                raise ValueError("score 'taylor' needs labels, and these are texts alone")
            scores = score(
                None, "taylor", model=model, labels=rows["label"][:], texts=texts,
                tokenizer=tokenizer, max_length=analysis.max_length,
            )  # fmt: skip
        elif of_layer(analysis.score, analysis.metric):
            scores = score(
                None, analysis.score, model=model, texts=texts, tokenizer=tokenizer,
                max_length=analysis.max_length, metric=analysis.metric,
                covariance=analysis.covariance, degree=analysis.degree, points=analysis.points,
                seed=judge.data.seed, device=device, progress=progress,
            )  # fmt: skip
        elif analysis.buckets is not None:
            check_buckets(analysis.buckets)
            reading |= {"special_tokens": analysis.special_tokens, "buckets": analysis.buckets}
            scores = stream(model, tokenizer, texts, **reading)
            corpus["tokens"] = scores.info["tokens"]
        else:
            reading |= {"special_tokens": analysis.special_tokens, "clouds": (analysis.cloud,)}
            with collect(model, tokenizer, texts, **reading) as activations:
                scores = score(
                    activations, analysis.score, cloud=analysis.cloud, device=device,
                    progress=progress,
                )  # fmt: skip
                corpus["tokens"] = int(activations.counted.sum())
    scores.info["corpus"] = corpus
    return scores
