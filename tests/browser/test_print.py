"""The printed book: whole, with solutions and figures, and links that stay inside."""

from __future__ import annotations

import re
import subprocess
import sys
import unicodedata

import pytest
from pypdf import PdfReader

from tools.toc import ROOT, markdown, sources, title

SITE = ROOT / "_build" / "html"
PAGES = {name: markdown(source) for name, source in sources().items()}


def squeezed(text: str) -> str:
    """Without what a PDF sets in its own way: white space, quotes, ligatures, formulas."""
    return re.sub(r"\s+|['\"‘’“”]|\$[^$]*\$", "", unicodedata.normalize("NFKC", text))


PRINTED = ROOT / "_build" / "obce-book.pdf"
pytestmark = pytest.mark.xdist_group("print")


@pytest.fixture(scope="module")
def printed():
    if not PRINTED.is_file() or PRINTED.stat().st_mtime < (SITE / "index.html").stat().st_mtime:
        pytest.exit("the book is not printed since it was built: make pdf", returncode=2)
    return PdfReader(PRINTED)


@pytest.fixture(scope="module")
def text(printed):
    return squeezed("".join(page.extract_text() for page in printed.pages))


def test_every_title_is_printed_and_in_the_outline(printed, text):
    outline = [squeezed(entry.title) for entry in printed.outline if not isinstance(entry, list)]
    assert len(outline) == len(PAGES)
    for source, entry in zip(sources().values(), outline, strict=True):
        wanted = squeezed(title(source))
        assert entry.endswith(wanted) and wanted in text


def test_every_exercise_and_solution_is_printed(text):
    for page in PAGES.values():
        for name in re.findall(r"^:+\{exercise-start\} *(.+)", page, re.M):
            assert text.count(squeezed(f"({name})")) >= 2, f"exercise and solution of {name}"
    solutions = sum(
        len(re.findall(r"^:+\{solution-start\}", page, re.M)) for page in PAGES.values()
    )
    assert text.count("SolutiontoExercise") == solutions
    # solutions in words, of exercises with pen and paper, have no code
    sources_text = [source.read_text(encoding="utf-8") for source in sources().values()]
    coded = sum(source.count("### BEGIN SOLUTION") for source in sources_text)
    assert text.count("###BEGINSOLUTION") == text.count("###ENDSOLUTION") == coded > 0


def test_every_picture_is_printed_within_the_page(printed):
    pictures = sum(
        len(re.findall(r'<img [^>]*src="[^"]*_images/', (SITE / f"{name}.html").read_text("utf-8")))
        for name in PAGES
    )
    # counted, not decoded, which would take a minute
    objects = [o for page in printed.pages for o in page["/Resources"].get("/XObject", {}).values()]
    assert sum(o.get_object()["/Subtype"] == "/Image" for o in objects) >= pictures


def test_links_within_the_book_stay_in_the_pdf(printed):
    annotations = [a.get_object() for page in printed.pages for a in page.get("/Annots") or []]
    outside = [str(a["/A"]["/URI"]) for a in annotations if "/URI" in a.get("/A", {})]
    assert not [address for address in outside if "127.0.0.1" in address or "file:" in address]
    inside = {str(a["/Dest"]) for a in annotations if "/Dest" in a}
    assert inside and inside <= set(printed.named_destinations)


def test_without_a_book_it_says_what_to_do(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "from tools import print_pdf; import pathlib as p;"
         "print_pdf.print_pdf(p.Path('none'), p.Path('none.pdf'))"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert "make book" in done.stderr
