"""Tasks: GLUE, the built-in miniatures, and their metrics."""

from obce.tasks.glue import TASKS, check_labels, get_task, load
from obce.tasks.metrics import METRICS, compute_metrics
from obce.tasks.task import Task, data_sha256, texts

__all__ = [
    "METRICS",
    "TASKS",
    "Task",
    "check_labels",
    "compute_metrics",
    "data_sha256",
    "get_task",
    "load",
    "texts",
]
