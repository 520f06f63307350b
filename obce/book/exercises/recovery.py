"""Checkers of the chapter on recovery."""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax, softmax

from obce.book.exercises.check import Answer, compare_function

HAND = np.array([[2.0, 0.0], [0.0, 1.0]])  # logits of two texts and two classes


def student_loss(answer: Answer) -> None:
    """``answer(student, teacher, labels, weight, temperature)``: the mean loss of a student, by
    the teacher's predictions and by the labels."""
    rng = np.random.default_rng(8)
    many, wanted_many = rng.normal(0, 2, size=(2, 6, 3))
    labels = rng.integers(3, size=6)

    def wanted(
        student: np.ndarray, teacher: np.ndarray, labels: np.ndarray, weight: float,
        temperature: float,
    ) -> float:  # fmt: skip
        p = softmax(teacher / temperature, axis=1)
        ratio = np.log(p / softmax(student / temperature, axis=1))
        taught = temperature**2 * np.sum(p * ratio, axis=1).mean()
        by_label = -np.mean([log_softmax(row)[k] for row, k in zip(student, labels, strict=True)])
        return weight * taught + (1 - weight) * by_label

    compare_function(
        answer,
        wanted,
        [
            (HAND, HAND, np.array([0, 1]), 1.0, 2.0),
            (HAND, HAND, np.array([0, 0]), 0.0, 2.0),
            (HAND, HAND[::-1], np.array([0, 1]), 1.0, 1.0),
            (many, wanted_many, labels, 1.0, 4.0),
            (many, wanted_many, labels, 0.3, 2.0),
        ],
        hint="One number, the mean over texts. Only the teacher's part has a temperature.",
    )


def came_back(answer: Answer) -> None:
    """``answer(dense, before, after)``: the share of lost points that came back (%), nan where
    none were lost."""

    def wanted(dense: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        return 100 * (after - before) / np.where(dense > before, dense - before, np.nan)

    cases = [
        (np.array([87.5]), np.array([81.5]), np.array([86.0])),
        (np.array([80.0, 60.0]), np.array([70.0, 50.0]), np.array([82.0, 48.0])),
        (np.array([80.0, 60.0]), np.array([80.0, 61.0]), np.array([82.0, 60.5])),
    ]
    compare_function(
        answer, wanted, cases,
        hint="In percent of what was lost. More than 100 and less than 0 are possible.",
    )  # fmt: skip


def teacher_gradient(answer: Answer) -> None:
    """``answer(student, teacher, temperature)``: the gradient of the teacher's part of the loss of
    one text by the student's logits."""
    rng = np.random.default_rng(9)

    def wanted(student: np.ndarray, teacher: np.ndarray, temperature: float) -> np.ndarray:
        return temperature * (softmax(student / temperature) - softmax(teacher / temperature))

    compare_function(
        answer,
        wanted,
        [
            (np.array([0.0, 0.0]), np.array([2.0, 0.0]), 1.0),
            (np.array([1.0, 3.0]), np.array([1.0, 3.0]), 2.0),
            (rng.normal(size=4), rng.normal(size=4), 3.0),
            (rng.normal(size=3), rng.normal(size=3), 0.5),
        ],
        hint="One number for each class: how the loss changes with the student's logit.",
    )
