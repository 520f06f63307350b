"""The stored pages: complete, executed once in order, readable without colour or sight."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest
import yaml
from pybtex.database import parse_string

from obce.running.records import recorded
from tools import make_handouts, run_pages
from tools.check_book import dead_links, missing
from tools.toc import ROOT, notebooks, page_names, slowest_first, sources

LINK = '<a class="headerlink" href="#first">#</a>'
WIDTH = 86  # characters of code
each_notebook = pytest.mark.parametrize("path", notebooks().values(), ids=lambda path: path.stem)


def code_cells(path: Path) -> list[dict]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [c for c in cells if c["cell_type"] == "code" and "".join(c["source"]).strip()]


def test_every_page_is_in_the_table_of_contents():
    pages = {p for suffix in ("*.ipynb", "*.md") for p in (ROOT / "book").glob(suffix)}
    assert pages == set(sources().values())


def test_the_bibliography_has_labels_like_the_citations():
    labels = runpy.run_path(str(ROOT / "book" / "_ext" / "author_year.py"))["Labels"]()
    three = "author = {Ben{\\'i}tez, J. and B, C. and D, E.}, year = {2023}"
    two = "author = {Gower, John and Ross, Gavin}, year = {1969}"
    entries = [f"@misc{{x{i}, {fields}}}" for i, fields in enumerate([two, three, three])]
    found = list(
        labels.format_labels(list(parse_string("".join(entries), "bibtex").entries.values()))
    )
    assert found == ["Gower and Ross, 1969", "Benítez et al., 2023a", "Benítez et al., 2023b"]


def test_only_listed_pages_are_built():
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    assert config["only_build_toc_files"] is True


@each_notebook
def test_executed_once_from_top_to_bottom(path):
    counts = [cell["execution_count"] for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1))
    assert counts, "a notebook without code should be a Markdown page"


@each_notebook
def test_outputs_hold_no_error_and_no_stderr(path):
    outputs = [output for cell in code_cells(path) for output in cell["outputs"]]
    assert outputs
    assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]


@each_notebook
def test_every_picture_has_a_text_for_those_who_cannot_see_it(path):
    for cell in code_cells(path):
        if any("image/png" in output.get("data", {}) for output in cell["outputs"]):
            alt = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt", "")
            assert len(alt) > 40, f"no metadata mystnb.image.alt: {''.join(cell['source'])[:60]}"


@each_notebook
def test_code_that_is_shown_fits_the_page(path):
    """Longer lines would scroll beside the margin."""
    for cell in code_cells(path):
        if not {"remove-input", "hide-input"} & set(cell["metadata"].get("tags", [])):
            for line in "".join(cell["source"]).split("\n"):
                assert len(line) <= WIDTH, line


def test_all_notebooks_start_with_the_same_set_up_cell():
    assert len({"".join(code_cells(path)[0]["source"]) for path in [*notebooks().values()]}) == 1


def book(root: Path, toc: str) -> None:
    (root / "_toc.yml").write_text(toc, encoding="utf-8")
    (root / "one.md").write_text("# The *first* & only\n", encoding="utf-8")


def test_page_names_at_any_depth():
    toc = {"root": "a", "parts": [{"chapters": [{"file": "b", "sections": [{"file": "c"}]}]}]}
    assert list(page_names(toc)) == ["a", "b", "c"]


def test_a_page_without_a_source_is_found(tmp_path):
    book(tmp_path, "root: one\nchapters:\n  - file: two\n")
    with pytest.raises(ValueError, match="names two, for which there are 0 files"):
        sources(tmp_path)


@pytest.mark.parametrize(
    ("built", "problem"),
    [
        (None, "was not built"),
        (f"<h1>Another page{LINK}</h1>", "shows 'Another page'"),
        ("<p>empty</p>", "shows 'nothing'"),
        (f"<h1>Menu</h1><h1>The <em>first</em> &amp; only{LINK}</h1>", None),
        (f'<h1><span class="section-number">1. </span>The first &amp; only{LINK}</h1>', None),
    ],
)
def test_a_page_that_was_not_built_is_found(tmp_path, built, problem):
    book(tmp_path, "root: one\n")
    if built is not None:
        (tmp_path / "one.html").write_text(built, encoding="utf-8")
    lines = missing(tmp_path, tmp_path)
    assert (problem is None and not lines) or problem in lines[0]


@pytest.mark.parametrize(
    ("link", "problem"),
    [
        ('<a href="two.html?v=1#there">', None),
        ('<a href="two.html#a%20b">', None),
        ('<a href="sub/">', None),
        ('<a href="#here">', None),
        ('<a href="#">', None),
        ('<a href="https://example.org/#x">', None),
        ('<a href="mailto:a@example.org">', None),
        ('<img src="data:image/png;base64,AAAA">', None),
        ('<a href="three.html">', "three.html points to no file"),
        ('<img src="_images/none.png">', "none.png points to no file"),
        ('<a href="two.html#nowhere">', "two.html#nowhere points to no place"),
        ('<a href="#nowhere">', "#nowhere points to no place"),
        ('<a href="/two.html">', "/two.html points outside of the book"),
        ('<a href="../two.html">', "../two.html points outside of the book"),
        ('<script src="https://example.org/x.js">', "loaded from outside by <script>"),
        ('<img src="//example.org/x.png">', "loaded from outside by <img>"),
        ('<link rel="stylesheet" href="http://example.org/x.css">', "outside by <link>"),
    ],
)
def test_a_dead_link_is_found(tmp_path, link, problem):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "index.html").write_text('<p><a href="../one.html">', encoding="utf-8")
    (tmp_path / "two.html").write_text('<p id="there"><a name="a b">', encoding="utf-8")
    (tmp_path / "one.html").write_text(f'<p id="here">{link}', encoding="utf-8")
    lines = dead_links(tmp_path)
    assert lines == [] if problem is None else len(lines) == 1 and problem in lines[0]


def test_the_theme_s_own_files_are_no_pages(tmp_path):
    (tmp_path / "_static").mkdir()
    (tmp_path / "_static" / "macros.html").write_text('<a href="none">', encoding="utf-8")
    assert dead_links(tmp_path) == []


def test_a_page_that_is_not_there_is_not_run(capsys):
    with pytest.raises(SystemExit) as stopped:
        run_pages.main(["nowhere"])
    assert stopped.value.code == 2
    assert "no such page: nowhere; there are intro, points" in capsys.readouterr().err


def test_notebooks_that_take_longest_run_first():
    pages = slowest_first()
    assert set(pages) == set(notebooks().values())
    record = recorded("book_pages")["pages"]
    seconds = {page["name"]: page["seconds"] for page in record}
    known = [seconds[path.stem] for path in pages if path.stem in seconds]
    assert known == sorted(known, reverse=True) and len(set(known)) > 1


@each_notebook
def test_the_launch_button_of_a_page_opens_a_file_of_the_project(path):
    repository = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]
    opened = ROOT / repository["path_to_book"] / path.relative_to(ROOT)
    assert opened.is_file(), "make student"
    assert b'"outputs": []' in opened.read_bytes()


def test_handouts_hold_every_figure_with_its_caption(tmp_path):
    for slides in make_handouts.make([], tmp_path):
        text = slides.read_text(encoding="utf-8")
        named = re.findall(r"\]\((figure-\d+\.png)\)\n\n\S", text)
        assert sorted(named) == sorted(file.name for file in slides.parent.glob("*.png"))
        assert named and "{" not in re.sub(r"\$[^$]*\$|`[^`]*`", "", text), "no roles are left"
