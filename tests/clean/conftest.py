"""Which pages run: all of them, or a sample that changes from commit to commit."""

from __future__ import annotations

from tools.toc import notebooks, sample

SAMPLE = 1


def pages(config) -> list[str]:
    names = list(notebooks())
    return names if config.getoption("pages") == "all" else sample(names, SAMPLE)


def pytest_report_header(config):
    return f"pages in a clean environment: {', '.join(pages(config))}"


def pytest_generate_tests(metafunc):
    chosen = pages(metafunc.config)
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", chosen)
    if "quick_page" in metafunc.fixturenames:
        metafunc.parametrize("quick_page", [n for n in chosen if n in metafunc.module.QUICK])
