"""Figures of the chapter on surgery: every weight of a layer is shown as it fares in the cut."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

import obce
from obce.book import figures
from obce.book.figures.surgery import GOES, STAYS, ZERO, states_of
from obce.units import KINDS, WEIGHTS, Shape


@pytest.fixture
def plan(tiny_bert):
    """Of conftest's tiny BERT, 24 wide with 4 heads and 40 intermediate units, without a few."""
    shape = Shape.of(tiny_bert.config)
    kept = {group: np.arange(shape.width(group[1])) for group in shape.groups()}
    kept |= {(1, kind): np.delete(np.arange(24), [0, 5]) for kind in ("query", "key")}
    kept[1, "value"] = np.delete(np.arange(24), [3, 4, 20])
    kept[1, "attention_output"] = np.delete(np.arange(24), 7)
    kept[1, "intermediate"] = np.arange(10, 40)
    kept[1, "output"] = np.delete(np.arange(24), [1, 2])
    return obce.Plan(shape, kept, obce.count_parameters(tiny_bert))


def test_as_many_weights_stay_as_the_cut_model_has(tiny_bert, plan):
    small = obce.cut(tiny_bert, plan)
    for layer in (0, 1):
        for kind in KINDS:
            linear = small.encoder.layer[layer].get_submodule(WEIGHTS[kind])
            weight, bias = states_of(plan, layer, kind)
            dense = tiny_bert.encoder.layer[layer].get_submodule(WEIGHTS[kind]).weight
            assert weight.shape == dense.shape
            rows, columns = (np.flatnonzero((weight == STAYS).any(axis=axis)) for axis in (1, 0))
            left = dense.detach()[rows][:, columns]
            np.testing.assert_array_equal(left, linear.weight.detach())
            assert (bias != GOES).sum() == len(linear.bias)
            assert not linear.bias.detach()[np.flatnonzero(bias == ZERO)].any()


def test_the_matrices_are_drawn_with_their_shapes(plan):
    axes = Figure().subplots()
    figures.cut_matrices(axes, plan, layer=1)
    said = [text.get_text() for text in axes.texts]
    shapes = ["(24, 24) → (22, 24)"] * 2 + [
        "(24, 24) → (21, 24)", "(24, 24) → (23, 21)", "(40, 24) → (30, 24)",
        "(24, 40) → (22, 30)",
    ]  # fmt: skip
    for kind, shape in zip(KINDS[:4], shapes, strict=False):
        assert said[said.index(kind) + 1] == shape
    assert [text for text in said if "→" in text] == shapes
    assert said.count("0") == 3  # rows of the two residual maps
    meshes = [mesh.get_array() for mesh in axes.collections if isinstance(mesh, QuadMesh)]
    weights, biases = meshes[::2], meshes[1::2]
    assert [int((mesh == GOES).sum()) for mesh in biases] == [2, 2, 3, 0, 10, 0]
    assert int((weights[3] == GOES).sum()) == 3 * 24 + 24 - 3
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["stays", "goes", "0: set to zero, stays"]


def test_a_table_says_what_is_added_to_each_logit():
    axes = Figure().subplots()
    figures.logit_table(axes, np.outer([1, 0, -2], [2, 2, 2]), "a constant key")
    said = {text.get_position(): text.get_text() for text in axes.texts}
    assert [said[column, 0] for column in range(3)] == ["+2"] * 3
    assert [said[0, row] for row in range(3)] == ["+2", "0", "-4"]
    assert axes.get_ylabel() == "asks" and axes.get_xlabel() == "is asked"
    assert axes.get_title() == "a constant key"
