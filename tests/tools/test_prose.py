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
# state although no cell of the same section puts it out. Every other number with a decimal point,
# a percent sign or thousands must stand in such an output; the tests run these cells again.
QUOTED = {
    "58.47": "BERT Base, kept (arXiv 2312.10702)",
    "46.5": "of the encoder, asked for in the code: what 58.47 of all of BERT Base leaves",
    "52.3": "BERT Large, kept (arXiv 2312.10702)",
    "47": "BERT Base, kept (doi 10.3390/app15010390)",
    "42": "BERT Large, kept (doi 10.3390/app15010390)",
    "85": "redundant neurons (Dalvi et al. 2020, arXiv 2004.04010)",
    "100": "all of it",
    "82944": "units of BERT-base; what-a-neuron-is counts them",
}

BY_HAND = r"\*(With pen and paper|A judgement)\.\*"

# page -> cells whose output is not compared: timings, and what rounding decides
NOT_COMPARED = {name: 0 for name, path in PAGES.items() if path.suffix == ".ipynb"}
NOT_COMPARED["book/glue-compressed"] = 1  # the seconds per 1,000 texts
NOT_COMPARED["book/pigeonholes-and-gaps"] = 1  # how many units which pass certifies
NOT_COMPARED["book/surgery"] = 3  # differences by rounding, and seconds
NOT_COMPARED["book/parameters-to-milliseconds"] = 4  # four cells with a clock

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


def shown(cell: dict) -> str:
    """What a code cell puts out as text."""
    texts = []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        texts += [output.get("text", ""), data.get("text/markdown", ""), data.get("text/plain", "")]
    return "\n".join("".join(text) for text in texts)


def sections(cells: list[dict]) -> dict[str, tuple[str, str]]:
    """Heading -> prose, and what cells put out. A recap may quote from the whole page."""
    found: dict[str, list[str]] = {"": ["", ""]}
    here = ""
    for cell in cells:
        if cell["cell_type"] == "code":
            found[here][1] += shown(cell) + "\n"
            continue
        blocks = re.sub(r"```.*?```", "", source(cell), flags=re.S)
        for part in re.split(r"^(?=## )", blocks, flags=re.M):
            if part.startswith("## "):
                here = part.split("\n")[0]
                found.setdefault(here, ["", ""])
            found[here][0] += part + "\n"
    everything = "\n".join(out for _, out in found.values())
    return {
        heading: (without_code(text), everything if heading == "## Recap" else out)
        for heading, (text, out) in found.items()
        # the numbers of an exercise are made up
        if heading not in ("## Without a computer", "## Questions for an exam")
    }


def numbers(text: str, pattern: str) -> set[str]:
    return {number.replace(",", "") for number in re.findall(pattern, text)}


def untold(cells: list[dict]) -> set[str]:
    """Numbers that the prose of a section states and no cell of the section puts out."""
    left = set()
    for text, out in sections(cells).values():
        told = numbers(out, r"(?<![\w.])\d[\d,]*(?:\.\d+)?")
        stated = r"(?<![\w.,])(\d[\d,]*\.\d+|\d{1,3}(?:,\d{3})+|\d+(?= ?%))(?![\w.]\d)"
        left |= numbers(text, stated) - told
    return {number for number in left if not number.endswith("000")}  # a round one is a choice


@pytest.mark.parametrize("path", PAGES.values(), ids=lambda path: path.stem)
def test_results_in_prose_stand_in_an_output_of_the_section(path):
    typed = untold(cells(path)) | numbers(spoken(path), r"(?<![\w.])(\d+\.\d+|\d+(?= ?%))")
    assert typed <= set(QUOTED), "print them from a cell, or list the source in QUOTED"


def test_a_number_that_no_cell_puts_out_is_found():
    def page(text, out):
        printed = {"cell_type": "code", "source": "", "outputs": [{"text": out}]}
        return [{"cell_type": "markdown", "source": text}, printed]

    assert untold(page("## A\nIt gives 12.5 %, or 1,490 km.", "12.5% and 1490")) == set()
    assert untold(page("## A\nIt gives 12.5 %.", "12.6%")) == {"12.5"}
    assert untold(page("## A\nIt takes 34 %.\n## B\n", "34%")) == {"34"}, "of another section"
    assert untold([*page("## A", "0.71"), *page("## Recap\nIt was 0.71.", "")]) == set()


@pytest.mark.parametrize("name", CHAPTERS)
def test_prose_is_text_and_no_output_of_a_hidden_cell(name):
    for cell in cells(chapter(name)):
        if cell["cell_type"] == "code":
            tags = cell["metadata"].get("tags", [])
            assert not {"remove-input", "remove-cell"} & set(tags) or "set-up" in tags, source(cell)
            for output in cell["outputs"]:
                lines = "".join(output.get("data", {}).get("text/markdown", "")).split("\n")
                assert all(not line or line.startswith("|") or line[0] == "(" for line in lines)


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
    math = re.sub(r"\\(text|mathrm|mathtt|mathbb|mathsf|operatorname)\s*\{?[^{}\s]*\}?", " ", math)
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


# Letters that are not in the table, each in the one chapter that uses it and explains it there
LOCAL = {
    "D": "diagrams",  # a diagram
    "\\mu": "diagrams",  # a matching
    "\\gamma": "choosing-units",  # a gradient
    "\\tau": "diagrams",  # of an interleaving
    "V": "diagrams",  # a vector space
    "C": "repair",  # a mixing of keys
    "Q": "what-a-neuron-is",  # an orthogonal matrix
    "Z": "persistence-shares",  # silenced units
    "G": "pigeonholes-and-gaps",  # a set of whole numbers
    "K": "pigeonholes-and-gaps",  # the largest of them
    "R": "pigeonholes-and-gaps",  # the range of a cloud
}


def test_a_letter_outside_the_table_belongs_to_one_chapter():
    text = PAGES["book/notation"].read_text(encoding="utf-8")
    listed = symbols(" ".join(re.findall(r"^\| \$.*", text, re.M)))
    greek = r"\\(?:alpha|beta|gamma|delta|mu|tau|sigma|lambda|rho|eta|varepsilon|varphi)\b"
    used: dict[str, list[str]] = {}
    for name in CHAPTERS:
        text = "\n".join(source(c) for c in cells(chapter(name)) if c["cell_type"] == "markdown")
        text = re.sub(r"```.*?```", "", text, flags=re.S)
        math = " ".join(a or b for a, b in re.findall(r"\$\$(.*?)\$\$|\$([^$]+)\$", text, re.S))
        upper = {s for s in symbols(f"${math}$") if s.isupper()}
        for letter in upper | set(re.findall(greek, math)):
            used.setdefault(letter, []).append(name)
    strange = {
        letter: names
        for letter, names in used.items()
        if letter not in listed
        and letter.lstrip("\\") not in ("alpha", "beta", "varphi")  # listed with an index
        and names != [LOCAL.get(letter)]
    }
    assert not strange, "put them into the table of notation, or rename them"


def test_the_reference_lists_every_command():
    listed = re.findall(r"^\| `obce (\w+)", PAGES["book/api"].read_text(encoding="utf-8"), re.M)
    assert sorted({*listed}) == sorted(typer.main.get_command(app).commands)


@pytest.mark.parametrize("name", NOT_COMPARED)
def test_outputs_that_are_not_compared_are_counted(name):
    ignored = [c for c in cells(PAGES[name]) if "NBVAL_" in source(c)]
    assert len(ignored) == NOT_COMPARED[name]
    assert all(source(c).startswith("# NBVAL_IGNORE_OUTPUT\n") for c in ignored)
    skipped = [c for c in cells(PAGES[name]) if "nbval-skip" in c["metadata"].get("tags", [])]
    assert [source(c).split()[:2] for c in skipped] in ([], [["%pip", "install"]])
    assert all("set-up" in c["metadata"]["tags"] for c in skipped)


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_has_its_parts(name):
    text = "\n\n".join(source(c) for c in cells(chapter(name)) if c["cell_type"] == "markdown")
    first = source(cells(chapter(name))[0])
    assert re.match(r"# [^\n]+\n\n\*[^*]+\?\*", first), "title, then a question in italics"
    assert ":::{admonition} In this chapter" in text and "minutes" in text
    headings = re.findall(r"^## (.+)$", text, re.M)
    assert headings[-2:] == ["Recap", "What to read next"]
    assert "prf:definition" in text


def exercises_of(name: str) -> dict[str, str]:
    """Label -> the text of each exercise, hints among it."""
    text = "\n\n".join(source(c) for c in cells(chapter(name)) if c["cell_type"] == "markdown")
    found = re.findall(r"\{exercise-start\}.*?:label: ([\w-]+)(.*?)\{exercise-end\}", text, re.S)
    return dict(found)


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_has_exercises_with_checked_solutions(name):
    everything = [source(c) for c in cells(chapter(name))]
    text = "\n\n".join(everything)
    asked = exercises_of(name)
    solved = re.findall(r"\{solution-start\} ([\w-]+)", text)
    assert list(asked) == solved
    assert all(
        re.search(r"\*Difficulty [123] of 3, about \d+ minutes\.\*", e) for e in asked.values()
    )
    checks = set(re.findall(r"exercises\.(\w+)\(", text))
    by_hand = [e for e in asked.values() if re.search(BY_HAND, e)]
    assert all(hasattr(exercises, check) for check in checks)
    assert 3 <= len(checks) <= 5 and len(checks) == len(asked) - len(by_hand)
    outputs = [
        "".join(output.get("text", ""))
        for cell in cells(chapter(name))
        if cell["cell_type"] == "code" and "### BEGIN SOLUTION" in source(cell)
        for output in cell["outputs"]
    ]
    assert "".join(outputs).count("Right.") >= len(checks)


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_has_a_proof_a_judgement_hints_and_something_hard(name):
    asked = exercises_of(name)
    for sort in ("With pen and paper.", "A judgement."):
        assert sum(f"*{sort}*" in text for text in asked.values()) == 1
    assert any("*Difficulty 3 of 3" in text for text in asked.values())
    for label, text in asked.items():
        hints = re.findall(r":::\{admonition\} (First|Second) hint\n:class: dropdown\n(.+)", text)
        assert [which for which, _ in hints] == ["First", "Second"], label


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
