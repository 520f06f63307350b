"""Figures and slides of the chapters, from the stored pages: _build/handouts/NAME/.

    python -m tools.make_handouts [NAME ...]    # no name: every chapter

Each figure becomes a picture, figure-1.png and so on. slides.md, in the form that Marp, reveal.js
and pandoc take, has a slide for each of them with its caption, and its description as alt text.
"""

from __future__ import annotations

import base64
import sys
from pathlib import Path

import nbformat
from pybtex.database import parse_file

from tools.make_student import Labels, words
from tools.toc import ROOT, chapters, sources, title

OUT = ROOT / "_build" / "handouts"


def figures(notebook) -> list[tuple[bytes, str, str]]:
    """Picture, caption and description of each figure of a page that has a caption."""
    found = []
    for cell in notebook.cells:
        told = cell.metadata.get("mystnb", {})
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}) and "figure" in told:
                picture = base64.b64decode(output["data"]["image/png"])
                found.append((picture, told["figure"]["caption"], told["image"]["alt"]))
    return found


def make(names: list[str], out: Path, root: Path = ROOT) -> list[Path]:
    """Write the folders of the named chapters, of all when none is named."""
    numbers = chapters(root)
    if unknown := set(names) - set(numbers):
        raise ValueError(f"no chapter {', '.join(sorted(unknown))}; there are {', '.join(numbers)}")
    pages = {Path(name).name: file for name, file in sources(root).items()}
    titles = {name: title(file) for name, file in pages.items()}
    labels = Labels(parse_file(root / "book" / "references.bib"), titles)
    notebooks = {name: nbformat.read(pages[name], as_version=4) for name in numbers}
    for name, number in numbers.items():
        labels.read(notebooks[name], number)
    made = []
    for name in names or numbers:
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        slides = [f"# {titles[name]}\n\nthe obce authors, CC BY 4.0"]
        for count, (picture, caption, alt) in enumerate(figures(notebooks[name]), start=1):
            file = folder / f"figure-{count}.png"
            file.write_bytes(picture)
            slides.append(f"![{alt}]({file.name})\n\n{words(caption, labels)}")
        made.append(folder / "slides.md")
        made[-1].write_text("\n\n---\n\n".join(slides) + "\n", encoding="utf-8")
    return made


if __name__ == "__main__":
    try:
        print(*make(sys.argv[1:], OUT), sep="\n")
    except (OSError, ValueError) as error:
        print(f"make_handouts: {error}", file=sys.stderr)
        sys.exit(2)
