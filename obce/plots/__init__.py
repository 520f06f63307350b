"""Figures that the package draws for its users; those of single chapters are in ``obce.book``."""

from obce.plots.explanations import atlas, cloud_and_barcode, units_tree
from obce.plots.reports import scores_by_layer, stages
from obce.plots.style import DARK, LIGHT, save, use_book_style

__all__ = [
    "DARK",
    "LIGHT",
    "atlas",
    "cloud_and_barcode",
    "save",
    "scores_by_layer",
    "stages",
    "units_tree",
    "use_book_style",
]
