"""Tasks: GLUE, the built-in miniatures, a user's own data, and the metrics."""

from obce.tasks.glue import TASKS, check_labels, get_task, load
from obce.tasks.metrics import METRICS, compute_metrics, metric_name, metric_text
from obce.tasks.own import own_task, read_table, read_texts
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
    "metric_name",
    "metric_text",
    "own_task",
    "read_table",
    "read_texts",
    "texts",
]
