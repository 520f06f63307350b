"""Fail unless the built book is whole: every page of _toc.yml, and no link into nothing.

A build can be green and empty (Jupyter Book 2 ignores _config.yml and _toc.yml), and Sphinx does
not look at the targets of plain HTML links; so `make book` ends with this.

    python -m tools.check_book [SITE]    # _build/html unless it is named
"""

from __future__ import annotations

import html
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tools.toc import ROOT, sources, title

# the theme has other <h1>: the page's own is the one with a link to itself
HEADING = r'<h1>((?:(?!<h1>).)*?)<a class="headerlink"'
NUMBER = r'<span class="section-number">.*?</span>'


def missing(site: Path, root: Path = ROOT) -> list[str]:
    """One line for each page of the table of contents that ``site`` lacks."""
    lines = []
    for name, source in sources(root).items():
        built = site / f"{name}.html"
        if not built.is_file():
            lines.append(f"{name}: {built} was not built")
            continue
        heading = re.search(HEADING, built.read_text(encoding="utf-8"), re.S)
        bare = re.sub(r"<[^>]+>", "", re.sub(NUMBER, "", heading.group(1))) if heading else ""
        shown = html.unescape(bare).replace("’", "'").strip() or "nothing"  # quotes are set
        if shown != title(source):
            lines.append(f"{name}: its title is {title(source)!r}, the built page shows {shown!r}")
    return lines


class Page(HTMLParser):
    """What one HTML page points to, as (tag, address), and the names in it to point to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[tuple[str, str]] = []
        self.names = {"", "top"}  # which every browser knows
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        self.names.update(given[key] for key in ("id", "name") if key in given)
        self.links += [(tag, given[key].strip()) for key in ("href", "src") if key in given]


def dead_links(site: Path) -> list[str]:
    """One line for each link of a page of ``site`` that leads nowhere or loads from outside."""
    pages = {
        path: Page(path.read_text(encoding="utf-8"))
        for path in sorted(site.rglob("*.html"))
        if "_static" not in path.relative_to(site).parts  # the theme's, not pages
    }
    lines = []
    for path, page in pages.items():
        for tag, address in dict.fromkeys(page.links):
            where, parts = f"{path.relative_to(site)}: {address}", urlsplit(address)
            if parts.scheme in ("data", "javascript", "mailto"):
                continue
            if parts.scheme or parts.netloc:
                if tag != "a":
                    lines.append(f"{where} is loaded from outside by <{tag}>")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if parts.path.startswith("/") or not target.is_relative_to(site.resolve()):
                lines.append(f"{where} points outside of the book")
            elif not target.is_file():
                lines.append(f"{where} points to no file")
            elif target in pages and unquote(parts.fragment) not in pages[target].names:
                lines.append(f"{where} points to no place in the page")
    return lines


def main(arguments: list[str]) -> None:
    site = Path(*arguments or [ROOT / "_build" / "html"]).resolve()
    problems = missing(site) + dead_links(site)
    if problems:
        print("the built book is not whole:", *problems, sep="\n", file=sys.stderr)
        sys.exit(1)
    print(f"the built book has all {len(sources())} pages of _toc.yml, and no dead link")


if __name__ == "__main__":
    main(sys.argv[1:])
