"""A model's labels under the names, and in the order, of a task."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from obce.jobs.arguments import Data
from obce.running.loading import Classifier, label_names, load_classifier, set_labels
from obce.tasks import Task
from obce.tasks.glue import labels_of


def model_labels(name: str, data: Data) -> tuple[str, ...] | None:
    """What a model's classes are called once the label map has renamed them, in its order."""
    if data.task is not None or data.new_head:
        return None  # the task has an order of its own
    if not data.label_map:
        return label_names(name)
    return tuple(_renamed(load_classifier(name, None), data.label_map))


def load_labelled(name: str, task: Task, data: Data) -> Classifier:
    """The model as a classifier for the task, its labels renamed and brought into order."""
    if not data.label_map:
        return load_classifier(name, task, data.seed, data.new_head)
    classifier = load_classifier(name, None, data.seed)
    names = _renamed(classifier, data.label_map)
    if sorted(names) != sorted(task.labels):
        raise ValueError(
            f"with the label map the model's labels are {', '.join(names)}; those of {task.name} "
            f"are {', '.join(task.labels) or 'scores'}"
        )
    order = [names.index(label) for label in task.labels]
    with torch.no_grad():
        for values in classifier.model.get_submodule("classifier").parameters():
            values.copy_(values[order].clone())
    set_labels(classifier.model.config, task)
    return classifier


def _renamed(classifier: Classifier, label_map: Mapping[str, str]) -> list[str]:
    names = labels_of(classifier.model.config)
    if unknown := sorted(set(label_map) - set(names)):
        raise ValueError(
            f"label-map: the model has no label {unknown[0]!r}; it has {', '.join(names)}"
        )
    return [label_map.get(name, name) for name in names]
