"""The pages of the book, as _toc.yml lists them: the one place that reads it.

python -m tools.toc    # the notebooks, those that take longest first
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
SECONDS = ROOT / "results" / "book_pages.json"  # of each page, when it last ran


def page_names(toc: object) -> Iterator[str]:
    """The pages that a parsed _toc.yml names, without suffix, at any depth."""
    if isinstance(toc, dict):
        yield from (toc[key] for key in ("root", "file") if key in toc)
        for value in toc.values():
            yield from page_names(value)
    elif isinstance(toc, list):
        for item in toc:
            yield from page_names(item)


def parsed(root: Path = ROOT) -> dict:
    """``root``'s _toc.yml."""
    return yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))


def sources(root: Path = ROOT) -> dict[str, Path]:
    """The source file of each page of ``root``'s _toc.yml. ValueError: a page has none."""
    found = {}
    for name in page_names(parsed(root)):
        files = [p for suffix in (".ipynb", ".md") if (p := root / (name + suffix)).is_file()]
        if len(files) != 1:
            raise ValueError(f"_toc.yml names {name}, for which there are {len(files)} files")
        found[name] = files[0]
    return found


def chapters(root: Path = ROOT) -> dict[str, int]:
    """name -> number of every page in the numbered parts of ``root``'s _toc.yml."""
    parts = [part for part in parsed(root)["parts"] if part.get("numbered")]
    files = [chapter["file"] for part in parts for chapter in part["chapters"]]
    return {Path(file).name: number for number, file in enumerate(files, start=1)}


def notebooks(root: Path = ROOT) -> dict[str, Path]:
    """name -> file of every page that is a notebook, in the order of the book."""
    return {path.stem: path for path in sources(root).values() if path.suffix == ".ipynb"}


def slowest_first() -> list[Path]:
    """The notebooks in falling order of the seconds that they took; a new one comes first.

    Processes that share them out then end at about the same time.
    """
    pages = json.loads(SECONDS.read_text(encoding="utf-8"))["pages"]
    seconds = {page["name"]: page["seconds"] for page in pages}
    return sorted(notebooks().values(), key=lambda path: -seconds.get(path.stem, float("inf")))


def commit() -> str:
    """The commit of the checkout; outside of one, nothing."""
    command = ["git", "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def sample(names: list[str], count: int, salt: str | None = None) -> list[str]:
    """``count`` of the names in their order, the same for one ``salt``: the commit, by default.

    Over many commits every name comes up equally often.
    """
    salt = commit() if salt is None else salt
    ranks = {name: hashlib.sha256(f"{salt} {name}".encode()).digest() for name in names}
    chosen = sorted(names, key=ranks.__getitem__)[:count]
    return [name for name in names if name in chosen]


def markdown(source: Path) -> str:
    """The text of a page; of a notebook, its Markdown cells."""
    text = source.read_text(encoding="utf-8")
    if source.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return text


def title(source: Path) -> str:
    """The first heading of a page, without the marks of Markdown."""
    heading = re.search(r"^# (.+)$", markdown(source), re.M)
    if heading is None:
        raise ValueError(f"{source} has no heading")
    return re.sub(r"[*`]", "", heading.group(1)).strip()


if __name__ == "__main__":
    print(*(path.relative_to(ROOT) for path in slowest_first()), sep="\n")
