"""Copies of the pages without solutions: student/book/NAME.ipynb, what the Colab buttons open.

    python -m tools.make_student [NAME ...]    # no name: every notebook of _toc.yml

Outputs go; what stands between ``### BEGIN SOLUTION`` and ``### END SOLUTION`` (nbgrader's marks)
becomes ``...``; the words of a solution go; the checks stay, and so do cells that print what the
reader's own answer gives. MyST turns into plain Markdown, so that the copy reads well in Jupyter
and Colab without any extension; what the page cites is listed at its end.

    python -m tools.make_student --nbgrader [NAME ...]    # no name: every chapter

writes a course folder for nbgrader, _build/course. There the solutions stay, each answer and its
check are cells of their own with nbgrader's metadata, a check raises when the answer is wrong,
and an exercise without a check is a cell to be graded by hand.
"""

from __future__ import annotations

import copy
import re
import sys
from pathlib import Path

import nbformat
import yaml
from pybtex.database import BibliographyData, parse_file
from pybtex.plugin import find_plugin
from pybtex.richtext import Text

from tools.toc import ROOT, chapters, notebooks, sources, title

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
FOLDER = ROOT / "student" / "book"  # _config.yml's path_to_book is the folder above it
COURSE = ROOT / "_build" / "course"
COURSE_CONFIG = """\
c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "obce"
c.ClearSolutions.code_stub = {"python": "..."}
c.ClearSolutions.text_stub = "*Write your answer here.*"
c.Execute.timeout = 600  # seconds for a cell; nbgrader gives 30, and some load a model
c.Execute.iopub_timeout = 60
"""
CHECK = re.compile(r"^exercises\.(\w+)\(.+\)$", re.M)
NOTE = (
    "> This copy is yours to fill in. Where a function holds `...`, write your answer, run the"
    " cell, and read what it says: *Right.*, or *Not yet* and why."
)
ADDRESS = (
    "> A page whose title stands in *italics*, without a link, has no copy beside this one. You"
    " find it, and files such as `results/rules.py`, in the project of the book: <{}>"
)
SET_UP = "# Skip this cell if obce is installed. How to install it: {}\n"
FENCE = re.compile(r"^(?P<marks>:{3,}|`{3,})\{(?P<name>[\w:-]+)\} *(?P<title>.*)$")
ROLE = re.compile(r"\{([\w:-]+)\}`([^`]+)`")
ROLES = "doc|ref|numref|eq|term|abbr|math|cite(?::t)?|prf:ref|py:\\w+"
ROLE_IN_CODE = re.compile(rf"\{{{{1,2}}({ROLES})\}}{{1,2}}`([^`]+)`")  # in f"..." doubled
NUMBERED = {"exercise": "Exercise", "exercise-start": "Exercise"} | {
    f"prf:{kind}": kind.capitalize()
    for kind in (
        *("algorithm", "axiom", "conjecture", "corollary", "criterion", "definition", "example"),
        *("lemma", "observation", "property", "proposition", "remark", "theorem"),
    )
}


def without_solutions(code: str) -> str:
    """What stands between the marks becomes ``...``. ValueError: a mark has no partner."""
    kept, inside = [], False
    for line in code.split("\n"):
        if line.strip() in (BEGIN, END):
            if inside == (line.strip() == BEGIN):
                raise ValueError(f"{line.strip()} without its partner")
            inside = not inside
            if inside:
                kept.append(line.replace(BEGIN, "..."))
        elif not inside:
            kept.append(line)
    if inside:
        raise ValueError(f"{BEGIN} without its partner")
    return "\n".join(kept)


def directive(lines: list[str], start: int) -> tuple[str, str, dict, list[str], int]:
    """Name, title, options and body of the directive at ``start``, and the line after it."""
    opened = FENCE.match(lines[start])
    stop = start + 1
    inner: list[str] = []  # fences of the same length may stand inside: :::{note} in :::{exercise}
    while stop < len(lines):
        line = lines[stop].rstrip()
        if line == opened["marks"] and not inner:
            break
        if inner and line == inner[-1]:
            inner.pop()
        elif (fence := FENCE.match(line)) and fence["marks"][0] == ":":
            inner.append(fence["marks"])
        stop += 1
    else:
        raise ValueError(f"{lines[start]} is never closed")
    body, options = lines[start + 1 : stop], {}
    while body and (option := re.match(r"^:([\w-]+): *(.*)$", body[0])):
        options[option[1]] = option[2]
        body = body[1:]
    return opened["name"], opened["title"].strip(), options, body, stop + 1


class Labels:
    """What the labels of all chapters stand for: ``def-ball`` -> "Definition 1.2"."""

    def __init__(
        self,
        bibliography: BibliographyData,
        pages: dict[str, str],
        links: dict[str, str] | None = None,
        address: str = "",
    ) -> None:
        self.texts: dict[str, str] = {}
        self.pages = pages  # name -> title
        self.links = links or {}  # name -> where its copy lies, seen from another copy
        self.address = address  # of the project
        self.counts: dict[tuple[str, int], int] = {}
        self.bibliography = bibliography
        self.cited: set[str] = set()  # keys, until :meth:`references` lists them

    def number(self, kind: str, chapter: int, label: str | None) -> str:
        """Count one more of a kind."""
        self.counts[kind, chapter] = self.counts.get((kind, chapter), 0) + 1
        number = self.counts[kind, chapter]
        text = f"{kind} {chapter}.{number}" if chapter else f"{kind} {number}"
        if label:
            self.texts[label] = text
        return text

    def read(self, notebook, chapter: int) -> None:
        """Number all that has a label, in the order of the page."""
        for cell in notebook.cells:
            figure = cell.metadata.get("mystnb", {}).get("figure")
            if figure and figure.get("name"):
                cell.metadata["figure"] = self.number("Figure", chapter, figure["name"])
            lines = cell.source.split("\n") if cell.cell_type == "markdown" else []
            for position, line in enumerate(lines):
                if label := re.match(r"^\(([^)]+)\)=$", line):
                    heading = next((x for x in lines[position + 1 :] if x.startswith("#")), "")
                    self.texts[label[1]] = heading.lstrip("# ") or "the place above"
                fence = FENCE.match(line)
                if fence and (fence["name"] in NUMBERED or fence["name"] == "figure"):
                    label = next((o[1] for o in map(_label, lines[position + 1 :][:4]) if o), None)
                    self.number(NUMBERED.get(fence["name"], "Figure"), chapter, label)

    def _names(self, key: str) -> list[str]:
        """The last names of who wrote it; none if the bibliography does not know it."""
        if key not in self.bibliography.entries:
            return []
        persons = self.bibliography.entries[key].persons
        people = persons.get("author") or persons.get("editor") or []
        return [str(Text.from_latex(" ".join(person.last_names))) for person in people]

    def _cited(self, key: str, form: str = "{} {}", before: str = "") -> str:
        """Gower and Ross 1969; the year alone if the text before has just named them; the key
        itself if the bibliography does not know it."""
        entry = self.bibliography.entries.get(key)
        if entry is None:
            return key
        self.cited.add(key)
        names, year = self._names(key), entry.fields.get("year", "")
        listed = ", ".join(names[:-1]) + " and " * (len(names) > 1) + "".join(names[-1:])
        said = " ".join(before.split())
        for told in (listed, f"{(names or [''])[0]} and others"):
            if year and told and re.search(rf"(?<!\w){re.escape(told)}$", said):
                return year
        short = f"{names[0]} et al." if len(names) > 2 else listed
        return form.format(short or key, year).strip()

    def references(self) -> str:
        """The list of all that was cited since the last call, in Markdown; empty if nothing."""
        keys = sorted(self.cited, key=self._cited)
        self.cited.clear()
        style = find_plugin("pybtex.style.formatting", "unsrt")()
        lines = []
        for entry in style.format_entries([self.bibliography.entries[key] for key in keys]):
            text = " ".join(entry.text.render_as("markdown").split())
            text = re.sub(r"\\([-.()!#+{}])", r"\1", text)  # pybtex escapes more than is needed
            lines.append(f"- **{self._cited(entry.key)}.** {text}")
        self.cited.clear()
        return "\n".join(["## References", "", *lines]) if lines else ""

    def page(self, name: str, text: str | None) -> str:
        """A link to the copy of a page, or its title in italics where there is no copy."""
        shown = text or self.pages.get(name, name)
        if name in self.links:
            return f"[{shown}]({self.links[name]})"
        return shown if text else f"*{shown}*"

    def role(self, match: re.Match) -> str:
        """A role as plain words."""
        name, content = match[1], match[2]
        shown = re.match(r"^(.*?)\s*<([^>]+)>$", content, re.S)
        text, target = (shown[1], shown[2]) if shown else (None, content)
        if name.startswith("cite:t"):
            return "; ".join(self._cited(key.strip(), "{} ({})") for key in content.split(","))
        if name.startswith("cite"):
            before = match.string[: match.start()]
            keys = [key.strip() for key in content.split(",")]
            return f"({'; '.join(self._cited(key, before=before) for key in keys)})"
        if name == "math":
            return f"${content}$"
        if name in ("ref", "numref", "prf:ref", "eq"):
            known = self.texts.get(target, "the equation" if name == "eq" else target)
            if text is None:
                return known
            return re.sub(r"%s|\{number\}", known.split()[-1], text)
        if name == "doc":
            return self.page(Path(target).name, text)
        if name in ("term", "abbr"):
            return text or target
        return f"`{(text or target).lstrip('~')}`"


def _label(line: str) -> re.Match | None:
    return re.match(r"^:(?:label|name): *(\S+)$", line)


def plain(text: str, labels: Labels) -> str:
    """Markdown without directives, roles and targets; code is left as it is."""
    lines, done, position = text.split("\n"), [], 0
    while position < len(lines):
        line = lines[position]
        if FENCE.match(line):
            name, title, options, body, position = directive(lines, position)
            done += written(name, title, options, "\n".join(body), labels).split("\n") + [""]
        elif code := re.match(r"^\s*(```+|~~~+)", line):
            done.append(line)
            position += 1
            while position < len(lines) and not lines[position].strip().startswith(code[1]):
                done.append(lines[position])
                position += 1
            done += lines[position : position + 1]
            position += 1
        else:
            position += 1
            if not re.match(r"^\([^)]+\)=$|^%( |$)|^\+\+\+", line):
                done.append(line)
    return "\n".join(done).strip("\n")


def words(text: str, labels: Labels) -> str:
    """Roles and links to labels as plain words, to pages as links; blocks of code are left."""
    pieces = re.split(r"(^```.*?^```$)", text, flags=re.S | re.M)
    for i in range(0, len(pieces), 2):
        piece = ROLE.sub(labels.role, pieces[i])
        piece = re.sub(
            r"\[([^]]*)\]\(#?([\w-]+)\)",
            lambda m: m[1] or labels.texts.get(m[2], m[2]) if m[2] in labels.texts else m[0],
            piece,
        )
        pieces[i] = re.sub(
            r"\[([^]]+)\]\((?!https?:|\.\./)([\w./-]+)\.(?:md|ipynb)(?:#\S*)?\)",
            lambda m: labels.page(Path(m[2]).name, m[1]),
            piece,
        )
    return "".join(pieces)


def written(name: str, title: str, options: dict, body: str, labels: Labels) -> str:
    """One directive as plain Markdown."""
    inside = plain(body, labels).strip("\n")
    if name in ("exercise-end", "solution-start", "solution-end", "solution", "toctree"):
        return ""
    if name in NUMBERED:
        known = labels.texts.get(options.get("label", ""), NUMBERED[name])
        head = f"**{known} ({title})**" if title else f"**{known}**"
        return f"{head}\n\n{inside}".rstrip()
    if name == "prf:proof":
        return f"*Proof.* {inside}"
    if name == "math":
        return f"$$\n{inside}\n$$"
    if name in ("code", "code-block", "code-cell"):
        return f"```{title}\n{body}\n```"
    if name in ("figure", "image"):
        return f"![{options.get('alt', '')}]({title})\n\n{inside}".rstrip()
    if name in ("table", "eval-rst", "div", "container"):
        return f"**{title}**\n\n{inside}" if name == "table" and title else inside
    if "dropdown" in options.get("class", ""):  # HTML is what notebooks can fold
        return f"<details><summary>{title}</summary>\n\n{inside}\n\n</details>"
    quoted = f"**{title or name.capitalize()}**\n\n{inside}"  # admonitions of all sorts
    return "\n".join(f"> {line}".rstrip() for line in quoted.split("\n"))


def by_nbgrader(name: str, **role) -> dict:
    """nbgrader's metadata for a cell."""
    roles = {"grade": False, "solution": False, "locked": False, "task": False} | role
    return {"nbgrader": {"schema_version": 3, "grade_id": name, **roles}}


def answer_and_check(cell, points: int) -> list:
    """The cell of a solution as two: the answer with its marks, and a check that raises."""
    check = CHECK.search(cell.source)
    if check is None:
        raise ValueError(f"a solution has no check: {cell.source[:60]!r}")
    answer, test = copy.deepcopy(cell), copy.deepcopy(cell)
    answer.source = cell.source[: check.start()].rstrip()
    answer.metadata = by_nbgrader(check[1], solution=True)
    test.source = f"with exercises.check.graded():\n    {check[0]}"
    test.metadata = by_nbgrader(f"check-{check[1]}", grade=True, locked=True, points=points)
    test.id = f"{cell.id}-check"[-64:]
    return [answer, test]


class Exercises:
    """Where the reader of a page's cells stands: which exercise was asked, which is being solved.

    ``graded``: solutions that are words are kept, for the teacher's copy.
    """

    def __init__(self, graded: bool) -> None:
        self.graded = graded
        self.solving: str | None = None  # its label
        self.checked = False  # whether it has a check
        self.answers: list[str] = []  # the functions that the reader writes for it
        self.words: list[str] = []  # of the solution
        self.points: dict[str, int] = {}  # label -> difficulty

    def ask(self, text: str) -> None:
        asked = r":label: (ex-[\w-]+)\n:::\s+\*Difficulty (\d)"
        self.points |= {label: int(points) for label, points in re.findall(asked, text)}

    def split(self, text: str) -> list[str]:
        """The pieces of a cell outside of solutions; those inside are remembered."""
        self.ask(text)
        outside = [""]
        for part in re.split(r"^(:{3,}\{solution-(?:start|end)\}[^\n]*)\n", text, flags=re.M):
            mark = re.match(r":{3,}\{solution-(start|end)\} *([\w-]*)", part)
            if mark and mark[1] == "start":
                self.solving, self.checked = mark[2], False
                self.words, self.answers = [], []
            elif mark:
                if not self.checked:
                    outside += [f"answer {self.solving}", ""]
                self.solving = None
            elif self.solving:
                self.words.append(re.sub(r"\A(:class: \w+\n)?:{3,} *$", "", part, flags=re.M))
            else:  # after solution-end, its closing line is left over
                outside[-1] += re.sub(r"\A *\n?:{3,} *$", "", part, flags=re.M)
        return outside

    def drop(self, code: str) -> bool:
        """Whether a cell of code goes with the solution.

        Cells with the answer or its check stay, and those that call what the reader has written.
        """
        if not self.solving or BEGIN in code or "exercises." in code:
            return False
        return not any(re.search(rf"\b{name}\(", code) for name in self.answers)


def student(notebook, labels: Labels, graded: bool = False):
    """The copy of one page; with ``graded``, nbgrader's source of it.

    ValueError: marks or directives without their partner.
    """
    made: list = []
    exercises = Exercises(graded)

    def text_cell(cell, text: str, suffix: str, metadata: dict | None = None) -> None:
        text = words(plain(text, labels), labels)
        text = re.sub(r"\n{3,}", "\n\n", text).strip()
        if text:
            new = nbformat.v4.new_markdown_cell(text, metadata=metadata or {})
            new.id = f"{cell.id}{suffix}"[-64:]  # the same every time
            made.append(new)

    for cell in copy.deepcopy(notebook.cells):
        if cell.cell_type == "markdown":
            for number, piece in enumerate(exercises.split(cell.source)):
                suffix = f"-{number}" if number else ""
                if number % 2 == 0:
                    text_cell(cell, piece, suffix)
                    continue
                label = piece.removeprefix("answer ")
                points = exercises.points.get(label, 1)
                metadata = by_nbgrader(label, grade=True, solution=True, points=points)
                if graded:
                    text_cell(cell, "\n\n".join(exercises.words), suffix, metadata)
                else:
                    text_cell(cell, "**Your answer.** *Write it here.*", suffix)
            continue
        if exercises.drop(cell.source):
            continue
        cell.source = re.sub(r"^# NBVAL_\w+\n", "", cell.source, flags=re.M)  # for our tests only
        marked = BEGIN in cell.source
        if marked:
            exercises.answers += re.findall(r"^def (\w+)\(", cell.source, re.M)
        points = exercises.points.get(exercises.solving or "", 1)
        exercises.checked |= marked or bool(CHECK.search(cell.source))
        cell.outputs, cell.execution_count = [], None
        cleared = without_solutions(cell.source)
        if "Markdown(" in cell.source:
            cleared = ROLE_IN_CODE.sub(labels.role, cleared)
        figure = cell.metadata.get("figure", "Figure")
        caption = cell.metadata.get("mystnb", {}).get("figure", {}).get("caption")
        if graded and marked:
            made += answer_and_check(cell, points)
            continue
        tags = cell.metadata.get("tags", [])
        cell.source, cell.metadata = cleared, {"tags": tags} if tags else {}
        if "set-up" in tags:
            cell.source = SET_UP.format(labels.address) + cell.source
        if "hide-input" in tags:  # Jupyter and Colab fold such a cell, as the book does
            cell.metadata |= {"jupyter": {"source_hidden": True}, "cellView": "form"}
        made.append(cell)
        if caption:
            text_cell(cell, f"*{figure}.* {caption}", "-caption")
    if exercises.solving:
        raise ValueError("a solution is never ended")
    if references := labels.references():
        made.append(nbformat.v4.new_markdown_cell(references, id="references"))
    notes = [NOTE] if exercises.points and not graded else []
    made[0].source += "\n\n" + "\n>\n".join([*notes, ADDRESS.format(labels.address)])
    result = copy.deepcopy(notebook)
    result.cells = made
    nbformat.validate(result)
    return result


def make(names: list[str], out: Path, root: Path = ROOT, graded: bool = False) -> list[Path]:
    """Write the copies of the named pages, of all when none is named.

    With ``graded``, a course folder for nbgrader: ``out/source/NAME/NAME.ipynb`` of each chapter.
    """
    numbers = chapters(root)
    pages = {page: numbers.get(page, 0) for page in (numbers if graded else notebooks(root))}
    if unknown := set(names) - set(pages):
        raise ValueError(f"no page {', '.join(sorted(unknown))}; there are {', '.join(pages)}")
    titles = {Path(name).name: title(file) for name, file in sources(root).items()}
    links = {page: f"../{page}/{page}.ipynb" if graded else f"{page}.ipynb" for page in pages}
    address = yaml.safe_load((root / "_config.yml").read_text("utf-8"))["repository"]["url"]
    bibliography = parse_file(root / "book" / "references.bib")
    labels = Labels(bibliography, titles, links, address)
    read = {}
    for name, number in pages.items():
        read[name] = nbformat.read(root / "book" / f"{name}.ipynb", as_version=4)
        labels.read(read[name], number)
    files = []
    for name in names or pages:
        try:
            text = nbformat.writes(student(read[name], labels, graded))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        files.append((out / "source" / name if graded else out) / f"{name}.ipynb")
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        files[-1].write_text(text + "\n", encoding="utf-8")
    if graded:
        (out / "nbgrader_config.py").write_text(COURSE_CONFIG, encoding="utf-8")
    return files


if __name__ == "__main__":
    graded = "--nbgrader" in sys.argv
    chosen = [name for name in sys.argv[1:] if name != "--nbgrader"]
    try:
        written_files = make(chosen, COURSE if graded else FOLDER, graded=graded)
    except (OSError, ValueError) as error:
        print(f"make_student: {error}", file=sys.stderr)
        sys.exit(2)
    print(*written_files, sep="\n")
