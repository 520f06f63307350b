"""Fail unless every page of _toc.yml is in the built book, with its own title.

A build can be green and empty (Jupyter Book 2 ignores _config.yml and _toc.yml), so `make book`
ends with this.
"""

from __future__ import annotations

import html
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
# the theme has other <h1>: the page's own is the one with a link to itself
HEADING = r'<h1>((?:(?!<h1>).)*?)<a class="headerlink"'


def page_names(toc: object) -> Iterator[str]:
    """The pages that a parsed _toc.yml names, without suffix, at any depth."""
    if isinstance(toc, dict):
        yield from (toc[key] for key in ("root", "file") if key in toc)
        for value in toc.values():
            yield from page_names(value)
    elif isinstance(toc, list):
        for item in toc:
            yield from page_names(item)


def sources(root: Path = ROOT) -> dict[str, Path]:
    """The source file of each page of ``root``'s _toc.yml. ValueError: a page has none."""
    found = {}
    for name in page_names(yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))):
        files = [p for suffix in (".ipynb", ".md") if (p := root / (name + suffix)).is_file()]
        if len(files) != 1:
            raise ValueError(f"_toc.yml names {name}, for which there are {len(files)} files")
        found[name] = files[0]
    return found


def title(source: Path) -> str:
    """The first heading of a page, a notebook or Markdown."""
    text = source.read_text(encoding="utf-8")
    if source.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return re.search(r"^# (.+)$", text, re.M).group(1).strip()


def missing(site: Path, root: Path = ROOT) -> list[str]:
    """One line for each page of the table of contents that ``site`` lacks."""
    lines = []
    for name, source in sources(root).items():
        built = site / f"{name}.html"
        if not built.is_file():
            lines.append(f"{name}: {built} was not built")
            continue
        heading = re.search(HEADING, built.read_text(encoding="utf-8"), re.S)
        shown = html.unescape(re.sub(r"<[^>]+>", "", heading.group(1))) if heading else "nothing"
        if shown.strip() != re.sub(r"[*`]", "", title(source)):
            lines.append(f"{name}: its title is {title(source)!r}, the built page shows {shown!r}")
    return lines


if __name__ == "__main__":
    problems = missing(ROOT / "_build" / "html")
    if problems:
        sys.exit("the built book is not whole:\n" + "\n".join(problems))
    print(f"the built book has all {len(sources())} pages of _toc.yml")
