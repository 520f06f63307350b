"""What the book's pages promise in words: no typed results, one word for one thing, one shape."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
import typer

from obce.book import exercises
from obce.cli import app
from tools.toc import chapters, sources

PAGES = sources()
CHAPTERS = list(chapters())

# Figures that others have published, and numbers that a definition fixes: all that prose may
# state without a cell or a record. Everything else with a decimal point or a percent sign fails.
QUOTED = {
    "58.47": "BERT Base, kept (arXiv 2312.10702)",
    "46.5": "of the encoder, asked for in the code: what 58.47 of all of BERT Base leaves",
    "52.3": "BERT Large, kept (arXiv 2312.10702)",
    "47": "BERT Base, kept (doi 10.3390/app15010390)",
    "42": "BERT Large, kept (doi 10.3390/app15010390)",
    "100": "all of it",
}

# page -> cells whose output is not compared: its set-up cell, and timings
NOT_COMPARED = {name: 1 for name, path in PAGES.items() if path.suffix == ".ipynb"}
NOT_COMPARED["book/smaller-bert"] = 2  # and the seconds per 1,000 texts
NOT_COMPARED["book/pigeonholes-and-gaps"] = 2  # and how many units which pass certifies
NOT_COMPARED["book/parameters-to-milliseconds"] = 5  # and four cells with a clock

# not this word -> but this one
WORDS = {
    r"colors?\b": "colour",
    r"gray": "grey",
    r"centers?\b|centered": "centre",
    r"neighbors?\b|neighborhood": "neighbour",
    r"behavior": "behaviour",
    r"artifact": "artefact",
    r"license\b": "licence",
    r"tokenis|quantis|normalis|optimis|summaris|generalis|initialis|visualis|regularis|minimis|"
    r"maximis|recognis|organis|characteris|factoris": "-ize",
    r"finetun": "fine-tune",
    r"pre-train": "pretrain",
    r"filtration value|filtration radius|birth-death": "scale, death",
    r"merging radius|merge distance|merge-radius score": "merge radius",
    r"persistence barcode": "barcode",
    r"pruning plan|pruning mask": "plan",
    r"importance score|saliency": "score",
    r"point-cloud": "cloud",
    r"feedforward": "feed-forward",
    r"Vietoris-Rips|Vietoris Rips": "Vietoris–Rips",
}


def cells(path: Path) -> list[dict]:
    if path.suffix == ".md":
        return [{"cell_type": "markdown", "source": path.read_text(encoding="utf-8")}]
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def source(cell: dict) -> str:
    return "".join(cell["source"])


def prose(path: Path) -> str:
    """Markdown without code, mathematics, and the targets and options of links and roles."""
    return without_code("\n\n".join(source(c) for c in cells(path) if c["cell_type"] == "markdown"))


def without_code(text: str) -> str:
    for pattern in (
        r"```.*?```",
        r"\$\$.*?\$\$",
        r"\{[\w:-]+\}`[^`]*`",
        r"`[^`]*`",
        r"\$[^$]*\$",
        r"\]\([^)]*\)",
        r"https?://\S+",
        r"^:[\w-]+:.*$",
        r"(?i)\b(arxiv|doi|python|torch|jupyter book|CC BY|version|chapter|section)[ :]*[\d./]+",
    ):
        text = re.sub(pattern, " ", text, flags=re.S | re.M if "^:" in pattern else re.S)
    return text


def spoken(path: Path) -> str:
    """The sentences that hidden code cells print: their strings, without what is filled in."""
    said = []
    for cell in cells(path):
        if cell["cell_type"] == "code" and "remove-input" in cell["metadata"].get("tags", []):
            for node in ast.walk(ast.parse(source(cell))):
                if isinstance(node, ast.JoinedStr):
                    parts = (p.value if isinstance(p, ast.Constant) else "N" for p in node.values)
                    said.append("".join(parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    said.append(node.value)
    return without_code("\n\n".join(text for text in said if len(text.split()) > 4))


def chapter(name: str) -> Path:
    return PAGES[f"book/{name}"]


@pytest.mark.parametrize("path", PAGES.values(), ids=lambda path: path.stem)
def test_results_in_prose_come_from_cells(path):
    text = prose(path) + spoken(path)
    typed = re.findall(r"(?<![\w.])(\d+\.\d+|\d+(?= ?%))(?![\w.]\d)", text)
    assert set(typed) <= set(QUOTED), "print them from a cell, or list the source in QUOTED"


@pytest.mark.parametrize("path", PAGES.values(), ids=lambda path: path.stem)
def test_one_word_for_one_thing(path):
    text = prose(path) + spoken(path)
    for pattern, better in WORDS.items():
        found = re.search(pattern, text, re.I)
        assert not found, f"{found.group()!r}: the book says {better}"


def paragraphs(path: Path) -> list[str]:
    """Of the Markdown and of what cells print as Markdown; items of lists apart, no tables."""
    found = []
    for cell in cells(path):
        texts = [source(cell)] if cell["cell_type"] == "markdown" else [
            "".join(output.get("data", {}).get("text/markdown", "")) for output in cell["outputs"]
        ]  # fmt: skip
        for text in texts:
            text = re.sub(r"```.*?```", "", text, flags=re.S)
            text = re.sub(r"\$\$.*?\$\$", "formula", text, flags=re.S)
            found += re.split(r"\n\s*\n|\n(?=- |\d+\. |\|)", text)
    return [text for text in found if not text.startswith("|")]


@pytest.mark.parametrize("path", PAGES.values(), ids=lambda path: path.stem)
def test_no_paragraph_is_too_long_to_read_at_once(path):
    long = [text[:60] for text in paragraphs(path) if len(text.split()) > 110]
    assert not long, "break these in two"


def symbols(text: str) -> set[str]:
    """Letters of the mathematics in a text, without indices and words such as \\text{all}."""
    math = " ".join(a or b for a, b in re.findall(r"\$\$(.*?)\$\$|\$([^$]+)\$", text, re.S))
    math = re.sub(r"\\(text|mathrm|mathtt|mathbb|operatorname)\s*\{?[^{}\s]*\}?", " ", math)
    math = re.sub(r"_(\{[^{}]*\}|\\?[A-Za-z]+)", " ", math)
    greek = r"\\(?:delta|sigma|lambda|rho|eta|varepsilon|ell)\b"
    return set(re.findall(greek + r"|(?<![\\A-Za-z])[A-Za-z](?![A-Za-z])", math))


def test_a_symbol_has_its_meaning_from_where_the_notation_says():
    text = PAGES["book/notation"].read_text(encoding="utf-8")
    table = re.findall(r"^\| (\$[^|]+) \| .* \| \{doc\}`([\w-]+)` \|$", text, re.M)
    markdown = {
        name: re.sub(
            r"```.*?```",
            "",
            "\n".join(source(c) for c in cells(chapter(name)) if c["cell_type"] == "markdown"),
            flags=re.S,
        )
        for name in CHAPTERS
    }
    checked = 0
    for cell, first in table:
        for symbol in re.findall(r"\$(\\?[A-Za-z]+)\$", cell):
            if symbol not in symbols(f"${symbol}$") or symbol in ("d", "W", "B"):
                continue  # of several letters; or with an index another thing
            using = [name for name in CHAPTERS if symbol in symbols(markdown[name])]
            assert using and using[0] == first, f"{symbol}: {using}, not first in {first}"
            checked += 1
    assert checked > 20


def test_the_reference_lists_every_command():
    listed = re.findall(r"^\| `obce (\w+)", PAGES["book/api"].read_text(encoding="utf-8"), re.M)
    assert sorted({*listed}) == sorted(typer.main.get_command(app).commands)


@pytest.mark.parametrize("name", NOT_COMPARED)
def test_outputs_that_are_not_compared_are_counted(name):
    ignored = [c for c in cells(PAGES[name]) if "NBVAL_" in source(c)]
    assert len(ignored) == NOT_COMPARED[name]
    assert all(source(c).startswith("# NBVAL_IGNORE_OUTPUT\n") for c in ignored)
    assert "set-up" in ignored[0]["metadata"]["tags"]


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_has_its_parts(name):
    text = "\n\n".join(source(c) for c in cells(chapter(name)) if c["cell_type"] == "markdown")
    first = source(cells(chapter(name))[0])
    assert re.match(r"# [^\n]+\n\n\*[^*]+\?\*", first), "title, then a question in italics"
    assert ":::{admonition} In this chapter" in text and "minutes" in text
    headings = re.findall(r"^## (.+)$", text, re.M)
    assert headings[-2:] == ["Recap", "What to read next"]
    assert "prf:definition" in text


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_has_exercises_with_checked_solutions(name):
    everything = [source(c) for c in cells(chapter(name))]
    text = "\n\n".join(everything)
    asked = re.findall(r"\{exercise-start\}.*?:label: ([\w-]+)", text, re.S)
    solved = re.findall(r"\{solution-start\} ([\w-]+)", text)
    assert 3 <= len(asked) <= 5 and asked == solved
    assert len(re.findall(r"\*Difficulty [123] of 3, about \d+ minutes\.\*", text)) == len(asked)
    checks = set(re.findall(r"exercises\.(\w+)\(", text))
    assert all(hasattr(exercises, check) for check in checks) and len(checks) == len(asked)
    outputs = [
        "".join(output.get("text", ""))
        for cell in cells(chapter(name))
        if cell["cell_type"] == "code" and "### BEGIN SOLUTION" in source(cell)
        for output in cell["outputs"]
    ]
    assert "".join(outputs).count("Right.") >= len(asked)


@pytest.mark.parametrize("name", CHAPTERS)
def test_minutes_agree(name):
    text = "\n".join(source(c) for c in cells(chapter(name)))
    box = re.search(r"\*Time:\* about (\d+) minutes to read, (\d+) for the exercises\.", text)
    assert box, "*Time:* about 30 minutes to read, 40 for the exercises."
    each = re.findall(r"\*Difficulty [123] of 3, about (\d+) minutes\.\*", text)
    assert abs(sum(map(int, each)) - int(box[2])) <= 3
    table = PAGES["book/how-to-use"].read_text(encoding="utf-8")
    assert f"| {{doc}}`{name}` | {box[1]} | {box[2]} |" in table


def test_every_checker_belongs_to_an_exercise():
    text = "\n".join(source(c) for name in CHAPTERS for c in cells(chapter(name)))
    assert set(exercises.__all__) == set(re.findall(r"exercises\.(\w+)\(", text))
