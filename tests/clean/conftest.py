"""Which pages run: all of them, or a sample that changes from commit to commit."""

from __future__ import annotations

import subprocess

from tools.toc import ROOT, notebooks, picked

SAMPLE = 3


def pytest_addoption(parser):
    parser.addoption(
        "--pages",
        choices=["sample", "all"],
        default="sample",
        help=f"run all pages, or {SAMPLE} that the commit picks (the default)",
    )


def commit() -> str:
    """The commit of the checkout; outside of one, nothing, which picks the same pages always."""
    command = ["git", "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def pages(config) -> list[str]:
    names = list(notebooks())
    return names if config.getoption("pages") == "all" else picked(names, commit(), SAMPLE)


def pytest_report_header(config):
    return f"pages in a clean environment, commit {commit()[:10]}: {', '.join(pages(config))}"


def pytest_generate_tests(metafunc):
    chosen = pages(metafunc.config)
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", chosen)
    if "quick_page" in metafunc.fixturenames:
        metafunc.parametrize("quick_page", [n for n in chosen if n in metafunc.module.QUICK])
