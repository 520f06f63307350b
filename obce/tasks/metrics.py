"""Metrics: what they are called, and how they are computed."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np

from obce.tasks.glue import get_task
from obce.tasks.task import Task

METRICS = {
    "accuracy": "accuracy",
    "accuracy_mismatched": "accuracy, mismatched",
    "f1": "F1",
    "macro_f1": "macro-F1",
    "matthews_correlation": "Matthews correlation",
    "pearson": "Pearson",
    "spearmanr": "Spearman",
    # Of a compressed model beside its dense one, without labels.
    "hidden_error": "error of the last hidden state",
    "agreement": "equal predictions",
    "divergence": "KL divergence (nats)",
    "cosine": "cosine of embeddings",
}
PLAIN = ("divergence", "cosine")  # the others are printed as percentages


def metric_name(name: str) -> str:
    """What tables call a metric; a user's own keeps its name."""
    return METRICS.get(name, name.replace("_", " "))


def metric_text(name: str, value: float, digits: int = 1) -> str:
    """A metric's value as tables print it.

    >>> metric_text("accuracy", 0.875), metric_text("cosine", 0.875)
    ('87.5', '0.875')
    """
    return f"{value:.3f}" if name in PLAIN else f"{100 * value:.{digits}f}"


def compute_metrics(
    task: str | Task, predictions: np.ndarray, labels: np.ndarray
) -> dict[str, float]:
    """The official metrics of a task, as fractions, main metric first.

    ``predictions``: logits of shape (n, num_labels), or (n,) or (n, 1) for a regression;
    ``labels``: shape (n,). As usual for GLUE, an undefined value (F1 without a positive, a
    correlation with a constant) counts as 0. ValueError for NaN and for shapes that do not fit.
    """
    task = get_task(task)
    predictions = np.asarray(predictions, dtype=np.float64)
    labels = np.asarray(labels)
    if task.is_regression and predictions.ndim == 2 and predictions.shape[1] == 1:
        predictions = predictions[:, 0]
    expected = labels.shape if task.is_regression else (*labels.shape, task.num_labels)
    if labels.ndim != 1 or predictions.shape != expected:
        raise ValueError(
            f"{task.name}: predictions of shape {predictions.shape} do not fit labels of shape "
            f"{labels.shape}; expected {expected}"
        )
    if len(labels) < (2 if task.is_regression else 1):
        raise ValueError(f"{task.name}: {len(labels)} rows are too few for {task.main_metric}")
    if not np.isfinite(predictions).all():
        raise ValueError(f"{task.name}: predictions hold NaN or infinite values")

    if not task.is_regression:
        predictions = predictions.argmax(axis=1)
    if task.function is not None:
        return _own_metrics(task, task.function(predictions, labels))
    return _official_metrics(task, predictions, labels)


def _own_metrics(task: Task, found: float | Mapping[str, float]) -> dict[str, float]:
    found = found if isinstance(found, Mapping) else {task.main_metric: found}
    values = {str(name): float(value) for name, value in found.items()}
    if not values or not np.isfinite(list(values.values())).all():
        raise ValueError(f"{task.name}: its metric gives {found}, not one number or several")
    return values


def _official_metrics(task: Task, predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    from scipy import stats
    from sklearn import metrics as sk_metrics

    if task.is_regression:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", stats.ConstantInputWarning)
            warnings.simplefilter("ignore", stats.NearConstantInputWarning)
            results = {
                "pearson": stats.pearsonr(predictions, labels).statistic,
                "spearmanr": stats.spearmanr(predictions, labels).statistic,
            }
        return {metric: float(np.nan_to_num(results[metric])) for metric in task.metrics}
    functions = {
        "accuracy": sk_metrics.accuracy_score,
        "f1": lambda true, found: sk_metrics.f1_score(true, found, zero_division=0),
        "macro_f1": lambda true, found: sk_metrics.f1_score(
            true, found, average="macro", zero_division=0
        ),
        "matthews_correlation": sk_metrics.matthews_corrcoef,
    }
    return {metric: float(functions[metric](labels, predictions)) for metric in task.metrics}
