"""What all pages share: the search, the way past the menu, the modes of colour."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.xdist_group("site")


def test_search_by_keyboard_and_offline(reader):
    page = reader.open("book/intro")
    page.keyboard.press("Control+k")
    box = page.locator("input[name=q]:visible")
    box.wait_for()
    page.keyboard.type("persistent homology")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=persistent*")
    page.locator("#search-results li a").first.wait_for()
    assert page.locator("#search-results li a").count() > 1


def test_first_tab_leads_past_the_menu(reader):
    page = reader.open("book/intro")
    page.keyboard.press("Tab")
    link = page.locator(":focus")
    assert link.inner_text().strip() == "Skip to main content"
    assert link.is_visible()
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#main-content"
    assert page.locator("#main-content").count() == 1


def test_the_reader_can_choose_the_colours(reader):
    page = reader.open("book/intro")
    seen = {page.evaluate("document.documentElement.dataset.theme")}
    for _ in range(2):
        page.locator(".theme-switch-button:visible").first.click()
        seen.add(page.evaluate("document.documentElement.dataset.theme"))
    assert seen == {"light", "dark"}
    page.evaluate("localStorage.clear()")


def test_the_root_leads_to_the_first_page(reader):
    reader.page.goto(reader.address)
    reader.page.wait_for_url("**/book/intro.html")


def test_a_missing_page_is_noticed(reader):
    """The test of the tests: what is not there is noticed."""
    reader.page.goto(f"{reader.address}none.html")
    assert len(reader.troubles) >= 1
    reader.troubles.clear()


def test_another_host_is_noticed(reader):
    reader.open("book/intro")
    reader.page.evaluate("fetch('https://example.org/x.js').catch(() => 0)")
    assert any("asked another host" in trouble for trouble in reader.troubles)
    reader.troubles.clear()
