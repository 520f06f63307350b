"""Run the unit tests with the lowest versions that pyproject.toml allows, and with the newest.

    python -m tools.versions [lowest] [newest] [--keep NAME ...]    # or: make test-versions

Each in a new environment, which is removed afterwards. ``lowest`` means the packages that the
project names itself; what these need in turn is as new as they allow. ``--keep`` leaves a package
as constraints.txt has it: torch, whose old builds are large and not on every machine. Warnings
are no errors here: old and new versions of others warn of one another.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from tools.toc import ROOT

ENDS = ("lowest", "newest")
EXTRAS = ("dev", "bench")
FOREIGN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_CONSTRAINT")


def canonical(name: str) -> str:
    """A package's name as indexes compare it: ``Hugging_Face`` is ``hugging-face``."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins_of(text: str) -> dict[str, str]:
    """The ``name==version`` lines of a requirements file: name -> version; others are left out."""
    found = re.findall(r"^([\w.-]+)==([^\s;#]+)[^\n;]*$", text, re.M)
    return {canonical(name): version for name, version in found}


def kept(names: Iterable[str], constraints: str) -> dict[str, str]:
    """Of a constraints file the packages that stay as they are. ValueError: it lacks one."""
    pinned = pins_of(constraints)
    if unknown := [name for name in names if canonical(name) not in pinned]:
        raise ValueError(f"constraints.txt has no single version of {', '.join(unknown)}")
    return {canonical(name): pinned[canonical(name)] for name in names}


def direct_pins(resolved: str) -> dict[str, str]:
    """Of what ``uv pip compile`` wrote, one line each, the packages that the project itself names:
    name -> version."""
    lines = [line for line in resolved.splitlines() if re.search(r"# via .*\bobce\b", line)]
    return pins_of("\n".join(line.partition("#")[0].strip() for line in lines))


def lowest(keep: dict[str, str], scratch: Path) -> dict[str, str]:
    """The lowest version of each package that the project names, as far as all go together."""
    constraints = scratch / "keep.txt"
    constraints.write_text("".join(f"{n}=={v}\n" for n, v in keep.items()), encoding="utf-8")
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "pyproject.toml"]
    command += [part for extra in EXTRAS for part in ("--extra", extra)]
    command += ["--resolution", "lowest-direct", "--annotation-style", "line", "--no-header"]
    command += ["--constraint", str(constraints)]
    done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, check=True)
    return direct_pins(done.stdout)


def tried(end: str, keep: dict[str, str]) -> bool:
    """Whether the unit tests pass in a new environment with the versions of one end."""
    started = time.monotonic()
    variables = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    variables["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory(prefix="obce-versions-") as folder:
        pins = keep | (lowest(keep, Path(folder)) if end == "lowest" else {})
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("".join(f"{n}=={v}\n" for n, v in pins.items()), encoding="utf-8")
        print(f"== {end}:", ", ".join(f"{n} {v}" for n, v in sorted(pins.items())), flush=True)
        python = Path(folder) / "env" / "bin" / "python"
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        install += ["--constraint", constraints, "--editable", f".[{','.join(EXTRAS)}]"]
        test = [python, "-m", "pytest", "tests", "-q", "-o", "filterwarnings=default"]
        test += [
            "-p",
            "no:cacheprovider",
            "-n",
            "auto",
            "--maxprocesses",
            "4",
            "--dist",
            "loadfile",
        ]
        for command in ([sys.executable, "-m", "venv", Path(folder) / "env"], install, test):
            if subprocess.run([str(part) for part in command], cwd=ROOT, env=variables).returncode:
                return False
    print(f"== {end}: passed in {(time.monotonic() - started) / 60:.1f} min", flush=True)
    return True


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("ends", nargs="*", metavar="END", help=f"{' or '.join(ENDS)}; both if none")
    parser.add_argument("--keep", nargs="*", default=[], metavar="NAME")
    options = parser.parse_args(arguments)
    if unknown := set(options.ends) - set(ENDS):
        parser.error(f"no {', '.join(sorted(unknown))}; there are {', '.join(ENDS)}")
    try:
        keep = kept(options.keep, (ROOT / "constraints.txt").read_text(encoding="utf-8"))
        failed = [end for end in options.ends or ENDS if not tried(end, keep)]
    except (ValueError, subprocess.CalledProcessError) as error:
        sys.exit(f"versions: {error}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main(sys.argv[1:])
