"""The files that say which versions the project needs, and which commands it has, agree."""

from __future__ import annotations

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import typer
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import obce
import obce.cli

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
CODE_IN_README = "\n".join(re.findall(r"`+[^`]+`+", README))
EVERYTHING = ("chapters", "offline", "book", "onnx", "dev", "bench")
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def requirements(lines: list[str]) -> dict[str, Requirement]:
    """Requirements by name; the project's references to its own extras left out."""
    found = {canonicalize_name(r.name): r for r in map(Requirement, lines)}
    found.pop("obce", None)
    return found


def extra(*names: str) -> dict[str, Requirement]:
    extras = PROJECT["optional-dependencies"]
    return requirements([line for name in names for line in extras[name]])


CORE = requirements(PROJECT["dependencies"])
CONDA = [line for line in ENVIRONMENT["dependencies"] if isinstance(line, str)]
PIP = next(line["pip"] for line in ENVIRONMENT["dependencies"] if isinstance(line, dict))


def pins(python: str) -> dict[str, str]:
    """name -> pinned version in constraints.txt on this Python. A name pinned twice fails."""
    found: dict[str, str] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        pin = Requirement(line)
        if pin.marker and not pin.marker.evaluate({"python_version": python}):
            continue
        (specifier,) = pin.specifier
        assert specifier.operator == "==", line
        assert canonicalize_name(pin.name) not in found, line
        found[canonicalize_name(pin.name)] = specifier.version
    return found


def test_environment_agrees_with_pyproject():
    wanted = CORE | extra("chapters", "offline", "book", "onnx", "dev")
    listed = requirements([line for line in PIP if not line.startswith("-")])
    assert {n: str(r) for n, r in listed.items()} == {n: str(r) for n, r in wanted.items()}
    assert "--editable ." in PIP
    assert f"python{PROJECT['requires-python']}" in CONDA


def test_extras_that_repeat_a_package_repeat_its_bounds():
    bounds: dict[str, str] = {}
    for requirement in [r for e in PROJECT["optional-dependencies"] for r in extra(e).values()]:
        assert bounds.setdefault(requirement.name, str(requirement)) == str(requirement)


def test_only_jupyter_book_has_an_upper_bound():
    for name, requirement in (CORE | extra(*EVERYTHING)).items():
        operators = {s.operator for s in requirement.specifier}
        assert operators == ({">=", "<"} if name == "jupyter-book" else {">="}), str(requirement)


@pytest.mark.parametrize("python", PYTHONS)
def test_everything_asked_for_is_pinned_within_its_bounds(python):
    pinned = pins(python)
    for name, requirement in (CORE | extra(*EVERYTHING)).items():
        if not requirement.marker or requirement.marker.evaluate({"python_version": python}):
            assert requirement.specifier.contains(pinned[name]), f"{requirement}: {pinned[name]}"


def test_torch_and_transformers_are_pinned_as_the_design_says():
    assert pins("3.11")["torch"] == "2.13.0"
    assert "pip install torch==2.13.0" in README
    assert pins("3.11")["transformers"].startswith("5.")


def test_every_import_of_the_package_is_declared():
    declared = CORE | extra("offline", "chapters", "onnx")
    distributions = packages_distributions()
    for path in (ROOT / "obce").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules = [node.module]
            else:
                continue
            for module in {m.split(".")[0] for m in modules} - {"obce", *sys.stdlib_module_names}:
                # one that a newer Python has no use for is not installed here
                names = {canonicalize_name(n) for n in distributions.get(module, [module])}
                assert names & set(declared), f"{path.name} imports {module}"


def test_versions_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"] == obce.__version__
    assert citation["license"] == PROJECT["license"] == "MIT"


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    shown = set(re.findall(r"\bmake ([a-z-]+)\b", CODE_IN_README))
    assert {"demo", "test", "book"} <= shown <= targets


def test_commands_of_the_readme_exist():
    commands = typer.main.get_command(obce.cli.app).commands
    shown = re.findall(r"\bobce ([a-z]+)(.*)", CODE_IN_README)
    assert {"analyze", "compress", "finetune", "evaluate", "demo"} <= {name for name, _ in shown}
    for name, rest in shown:
        command = commands[name]
        if hasattr(command, "commands") and rest.strip("` "):  # a group: obce study run
            command = command.commands[rest.split()[0]]
        options = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"--[a-z][a-z0-9-]*", rest)) <= options, f"obce {name}{rest}"
