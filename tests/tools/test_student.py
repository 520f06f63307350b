"""The copies without solutions: no answer in them, nothing of MyST, and they run as they are."""

from __future__ import annotations

import ast
import re
from copy import deepcopy

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from pybtex.database import parse_string

from obce.book import exercises
from tools import make_student
from tools.make_student import BEGIN, FOLDER, Labels, make, plain, student, without_solutions
from tools.toc import chapters, notebooks, sources

NUMBERS = chapters()
SOURCES = {path.stem: path for path in sources().values()}
BIBLIOGRAPHY = """
@article{two, author = {Gower, John and Ross, Gavin}, year = {1969}, title = {Trees},
  journal = {Applied Statistics}, doi = {10.2307/2346439}}
@misc{many, author = {Ben{\\'i}tez, J. and B, C. and D, E.}, year = {2023}, title = {T}}
"""
each_chapter = pytest.mark.parametrize("name", NUMBERS)


@pytest.fixture(scope="session")
def copies(tmp_path_factory):
    files = make([], tmp_path_factory.mktemp("student"))
    return {file.stem: nbformat.read(file, as_version=4) for file in files}


@pytest.fixture
def labels():
    titles = {"diagrams": "Diagrams as objects", "status": "Status"}
    links = {"diagrams": "diagrams.ipynb"}
    return Labels(parse_string(BIBLIOGRAPHY, "bibtex"), titles, links, "https://example.org")


def code(notebook) -> str:
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")


@each_chapter
def test_no_answer_is_left_and_every_check_stays(name, copies):
    original, copied = nbformat.read(SOURCES[name], as_version=4), copies[name]
    nbformat.validate(copied)
    assert "SOLUTION" not in code(copied)
    assert code(copied).count("...\n") >= code(original).count(BEGIN) >= 3
    check = r"^exercises\.\w+\("
    wanted = [line for line in re.findall(check, code(original), re.M)]
    assert re.findall(check, code(copied), re.M) == wanted
    assert not any(cell.get("outputs") for cell in copied.cells)
    (set_up,) = [c.source for c in copied.cells if "set-up" in c.metadata.get("tags", [])]
    assert "%pip install" in set_up


@each_chapter
def test_no_answer_is_found_anywhere(name, copies):
    answers = re.findall(f"{BEGIN}\n(.*?)### END", code(nbformat.read(SOURCES[name], 4)), re.S)
    for answer in map(str.strip, answers):
        if len(answer) > 40:  # a shorter one the page may need elsewhere
            assert answer not in code(copies[name])


@each_chapter
def test_nothing_of_myst_is_left(name, copies):
    for cell in copies[name].cells:
        if cell.cell_type == "markdown":
            text = re.sub(r"```.*?```", "", cell.source, flags=re.S)
            assert not re.search(r"^:{3,}|^:\w+:|\{[\w:-]+\}`|^\([\w-]+\)=", text, re.M), text


@pytest.mark.parametrize("name", notebooks())
def test_what_a_copy_links_and_cites_is_there(name, copies):
    text = "\n".join(c.source for c in copies[name].cells if c.cell_type == "markdown")
    linked = set(
        re.findall(r"\]\((?!https?:)([^)]+)\)", re.sub(r"```.*?```", "", text, flags=re.S))
    )
    assert linked <= {f"{other}.ipynb" for other in copies}
    body, _, references = text.partition("## References\n\n")
    listed = re.findall(r"^- \*\*(.+?) (\d{4})\.\*\*", references, re.M)
    assert len(listed) == references.count("\n- ") + bool(references)
    for names, year in listed:
        assert year in body and names.split()[0] in body
    assert not re.search(r"\b(\w+) \(\1 \d{4}\)|(\w+ and \w+) \(\2 \d{4}\)", body), "said twice"


@pytest.mark.parametrize("name", notebooks())
def test_the_code_of_a_copy_is_code_and_has_nothing_for_our_tests(name, copies):
    for cell in copies[name].cells:
        if cell.cell_type == "code" and "%pip" not in cell.source:
            ast.parse(cell.source)
            assert "NBVAL" not in cell.source
        tags = cell.metadata.get("tags", [])
        assert cell.metadata.get("jupyter", {}).get("source_hidden", False) == (
            "hide-input" in tags
        )


@each_chapter
def test_a_copy_says_where_the_rest_is_and_that_the_set_up_may_be_skipped(name, copies):
    assert "project of the book: <https://" in copies[name].cells[0].source
    (set_up,) = [c.source for c in copies[name].cells if "set-up" in c.metadata.get("tags", [])]
    assert set_up.startswith("# Skip this cell if obce is installed.")


@each_chapter
def test_every_exercise_has_its_number_and_name(name, copies):
    pages = nbformat.read(SOURCES[name], as_version=4).cells
    names = re.findall(r"\{exercise-start\} *(.*)", "\n".join(cell.source for cell in pages))
    text = "\n".join(cell.source for cell in copies[name].cells)
    shown = re.findall(r"^\*\*Exercise (\d+)\.(\d+) \(", text, re.M)
    assert shown == [(str(NUMBERS[name]), str(n)) for n in range(1, len(names) + 1)]


def test_a_copy_runs_and_says_not_yet(copies):
    name = next(iter(NUMBERS))
    copied = deepcopy(copies[name])  # to run it changes it
    NotebookClient(copied, kernel_name="python3", timeout=180).execute()
    told = "".join(
        output.get("text", "") for cell in copied.cells for output in cell.get("outputs", [])
    )
    assert told.count("Not yet:") == code(copied).count("    ...\n")
    assert "Right." not in told


def test_the_lines_between_the_marks_become_dots():
    answer = 'def f(x):\n    "Doc."\n    ### BEGIN SOLUTION\n    y = 1\n    ### END SOLUTION\n\nf'
    assert without_solutions(answer) == 'def f(x):\n    "Doc."\n    ...\n\nf'


@pytest.mark.parametrize("marks", ["### BEGIN SOLUTION", "### END SOLUTION"])
def test_a_mark_without_its_partner_is_told(marks):
    with pytest.raises(ValueError, match="without its partner"):
        without_solutions(f"def f():\n    {marks}\n    return 1")


def test_a_solution_goes_with_its_words_but_not_what_follows(labels):
    cells = [
        new_markdown_cell("# T\n\n:::{exercise-start} Count\n:label: ex\n:::\nDo it.\n"),
        new_markdown_cell(
            ":::{exercise-end}\n:::\n\n:::{solution-start} ex\n:class: dropdown\n:::"
        ),
        new_markdown_cell("The secret."),
        new_code_cell("def f():\n    ### BEGIN SOLUTION\n    return 7\n    ### END SOLUTION\nf()"),
        new_code_cell("plot_of_the_answer()"),
        new_code_cell("# NBVAL_IGNORE_OUTPUT\nprint('yours:', f())"),
        new_markdown_cell(":::{solution-end}\n:::\n\nAfter it, see {ref}`ex`."),
    ]
    notebook = new_notebook(cells=cells)
    labels.read(notebook, 4)
    texts = [cell.source for cell in student(notebook, labels).cells]
    assert texts[0].startswith("# T\n\n**Exercise 4.1 (Count)**\n\nDo it.")
    assert texts[0].endswith("in the project of the book: <https://example.org>")
    kept = ["def f():\n    ...\nf()", "print('yours:', f())"]  # what shows the reader's own answer
    assert texts[1:] == [*kept, "After it, see Exercise 4.1."]
    assert cells[3].source.count("SOLUTION") == 2, "the original is as it was"


@pytest.mark.parametrize(
    ("myst", "markdown"),
    [
        (":::{prf:definition} Ball\n:label: d\nA ball.\n:::", "**Definition (Ball)**\n\nA ball."),
        (":::{prf:proof}\nBy eye.\n:::", "*Proof.* By eye."),
        (":::{admonition} Aim\n:class: tip\n- one\n:::", "> **Aim**\n>\n> - one"),
        (":::{note}\nHear.\n:::", "> **Note**\n>\n> Hear."),
        (
            ":::{admonition} First hint\n:class: dropdown\nSort.\n:::",
            "<details><summary>First hint</summary>\n\nSort.\n\n</details>",
        ),
        ("::::{note}\n:::{math}\nx\n:::\n::::", "> **Note**\n>\n> $$\n> x\n> $$"),
        ("```{code-block} sh\nmake {x}\n```", "```sh\nmake {x}\n```"),
        ("(here)=\n## Heading", "## Heading"),
        ("```python\n:::{note}\n```", "```python\n:::{note}\n```"),
        ("% a remark\ntext", "text"),
    ],
)
def test_directives_become_plain(labels, myst, markdown):
    assert plain(myst, labels) == markdown


def test_a_directive_that_is_never_closed_is_told(labels):
    with pytest.raises(ValueError, match="never closed"):
        plain(":::{note}\ntext", labels)


@pytest.mark.parametrize(
    ("myst", "words"),
    [
        ("{cite}`two`", "(Gower and Ross 1969)"),
        ("{cite}`many,none`", "(Benítez et al. 2023; none)"),
        ("{cite:t}`two`", "Gower and Ross (1969)"),
        ("Gower and Ross {cite}`two`", "Gower and Ross (1969)"),
        ("Gower and\nRoss {cite}`two,many`", "Gower and\nRoss (1969; Benítez et al. 2023)"),
        ("(Benítez and others {cite}`many`)", "(Benítez and others (2023))"),
        ("Mc Gower and Rosser {cite}`two`", "Mc Gower and Rosser (Gower and Ross 1969)"),
        ("{doc}`diagrams`", "[Diagrams as objects](diagrams.ipynb)"),
        ("{doc}`there <diagrams>`", "[there](diagrams.ipynb)"),
        ("{doc}`status`", "*Status*"),
        ("{doc}`there <status>`", "there"),
        ("{term}`the cloud <cloud>`", "the cloud"),
        ("{numref}`fig-a`", "Figure 2.1"),
        ("{numref}`picture %s <fig-a>`", "picture 2.1"),
        ("{ref}`so <fig-a>`", "so"),
        ("{py:func}`~obce.plan`", "`obce.plan`"),
        ("{math}`x^2`", "$x^2$"),
        ("[](fig-a)", "Figure 2.1"),
        ("[the next](diagrams.ipynb#part)", "[the next](diagrams.ipynb)"),
        ("[the state](status.ipynb)", "the state"),
        ("[out](https://example.org/a.md)", "[out](https://example.org/a.md)"),
        ("{doc}`a <diagrams>` {doc}`b <diagrams>`", "[a](diagrams.ipynb) [b](diagrams.ipynb)"),
        ("```\n{doc}`diagrams`\n```", "```\n{doc}`diagrams`\n```"),
    ],
)
def test_roles_become_words(labels, myst, words):
    labels.texts["fig-a"] = "Figure 2.1"
    assert make_student.words(myst, labels) == words


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ('f"see {{doc}}`diagrams`"', 'f"see [Diagrams as objects](diagrams.ipynb)"'),
        ('"see {doc}`status`"', '"see *Status*"'),
        ('f"`{part}`" if x else f"`{y}`"', 'f"`{part}`" if x else f"`{y}`"'),
    ],
)
def test_roles_in_what_code_prints_become_words_and_code_stays(labels, code, wanted):
    assert make_student.ROLE_IN_CODE.sub(labels.role, code) == wanted


def test_the_list_of_references_has_all_that_was_cited_once(labels):
    make_student.words("{cite}`two` and {cite:t}`two`, {cite}`many,unknown`", labels)
    assert labels.references().split("\n") == [
        "## References",
        "",
        "- **Benítez et al. 2023.** J. Benítez, C. B, and E. D. T. 2023.",
        "- **Gower and Ross 1969.** John Gower and Gavin Ross. Trees. *Applied Statistics*, 1969."
        " [doi:10.2307/2346439](https://doi.org/10.2307/2346439).",
    ]
    assert labels.references() == "", "each page lists its own"


def test_an_unknown_chapter_is_one_clear_line(tmp_path):
    with pytest.raises(ValueError, match="no page nothing; there are "):
        make(["nothing"], tmp_path)


@pytest.mark.parametrize("name", notebooks())
def test_the_copies_that_colab_opens_are_those_of_the_pages(name, copies):
    stored = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    assert stored == copies[name], "make student, and commit student/"


@each_chapter
def test_an_exercise_without_a_check_has_a_place_for_the_answer(name, copies):
    text = "\n".join(cell.source for cell in copies[name].cells)
    asked = len(re.findall(r"^\*\*Exercise", text, re.M))
    checks = len(re.findall(r"^exercises\.\w+\(", code(copies[name]), re.M))
    assert text.count("**Your answer.**") == asked - checks


@pytest.fixture(scope="session")
def assignments(tmp_path_factory):
    files = make([], tmp_path_factory.mktemp("course"), graded=True)
    return {file.stem: nbformat.read(file, as_version=4) for file in files}


@each_chapter
def test_a_teacher_s_copy_grades_each_exercise_once(name, assignments):
    cells = [cell for cell in assignments[name].cells if "nbgrader" in cell.metadata]
    roles = [cell.metadata["nbgrader"] for cell in cells]
    assert len({role["grade_id"] for role in roles}) == len(roles)
    text = "\n".join(cell.source for cell in assignments[name].cells)
    graded = [role for role in roles if role["grade"]]
    assert len(graded) == len(re.findall(r"^\*\*Exercise", text, re.M))
    assert all(1 <= role["points"] <= 3 for role in graded)
    for cell, role in zip(cells, roles, strict=True):
        if cell.cell_type == "code":
            assert (BEGIN in cell.source) == role["solution"] != role["grade"]
            assert ("graded():" in cell.source) == role["grade"]
        else:
            assert role["solution"] and role["grade"] and len(cell.source) > 100, "a worked answer"
    assert BEGIN not in "\n".join(
        cell.source for cell in assignments[name].cells if "nbgrader" not in cell.metadata
    )


def test_a_check_raises_only_where_it_is_graded(capsys):
    with pytest.raises(AssertionError, match="Not yet: "), exercises.check.graded():
        exercises.megabytes(lambda parameters: parameters)
    exercises.megabytes(lambda parameters: parameters)
    with exercises.check.graded():
        exercises.megabytes(lambda parameters: 4e-6 * parameters)
    assert capsys.readouterr().out.splitlines()[-1] == "Right."
