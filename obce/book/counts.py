"""The counts of a stress record as tables, and which of them should have been 0."""

from __future__ import annotations

from typing import Any

from obce.running.tables import markdown_table

# What must be 0, and how a reader is told.
KILLS = {
    "jobs_lost": "jobs lost", "results_changed": "results changed", "leftovers": "files left over",
    "tracebacks": "answers other than one line", "hung": "jobs that did not stop",
}  # fmt: skip
DISKS = {
    "not_one_line": "answers other than one line", "half_written": "files half written",
    "jobs_lost": "jobs lost", "results_changed": "results changed",
}  # fmt: skip
PAIRS = {
    "both_succeeded": "both said that they had succeeded", "neither_succeeded": "neither did",
    "not_one_line": "answers other than one line", "results_changed": "results changed",
}  # fmt: skip
FOREIGN = {"ran_code": "ran its code", "carried_on": "carried its code on"}
NETWORK = {"failed": "failed", "connections": "connections attempted"}
MUST_BE_ZERO = {
    "kills": KILLS, "disks": DISKS, "pairs": PAIRS, "foreign": FOREIGN, "network": NETWORK,
}  # fmt: skip
LOADERS = {
    "plan": "plans", "scores": "scores", "record": "records", "config": "configurations",
    "glue": "GLUE's TSV files", "own_data": "own data files",
}  # fmt: skip
OUTCOMES = {
    "refused": "refused", "same_meaning": "same meaning", "other_valid": "another valid file",
    "nonsense": "nonsense accepted", "other_exceptions": "other exceptions",
}  # fmt: skip


def table(record: dict[str, Any]) -> str:
    """Two Markdown tables: what was done to jobs, and to files."""
    parts = record["parts"]
    rows = [["what was done", "how often", "what must not happen, and how often it did"]]
    for name, what in (
        ("kills", "jobs killed at a random moment"),
        ("disks", "disks that became full"),
        ("pairs", "two jobs in one folder"),
        ("foreign", "checkpoints that want code run"),
        ("network", "commands on local models, with no network"),
    ):
        if name in parts:
            counts = parts[name]
            often = sum(counts["kills"].values()) if name == "kills" else counts[_count(name)]
            wrong = ", ".join(f"{text} {counts[n]}" for n, text in MUST_BE_ZERO[name].items())
            rows.append([what, f"{often:,}", wrong])
    files = [["mutated files", "how many", *OUTCOMES.values()]]
    for name, what in LOADERS.items():
        if name in parts:
            counts = parts[name]
            total = sum(counts[outcome] for outcome in OUTCOMES)
            files.append([what, f"{total:,}", *[f"{counts[outcome]:,}" for outcome in OUTCOMES]])
    return f"{markdown_table(rows)}\n\n{markdown_table(files)}"


def _count(part: str) -> str:
    return {"disks": "full", "foreign": "checkpoints", "network": "commands"}.get(part, part)


def bad(record: dict[str, Any]) -> list[str]:
    """A line for each count that should have been 0 and was not."""
    found = []
    for part, counts in record["parts"].items():
        names = MUST_BE_ZERO.get(part) or ("nonsense", "other_exceptions")
        more = counts.get("examples") or counts.get("said") or ""
        found += [f"{part}: {name} {counts[name]} {more}" for name in names if counts[name]]
    return found
