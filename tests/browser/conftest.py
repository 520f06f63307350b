"""The built book in a real browser."""

from __future__ import annotations

import pytest

from tools import browser as chromium
from tools.toc import ROOT, sample, sources

SITE = ROOT / "_build" / "html"
SAMPLE = 3


def pytest_collection_modifyitems(config, items):
    """What takes seconds per page looks at a sample, which changes from commit to commit."""
    if config.getoption("pages") == "all":
        return
    pages = sample(list(sources()), SAMPLE)
    left_out = [
        item
        for item in items
        if item.get_closest_marker("sampled") and item.callspec.params["reader"] not in pages
    ]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session")
def address():
    if not (SITE / "index.html").is_file():
        pytest.exit("the book is not built: make book", returncode=2)
    with chromium.served(SITE) as address:
        yield address


@pytest.fixture(scope="session")
def browser():
    try:
        with chromium.launched() as browser:
            yield browser
    except FileNotFoundError as error:
        pytest.exit(str(error), returncode=2)


@pytest.fixture(scope="session")
def context(browser):
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        context.set_default_timeout(15_000)
        yield context


@pytest.fixture
def reader(context, address):
    """A fresh page; what went wrong in it fails the test in the end."""
    reader = chromium.Reader(context, address)
    yield reader
    reader.page.close()
    assert reader.troubles == []
