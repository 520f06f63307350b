"""What a teacher adds to a loss: a small model is to give what a large one gives.

A label says which class is right; a teacher's prediction says how near the others are. Sources:
G. Hinton, O. Vinyals, J. Dean 2015, "Distilling the knowledge in a neural network", arXiv
1503.02531 (predictions at a temperature); V. Sanh et al. 2019, "DistilBERT", arXiv 1910.01108
(temperature 2, beside the task's own loss); M. Xia, Z. Zhong, D. Chen 2022, "Structured pruning
learns compact and accurate models" (CoFi), arXiv 2204.00408 (the layers of a pruned model follow
those of the dense one).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel

from obce import tasks
from obce.base.settings import HIDDEN_WEIGHT, TEACHER_WEIGHT, TEMPERATURE


@dataclass(frozen=True)
class Teacher:
    """A fine-tuned model and how much its word counts.

    Attributes:
        model: the teacher, in evaluation mode, where the student is.
        weight: the part of the loss that its predictions make; labels make the rest.
        temperature: see :func:`prediction_loss`.
        hidden_weight: what :func:`hidden_loss` is multiplied by and added with; 0 leaves it out.
    """

    model: PreTrainedModel
    weight: float = TEACHER_WEIGHT
    temperature: float = TEMPERATURE
    hidden_weight: float = HIDDEN_WEIGHT

    def check(self, student: PreTrainedModel, task: tasks.Task) -> None:
        """ValueError if it cannot teach this student this task, or a number is out of range."""
        if self.model is student:
            raise ValueError("the teacher is the model that is to be trained: pass another one")
        tasks.check_labels(task, self.model.config)
        if not 0 <= self.weight <= 1:
            raise ValueError(f"teacher_weight={self.weight:g}: it must be from 0 to 1")
        if not self.temperature > 0:
            raise ValueError(f"temperature={self.temperature:g}: it must be above 0")
        if not 0 <= self.hidden_weight < float("inf"):
            raise ValueError(f"hidden_weight={self.hidden_weight:g}: it must be 0 or more")
        ours, theirs = student.config, self.model.config
        names = ("vocab_size", "num_hidden_layers", "hidden_size")
        for name in names if self.hidden_weight else names[:1]:
            if getattr(ours, name) != getattr(theirs, name):
                raise ValueError(
                    f"the teacher's {name} is {getattr(theirs, name)}, the model's is "
                    f"{getattr(ours, name)}: it must be a model of the same kind"
                )

    def loss(self, student: torch.nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
        """The loss of one batch, with ``labels`` among its ``inputs``: a mean over its texts."""
        hidden = {"output_hidden_states": True} if self.hidden_weight else {}
        given = student(**inputs, **hidden)
        unlabelled = {name: value for name, value in inputs.items() if name != "labels"}
        with torch.no_grad():
            wanted = self.model(**unlabelled, **hidden)
        predicted = prediction_loss(given.logits, wanted.logits, self.temperature)
        loss = self.weight * predicted + (1 - self.weight) * given.loss
        if hidden:
            mask = inputs["attention_mask"]
            layers = given.hidden_states[1:], wanted.hidden_states[1:]  # 0: the embeddings
            loss = loss + self.hidden_weight * hidden_loss(*layers, mask)
        return loss


def prediction_loss(
    logits: torch.Tensor, wanted: torch.Tensor, temperature: float = TEMPERATURE
) -> torch.Tensor:
    """How far predictions are from a teacher's: a mean over texts.

    Of classes it is the Kullback-Leibler divergence of the teacher's probabilities to the model's,
    both softened: logits are divided by the temperature, so that unlikely classes are heard.
    Times the temperature squared, the gradient is as large as that of the labels' loss (Hinton et
    al., section 2). Of scores (one column) it is the squared error.

    Args:
        logits, wanted: (texts, classes) of the model and of the teacher.

    >>> wanted = torch.tensor([[0.0, 0.0]])
    >>> round(prediction_loss(torch.tensor([[2.0, -2.0]]), wanted).item(), 4)  # 4 ln cosh(1)
    1.7351
    """
    logits, wanted = logits.float(), wanted.float()
    if logits.shape[-1] == 1:
        return F.mse_loss(logits, wanted)
    given, wanted = (F.log_softmax(each / temperature, dim=-1) for each in (logits, wanted))
    return temperature**2 * F.kl_div(given, wanted, reduction="batchmean", log_target=True)


def hidden_loss(
    given: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor], mask: torch.Tensor
) -> torch.Tensor:
    """Mean squared difference of what the layers give: over layers, texts, real tokens and
    coordinates, so that every text counts alike, however long.

    Layer is compared with layer, which a cut model allows: it has as many as the dense one, and a
    stream as wide. Layers below the first one that was cut give what the dense ones do.

    Args:
        given, wanted: for each layer (texts, tokens, hidden), of the model and of the teacher.
        mask: (texts, tokens), 1 for real tokens.

    >>> one, zero = torch.ones(1, 2, 3), torch.zeros(1, 2, 3)
    >>> hidden_loss([one, zero], [zero, zero], torch.tensor([[1, 0]])).item()
    0.5
    """
    share = mask / mask.sum(1, keepdim=True) / len(mask)  # of each token in the mean over texts
    errors = [(a.float() - b.float()).square().mean(-1) for a, b in zip(given, wanted, strict=True)]
    return (torch.stack(errors) * share).sum() / len(errors)
