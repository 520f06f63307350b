"""Figures of the chapters, readable without colour.

What the chapters build their figures from draws into the ``Axes`` that it is given; what moves
returns HTML. What the package draws for its users is here too, so that a chapter has one name for
all its figures.
"""

from obce.book.figures.atlas import by_share, differences, network
from obce.book.figures.buckets import buckets_on_a_line, memory_by_tokens, shares_by_buckets
from obce.book.figures.budgets import budget_slider, kept_by_layer
from obce.book.figures.choices import along_a_setting, by_level, one_at_a_time, two_by_two
from obce.book.figures.holds import silence_curves
from obce.book.figures.layers import dots_with_ranges, layer_table
from obce.book.figures.milliseconds import predicted_and_measured, roofline
from obce.book.figures.neurons import (
    bert_layer,
    lines_by_layer,
    quantiles_by_layer,
    ragged_heatmap,
    rank_matrix,
    sorted_maxima,
    token_bars,
    token_strips,
    two_classes,
    two_fractions,
    what_goes_with_a_unit,
    where_parameters_are,
)
from obce.book.figures.people import gaps_by_word, ratios_with_intervals, sizes_by_divergence
from obce.book.figures.points import (
    barcode,
    cloud_on_a_line,
    dendrogram_and_barcode,
    diagram,
    discs,
    last_gaps,
    matched_deaths,
    matching,
    spanning_tree,
)
from obce.book.figures.processes import seconds_by_processes, shared_matrix
from obce.book.figures.recovery import epochs_of_students, recovered, students
from obce.book.figures.repair import errors_by_ridge, one_unit_by_another, outputs_and_middles
from obce.book.figures.results import (
    before_and_after,
    drawn_by_task,
    learned,
    method_in_one_picture,
    sizes_and_scores,
)
from obce.book.figures.rules import fidelity_by_leaves, two_cuts
from obce.book.figures.shares import (
    edges_and_legs,
    held_by_units,
    split_edges,
    total_by_power,
)
from obce.book.figures.sliders import growing_discs, noise_slider, sliding_scale
from obce.book.figures.surgery import cut_matrices, logit_table
from obce.book.figures.topology import beside_random, chance
from obce.plots import DARK, save, scores_by_layer, stages, use_book_style

__all__ = [
    "DARK",
    "along_a_setting",
    "barcode",
    "before_and_after",
    "bert_layer",
    "beside_random",
    "buckets_on_a_line",
    "budget_slider",
    "by_level",
    "by_share",
    "chance",
    "cloud_on_a_line",
    "cut_matrices",
    "dendrogram_and_barcode",
    "diagram",
    "differences",
    "discs",
    "dots_with_ranges",
    "drawn_by_task",
    "epochs_of_students",
    "edges_and_legs",
    "errors_by_ridge",
    "fidelity_by_leaves",
    "gaps_by_word",
    "growing_discs",
    "held_by_units",
    "kept_by_layer",
    "last_gaps",
    "layer_table",
    "lines_by_layer",
    "logit_table",
    "matched_deaths",
    "matching",
    "memory_by_tokens",
    "learned",
    "method_in_one_picture",
    "network",
    "noise_slider",
    "one_at_a_time",
    "one_unit_by_another",
    "outputs_and_middles",
    "predicted_and_measured",
    "quantiles_by_layer",
    "ragged_heatmap",
    "rank_matrix",
    "recovered",
    "ratios_with_intervals",
    "roofline",
    "save",
    "scores_by_layer",
    "seconds_by_processes",
    "shared_matrix",
    "shares_by_buckets",
    "sizes_and_scores",
    "sizes_by_divergence",
    "silence_curves",
    "sliding_scale",
    "sorted_maxima",
    "spanning_tree",
    "split_edges",
    "stages",
    "students",
    "token_bars",
    "token_strips",
    "total_by_power",
    "two_by_two",
    "two_classes",
    "two_cuts",
    "two_fractions",
    "use_book_style",
    "what_goes_with_a_unit",
    "where_parameters_are",
]
