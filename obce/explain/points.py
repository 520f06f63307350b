"""What is known of the points of a cloud: which text and token each is, and what is said there."""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from obce.activations import Activations

LEAST = 5  # points that a word has to have, and to leave out, to be asked about


@dataclass
class Points:
    """The points of a cloud, in the order of :meth:`obce.activations.Activations.cloud`.

    Attributes:
        text: ``(n,)``: the number of each point's text.
        position: ``(n,)``: of a token in its text, 0 for [CLS]; None where a point is a text.
        pieces: of each text, its word pieces.
        features: what a group may follow, by name.
        has: ``(features, n)`` bool: which point has which feature.
        length: ``(n,)``: word pieces of each point's text.
    """

    text: np.ndarray
    position: np.ndarray | None
    pieces: list[list[str]]
    features: list[str]
    has: np.ndarray
    length: np.ndarray

    def context(self, point: int, around: int = 8) -> tuple[str, str, str]:
        """A token with what stands before and after it; of a text, its beginning.

        Returns:
            before, the token (nothing, where a point is a text), after.
        """
        pieces = self.pieces[self.text[point]]
        if self.position is None:
            return "", "", _joined(pieces[1 : 4 * around])
        place = int(self.position[point])
        before, after = pieces[max(0, place - around) : place], pieces[place + 1 :][:around]
        return _joined(before), pieces[place], _joined(after)


def _joined(pieces: list[str]) -> str:
    return " ".join(pieces).replace(" ##", "")


def points_of(activations: Activations, tokenizer: PreTrainedTokenizerBase, cloud: str) -> Points:
    """The points of a cloud, and the words and kinds of tokens that they may follow.

    Of a token: its word piece, the whole word if that has several, and whether it is punctuation,
    or goes on with a word. Of a text: the word pieces that occur in it.
    """
    encodings = activations.encodings
    pieces: Any = [tokenizer.convert_ids_to_tokens(each["input_ids"]) for each in encodings]
    length = np.array([len(each) for each in pieces])
    if cloud == "tokens":
        where = [(t, p) for t in activations.order for p in np.flatnonzero(activations.masks[t])]
        text, position = np.array(where).T
        words = [_words(each) for each in pieces]
        named = [_said(pieces[t][p], words[t][p]) for t, p in where]
    else:
        text, position = np.arange(len(pieces)), None
        named = [{f"the word piece {piece}" for piece in each} for each in pieces]
    features, has = _features(named)
    return Points(text, position, pieces, features, has, length[text])


def _words(pieces: list[str]) -> list[str]:
    """The word that each piece is a part of."""
    starts = [place for place, piece in enumerate(pieces) if not piece.startswith("##")] or [0]
    words = []
    for start, stop in zip(starts, [*starts[1:], len(pieces)], strict=True):
        words += [_joined(pieces[start:stop])] * (stop - start)
    return words


def _said(piece: str, word: str) -> set[str]:
    said = {f"the word piece {piece}"}
    if piece.startswith("##"):
        said.add("a piece inside a word")
    elif all(letter in string.punctuation for letter in piece):
        said.add("punctuation")
    return said | ({f"the word {word}"} if word != piece else set())


def _features(named: list[set[str]]) -> tuple[list[str], np.ndarray]:
    """Those that neither hardly any nor nearly all points have, with the points that have them."""
    places: dict[str, list[int]] = {}
    for point, names in enumerate(named):
        for name in names:
            places.setdefault(name, []).append(point)
    features = sorted(
        name for name, points in places.items() if LEAST <= len(points) <= len(named) - LEAST
    )
    has = np.zeros((len(features), len(named)), dtype=bool)
    for row, name in enumerate(features):
        has[row, places[name]] = True
    return features, has
