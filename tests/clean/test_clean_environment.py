"""Pages run as in Colab: in an environment that has only what their set-up cell installs.

The package is the wheel of this checkout, the other versions are those of constraints.txt.
Pages run one after another in one environment: the first set-up cell installs, the later ones
find everything there. Each starts in an empty folder, far from the checkout. Which pages run is
conftest.py's to say.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import obce
from tools.make_student import BEGIN, make
from tools.toc import ROOT, notebooks

NOTEBOOKS = notebooks()
CHAPTERS = [name for name in NOTEBOOKS if BEGIN in NOTEBOOKS[name].read_text(encoding="utf-8")]
# A copy for students runs all that its page runs: those that train a model would double the time.
QUICK = [name for name in CHAPTERS if "finetune(" not in NOTEBOOKS[name].read_text("utf-8")]
FOREIGN = ("OBCE_GLUE_DIR", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
VERSION = f"{obce.__version__}+checkout"  # which no index can hold
INSTALL_SECONDS = 1800  # torch is large


class Clean:
    """A virtual environment with a kernel and nothing else; ``variables`` are its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "env" / "bin" / "python"
        self.variables = {k: v for k, v in os.environ.items() if k not in FOREIGN}
        self.variables["PATH"] = f"{self.python.parent}{os.pathsep}{self.variables['PATH']}"
        self.run(sys.executable, "-m", "venv", folder / "env")
        pins = ROOT / "constraints.txt"
        self.run(self.python, "-m", "pip", "install", "--quiet", "-c", pins, "ipykernel")
        wheel = self._wheel()
        constraints = folder / "constraints.txt"
        ours = f"--find-links {wheel.parent.as_uri()}\nobce=={VERSION}\n"
        constraints.write_text(f"{pins.read_text('utf-8')}\n{ours}", "utf-8")
        # `%pip install "obce[chapters]"` then means this wheel, whatever an index may hold
        self.variables["PIP_CONSTRAINT"] = str(constraints)
        self.variables["PIP_NO_WARN_SCRIPT_LOCATION"] = "1"
        spec = folder / "kernels" / "clean" / "kernel.json"
        spec.parent.mkdir(parents=True)
        command = [str(self.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        spec.write_text(
            json.dumps({"argv": command, "display_name": "clean", "language": "python"}),
            encoding="utf-8",
        )

    def run(self, *command) -> str:
        done = subprocess.run(
            [str(part) for part in command],
            env=self.variables,
            cwd=self.folder,
            text=True,
            capture_output=True,
            timeout=INSTALL_SECONDS,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _wheel(self) -> Path:
        """Built from a copy, so that nothing that lies in the checkout gets into it."""
        source = self.folder / "source"
        source.mkdir()
        for name in ("obce", "results"):
            shutil.copytree(
                ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        for name in ("README.md", "LICENSE"):
            shutil.copy(ROOT / name, source)
        project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        (source / "pyproject.toml").write_text(
            project.replace(f'version = "{obce.__version__}"', f'version = "{VERSION}"', 1), "utf-8"
        )
        out = self.folder / "wheel"
        self.run(self.python, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", out, source)
        (wheel,) = out.glob("obce-*.whl")
        return wheel

    def execute(self, file: Path) -> nbformat.NotebookNode:
        """Run a notebook; the first cell with an error fails the test with its traceback."""
        empty = self.folder / "work" / file.parent.name / file.stem
        empty.mkdir(parents=True)
        notebook = nbformat.read(file, as_version=4)
        client = NotebookClient(
            notebook,
            kernel_name="clean",
            timeout=INSTALL_SECONDS,
            resources={"metadata": {"path": str(empty)}},
        )
        client.execute(env=self.variables)
        assert not list(empty.iterdir()), "a page leaves files where the reader works"
        return notebook


@pytest.fixture(scope="session")
def clean(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clean")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder))  # where Jupyter finds the kernel
        yield Clean(folder)


@pytest.fixture(scope="session")
def copies(tmp_path_factory):
    return make([], tmp_path_factory.mktemp("student"))


def printed(notebook) -> str:
    outputs = [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs]
    return "".join(output.get("text", "") for output in outputs)


def test_the_environment_starts_empty(clean):
    listed = json.loads(clean.run(clean.python, "-m", "pip", "list", "--format", "json"))
    assert not {"obce", "torch", "numpy", "matplotlib"} & {package["name"] for package in listed}


def test_page_runs(page, clean):
    told = printed(clean.execute(NOTEBOOKS[page]))
    assert "Not yet:" not in told
    if page in CHAPTERS:
        assert "Right." in told


def test_the_package_is_this_checkout(clean):
    listed = json.loads(clean.run(clean.python, "-m", "pip", "list", "--format", "json"))
    assert [p["version"] for p in listed if p["name"] == "obce"] == [VERSION]


def test_student_copy_runs_and_says_not_yet(quick_page, clean, copies):
    (file,) = [file for file in copies if file.stem == quick_page]
    told = printed(clean.execute(file))
    wanted = NOTEBOOKS[quick_page].read_text(encoding="utf-8").count(BEGIN)
    assert told.count("Not yet:") == wanted and "Right." not in told


@pytest.mark.long
def test_nbgrader_hands_out_and_grades_an_assignment(clean, tmp_path):
    """The real nbgrader: full marks for right answers, none for a copy that nobody filled in."""
    clean.run(clean.python, "-m", "pip", "install", "--quiet", "nbgrader", "obce[chapters]")
    name = CHAPTERS[0]
    (source,) = make([name], tmp_path, graded=True)

    def nbgrader(*arguments: str) -> None:
        done = subprocess.run(
            [clean.python.parent / "nbgrader", *arguments],
            env=clean.variables,
            cwd=tmp_path,
            text=True,
            capture_output=True,
            timeout=INSTALL_SECONDS,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    nbgrader("generate_assignment", name, "--create")
    released = tmp_path / "release" / name / f"{name}.ipynb"
    assert "SOLUTION" not in released.read_text(encoding="utf-8")
    answers = {
        cell.metadata["nbgrader"]["grade_id"]: cell.source
        for cell in nbformat.read(source, as_version=4).cells
        if cell.metadata.get("nbgrader", {}).get("solution")
    }
    for student in ("blank", "right"):
        notebook = nbformat.read(released, as_version=4)
        for cell in notebook.cells:
            role = cell.metadata.get("nbgrader", {})
            if student == "right" and role.get("solution"):
                cell.source = answers[role["grade_id"]]
        handed_in = tmp_path / "submitted" / student / name / f"{name}.ipynb"
        handed_in.parent.mkdir(parents=True)
        nbformat.write(notebook, handed_in)
    nbgrader("autograde", name)
    nbgrader("export")
    with (tmp_path / "grades.csv").open(newline="", encoding="utf-8") as file:
        scores = {row["student_id"]: float(row["raw_score"]) for row in csv.DictReader(file)}
    points = [
        role["points"]
        for cell in nbformat.read(source, as_version=4).cells
        if (role := cell.metadata.get("nbgrader", {})).get("grade") and not role["solution"]
    ]
    assert scores == {"blank": 0, "right": sum(points)}
