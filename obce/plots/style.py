"""The look of all figures, and how one is saved."""

from __future__ import annotations

import os

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from obce.base.files import replacing

DARK, LIGHT = "#1b4965", "#bcd4e6"


def use_book_style() -> None:
    """Sizes, greys and lines of the book's figures: call it once, after the imports.

    Lines differ by dash and markers by shape before they differ by colour. The background is
    white on dark pages too, where transparent figures would lose their black lines.
    """
    lines = plt.cycler(
        color=["#0b5394", "#b45f06", "#38761d", "#741b47", "#444444", "#7f6000"],
        linestyle=["-", "--", "-.", ":", "-", "--"],
    )
    plt.rcParams.update(
        {
            "axes.prop_cycle": lines,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlesize": 11,
            "figure.constrained_layout.use": True,
            "figure.dpi": 100,
            "figure.facecolor": "white",
            "figure.figsize": (7, 3.4),
            "font.size": 10,
            "image.cmap": "Blues",
            "legend.frameon": False,
        }
    )
    plt.switch_backend(plt.get_backend())  # from now on a Figure as a cell's value is shown


def save(figure: Figure, path: str | os.PathLike) -> None:
    """Write a PNG, all of it or nothing."""
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=150)
