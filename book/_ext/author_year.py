"""The bibliography's labels in the style of the citations: Balderas et al., 2023."""

from __future__ import annotations

from collections import Counter
from string import ascii_lowercase
from typing import Any

from pybtex.database import Entry
from pybtex.plugin import register_plugin
from pybtex.richtext import Text
from pybtex.style.formatting.plain import Style as Plain
from pybtex.style.labels import BaseLabelStyle
from sphinx.application import Sphinx


def author_year(entry: Entry) -> str:
    """One author or two by name, more as the first with others, then the year."""
    names = [Text.from_latex(" ".join(p.last_names)) for p in entry.persons["author"]]
    who = " and ".join(map(str, names)) if len(names) < 3 else f"{names[0]} et al."
    return f"{who}, {entry.fields['year']}"


class Labels(BaseLabelStyle):
    def format_labels(self, entries: list[Entry]) -> Any:
        labels = [author_year(entry) for entry in entries]
        many, seen = Counter(labels), Counter()
        for label in labels:
            yield label + (ascii_lowercase[seen[label]] if many[label] > 1 else "")
            seen[label] += 1


class Style(Plain):
    default_label_style = Labels


def setup(app: Sphinx) -> dict[str, bool]:
    register_plugin("pybtex.style.formatting", "author_year", Style)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
