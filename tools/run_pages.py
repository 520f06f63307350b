"""Run chapters from top to bottom in fresh kernels and store their outputs.

    python -m tools.run_pages points-to-components ...   # or none: every notebook of _toc.yml

Each page's seconds go into results/book_pages.json, which the status page shows.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from obce.running.records import environment, load_record, save_record
from tools.toc import SECONDS, notebooks


def tidy(notebook: nbformat.NotebookNode, stem: str) -> None:
    """Only what a reader or a test needs is stored, so that versions compare line by line."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{stem}-{number}"
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code" and "set-up" in cell.metadata.get("tags", []):
            cell.outputs = []  # what pip says differs from machine to machine
        if cell.cell_type == "code" and "remove-stderr" in cell.metadata.get("tags", []):
            cell.outputs = [each for each in cell.outputs if each.get("name") != "stderr"]


def run(path: Path) -> float:
    """Execute one notebook in place, in its own folder. Returns the seconds it took."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=600,
        coalesce_streams=True,  # one print may arrive in two parts
        resources={"metadata": {"path": path.parent}},
    )
    start = time.perf_counter()
    client.execute()
    seconds = time.perf_counter() - start
    tidy(notebook, path.stem)
    nbformat.validate(notebook)
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    return seconds


def main(names: list[str]) -> None:
    pages = notebooks()
    unknown = set(names) - set(pages)
    if unknown:
        print(
            f"no such page: {', '.join(sorted(unknown))}; there are {', '.join(pages)}",
            file=sys.stderr,
        )
        sys.exit(2)
    record = load_record(SECONDS) if SECONDS.is_file() else {"pages": []}
    seconds = {page["name"]: page["seconds"] for page in record["pages"]}
    where = environment()  # before the first page changes, and the commit with it

    def save() -> None:
        told = [{"name": page, "seconds": seconds[page]} for page in pages if page in seconds]
        save_record({"environment": where, "pages": told}, SECONDS)

    save()  # the status page shows where the pages were run, itself among them
    for name in names or pages:
        seconds[name] = round(run(pages[name]), 1)
        print(f"{name}: {seconds[name]:.0f} s", flush=True)
        save()


if __name__ == "__main__":
    main(sys.argv[1:])
