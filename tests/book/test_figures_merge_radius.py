"""The figures of the chapter on the merge radius: what is drawn is what was measured."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import linkage

from obce.book import figures


def test_the_last_edge_is_the_thick_line_and_names_do_not_collide():
    points = np.array([[0.0, 0.0], [1.0, 0.0], [5.0, 3.0], [5.05, 3.0]])
    edges = np.array([[2, 3], [0, 1], [1, 2]])
    figure = Figure()
    axes = figure.subplots()
    figures.spanning_tree(axes, points, edges, ["west", "middle", "east", "east end"])
    *lines, dots = axes.lines
    widths = [line.get_linewidth() for line in lines]
    assert len(lines) == 3 and np.argmax(widths) == 2 and widths[0] == widths[1]
    np.testing.assert_allclose(lines[2].get_xydata(), points[[1, 2]])
    np.testing.assert_allclose(dots.get_xydata(), points)
    assert [text.get_text() for text in axes.texts][:2] == ["west", "middle"]
    boxes = [text.get_window_extent() for text in axes.texts]
    pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
    assert not any(a.overlaps(b) for a, b in pairs)


def test_a_name_without_room_is_left_out():
    axes = Figure(figsize=(2, 2)).subplots()
    figures.spanning_tree(axes, np.zeros((30, 2)), np.array([[0, 1]]), ["a long name"] * 30)
    assert len(axes.texts) < 30


def test_dendrogram_and_barcode_show_the_same_heights():
    points = np.array([0.0, 1.0, 3.0, 7.0])
    upper, lower = Figure().subplots(2, sharex=True)
    names = ["a", "b", "c", "d"]
    figures.dendrogram_and_barcode(upper, lower, linkage(points[:, None], "single"), names)
    heights = {path.vertices[:, 0].max() for path in upper.collections[-1].get_paths()}
    assert heights == {1.0, 2.0, 4.0}
    assert sorted(label.get_text() for label in upper.get_yticklabels()) == names
    assert [line.get_xdata()[0] for line in upper.lines] == [1.0, 2.0, 4.0]
    assert any("4.00" in text.get_text() for text in lower.texts)


def test_the_thick_line_is_the_largest_gap():
    axes = Figure().subplots()
    figures.last_gaps(axes, {"one": np.array([5.0, 0.0, 1.5]), "two": np.array([0.0, 0.25])})
    gaps = [line.get_xdata() for line in axes.lines if line.get_linestyle() == "-"]
    np.testing.assert_allclose(gaps[0], [1.5, 5.0])
    np.testing.assert_allclose(gaps[1], [0.0, 0.25])
    assert [text.get_text() for text in axes.texts] == ["$r_f$ = 3.50", "$r_f$ = 0.25"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one", "two"]
