"""The house: which module may import which. The method on top, wings around it, no circle."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the ground up: a module imports what stands on lines above its own, or on its own line.
LAYERS = (
    ("obce.base",),
    ("obce.units", "obce.texts", "obce.homology"),
    ("obce.activations", "obce.readings"),
    ("obce.layer_scores",),
    ("obce.scores",),
    ("obce.pruning",),
    ("obce.modeling",),
    ("obce.surgery",),
    ("obce.repairs", "obce.pairs"),
    ("obce.tasks",),
    ("obce.running",),
    ("obce.plots",),
    ("obce.explain",),
    ("obce.jobs", "obce.study"),
    ("obce.cli", "obce.book"),
)
STATIONS = """activations homology layer_scores modeling pairs pruning readings repairs scores
surgery texts units""".split()
LINES = 2740  # of code; the scores of a layer and the pairs are stations, too


def name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name(path): path for path in sorted((ROOT / "obce").rglob("*.py"))}
INNER = {module: path for module, path in MODULES.items() if module.count(".")}


def imported(path: Path) -> set[str]:
    """The modules of obce that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {each if each in MODULES else node.module for each in inside}
    return {each for each in found if each.split(".")[0] == "obce"}


def floor(module: str) -> int:
    (found,) = (
        number
        for number, layer in enumerate(LAYERS)
        if any(module == each or module.startswith(f"{each}.") for each in layer)
    )
    return found


@pytest.mark.parametrize("module", [m for m in INNER if m != "obce.__main__"])
def test_imports_go_down(module):
    for other in imported(INNER[module]) - {"obce"}:
        assert floor(other) <= floor(module), f"{module} imports {other}"


def test_no_circle():
    graph = {module: imported(path) & set(INNER) for module, path in INNER.items()}
    left = dict(graph)
    while left:
        leaves = {module for module, wanted in left.items() if not wanted & (set(left) - {module})}
        assert leaves, f"a circle among {', '.join(sorted(left))}"
        left = {module: wanted for module, wanted in left.items() if module not in leaves}


def test_nothing_but_the_book_and_the_command_line_stands_above_the_jobs():
    for module, path in INNER.items():
        if not module.startswith("obce.book"):
            assert not any(other.startswith("obce.book") for other in imported(path)), module


def test_on_top_lie_the_stations_and_they_are_thin():
    top = {path.stem for path in (ROOT / "obce").glob("*.py")} - {"__init__", "__main__", "cli"}
    assert top == set(STATIONS)
    lines = 0
    for station in STATIONS:
        path = ROOT / "obce" / f"{station}.py"
        tree = ast.parse(path.read_text(encoding="utf-8"))
        spoken = {
            line
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
            for line in range(node.lineno, node.end_lineno + 1)
        }
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            lines += (
                bool(line.strip()) and not line.strip().startswith("#") and number not in spoken
            )
    assert lines <= LINES, lines


def test_no_file_reaches_into_another_by_sys_path():
    for folder in ("obce", "tests", "tools", "benchmarks", "results"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"sys\.path(\[|\.(insert|append|extend)| *\+?=)", text), path


def test_pages_only_in_the_book():
    programs = (ROOT / "book").rglob("*.py")
    assert {path.parent.name for path in programs} == {"_ext"}  # Sphinx's
