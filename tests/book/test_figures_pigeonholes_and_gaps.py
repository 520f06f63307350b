"""The figures of the chapter on pigeonholes: what is drawn is what a summary keeps."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from obce.book import figures
from obce.running.streaming import GapSummary


def test_filled_dots_are_kept_and_the_thick_line_is_the_gap():
    points = np.array([0.25, 0.5, 0.75, 1.5, 3.25, 3.75])
    summary = GapSummary(1, 4)
    summary.update(points[:, None].astype(np.float32))
    axes = Figure().subplots()
    figures.buckets_on_a_line(axes, points, width=1)
    dots = {line.get_markerfacecolor(): line for line in axes.lines if line.get_marker() == "o"}
    filled = summary.low <= summary.high
    kept = np.unique([summary.low[filled].numpy(), summary.high[filled].numpy()])
    np.testing.assert_array_equal(dots["black"].get_xdata(), kept)
    np.testing.assert_array_equal(dots["white"].get_xdata(), [0.5])
    thick = max(axes.lines, key=lambda line: line.get_linewidth())
    assert np.diff(thick.get_xdata()) == summary.merge_radius() == 1.75
    assert [text.get_text() for text in axes.texts] == ["gap 1.75", "spread 0.5"]


def test_shares_have_a_marker_of_their_own_and_all_buckets_are_named():
    axes = Figure().subplots()
    figures.shares_by_buckets(axes, [8, 1024], {"query": [0.1, 1], "key": [0.2, 0.9]})
    assert len({line.get_marker() for line in axes.lines}) == 2
    axes.figure.draw_without_rendering()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["8", "1,024"]


def test_memory_is_four_bytes_an_output_and_eight_a_bucket():
    axes = Figure().subplots()
    figures.memory_by_tokens(axes, np.array([1e3, 1e6]), 1000, [512])
    rising, flat = axes.lines
    np.testing.assert_allclose(rising.get_ydata(), [4e-3, 4])
    np.testing.assert_allclose(flat.get_ydata(), 8e-9 * 1000 * 512)
