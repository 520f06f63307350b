"""Every page of the book in Chromium: whole, offline, and usable by everyone."""

from __future__ import annotations

import re

import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe

from tools.browser import Reader
from tools.toc import ROOT, markdown, sources, title

SOURCES = sources()
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
# rules of axe that we let pass in elements that are not ours, each with the reason
EXCUSED: dict[str, str] = {}
SOLUTION = ".admonition.solution.dropdown"
MATH = r"(?<![\\$`])\$[^$\s`][^$`]*\$|\\begin\{|```\{math"


# Processes share out pages, not tests: each page is opened once.
BY_PAGE = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in SOURCES]


@pytest.fixture(scope="module", params=BY_PAGE)
def reader(request, context, address):
    """One page, opened once for all the tests of it."""
    reader = Reader(context, address)
    reader.name = request.param
    reader.open(request.param)
    yield reader
    reader.page.close()


@pytest.fixture
def page(reader):
    """The page as it was opened: on a wide screen, with what unfolds folded."""
    reader.page.set_viewport_size(DESKTOP)
    yield reader.page
    assert reader.troubles == []


# Tab reaches every code box that scrolls: the theme sees to it, a moment after what made it so
REACHED = """() => [...document.querySelectorAll("pre")].every(
    box => box.tabIndex >= 0 || box.scrollWidth <= box.clientWidth
)"""


def unfold(page) -> None:
    """Open all that is hidden, so that it is looked at too."""
    page.evaluate(
        """() => {
            for (const details of document.querySelectorAll("details")) details.open = true;
            for (const button of document.querySelectorAll(".toggle-button-hidden")) button.click();
        }"""
    )


def test_opens_without_error_or_another_host(page, reader):
    shown = page.locator("article h1").inner_text().replace("’", "'")
    assert title(SOURCES[reader.name]).split("$")[0] in shown


def test_pictures_are_there_and_have_words(page):
    pictures = page.evaluate(
        """() => [...document.querySelectorAll("article img")].map(
            i => [i.getAttribute("src"), i.naturalWidth, (i.alt || "").trim()])"""
    )
    assert [source for source, width, alt in pictures if not width or not alt] == []


def test_mathematics_is_set(page, reader):
    text = re.sub(r"```.*?```|`[^`]*`", "", markdown(SOURCES[reader.name]), flags=re.S)
    if re.search(MATH, text):
        assert page.locator("mjx-container").count() > 0
    assert page.locator("mjx-merror, [data-mjx-error]").count() == 0
    raw = page.evaluate(
        r"""() => {
            const found = [];
            const texts = document.createTreeWalker(
                document.querySelector("article"), NodeFilter.SHOW_TEXT);
            while (texts.nextNode()) {
                const {data, parentElement} = texts.currentNode;
                if (parentElement.closest("pre, code, script, style, mjx-container, annotation"))
                    continue;
                if (/\\\(|\\\[|\$\$|\{(cite|ref|numref|prf:ref|doc)\}|:::/.test(data))
                    found.push(data.trim());
            }
            return found;
        }"""
    )
    assert raw == [], "Markdown or TeX that was not set"


@pytest.mark.sampled
@pytest.mark.parametrize(("mode", "size"), [("light", DESKTOP), ("dark", PHONE)])
def test_axe_finds_no_serious_barrier(page, mode, size):
    unfold(page)
    page.set_viewport_size(size)
    page.wait_for_function(REACHED)
    page.evaluate("mode => { document.documentElement.dataset.theme = mode; }", mode)
    # colours fade from one mode to the other, and half-way ones would be judged
    page.add_style_tag(content="* { transition: none !important; animation: none !important; }")
    found = Axe().run(page, options={"preload": False, "resultTypes": ["violations"]}).response
    page.evaluate("document.documentElement.dataset.theme = 'light'")
    barriers = [
        f"{rule['id']}: {node['html'][:200]} {node['any'][:1]}"
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical") and rule["id"] not in EXCUSED
        for node in rule["nodes"]
    ]
    assert barriers == []


def test_nothing_sticks_out_on_a_phone(page):
    unfold(page)
    page.set_viewport_size(PHONE)
    wide = page.evaluate(
        """() => {
            const inBox = e => {  // does the element, or one around it, scroll by itself?
                for (; e && e.tagName !== "MAIN"; e = e.parentElement)
                    if (/auto|scroll|hidden/.test(getComputedStyle(e).overflowX)) return true;
            };
            if (document.scrollingElement.scrollWidth <= innerWidth) return [];
            return [...document.querySelectorAll("article *")]
                .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !inBox(e))
                .map(e => e.outerHTML.slice(0, 150)).slice(0, 5).concat("wider than the screen");
        }"""
    )
    assert wide == []


def test_the_text_in_a_figure_is_legible_on_a_phone(page):
    """Figures are drawn at 700 pixels with letters of 13; shown narrower, they would shrink."""
    page.set_viewport_size(PHONE)
    shown = page.evaluate(
        """[...document.querySelectorAll(".cell_output img")]
            .map(image => Math.min(1, image.clientWidth / Math.min(image.naturalWidth, 700)))"""
    )
    assert all(scale >= 0.8 for scale in shown)


def test_colab_opens_this_page(page, reader):
    """The launch button names the file in the repository that _config.yml names."""
    source = SOURCES[reader.name]
    repository = CONFIG["repository"]
    links = page.locator("a[href*='colab.research.google.com']")
    if source.suffix == ".md":
        return
    path = f"{repository['path_to_book']}/{source.relative_to(ROOT)}".strip("/")
    wanted = (
        repository["url"].replace(
            "https://github.com/", "https://colab.research.google.com/github/"
        )
        + f"/blob/{repository['branch']}/{path}"
    )
    assert [link.get_attribute("href") for link in links.all()] == [wanted]


@pytest.mark.sampled
def test_solutions_unfold_by_mouse_and_by_keyboard(context, address, reader):
    wanted = len(re.findall(r"^:+\{solution-start\}", markdown(SOURCES[reader.name]), re.M))
    fresh = Reader(context, address)
    page = fresh.open(reader.name)
    solutions = page.locator(SOLUTION)
    assert solutions.count() == wanted
    for number in range(wanted):
        solution = solutions.nth(number)
        button = solution.locator("button.toggle-button")
        content = solution.locator("pre, p:not(.admonition-title)").first
        assert not content.is_visible(), "a solution is open before the reader asks for it"
        assert button.get_attribute("aria-expanded") == "false"
        if number % 2:
            button.click()  # the title itself is a link to the exercise
        else:
            button.focus()
            page.keyboard.press("Enter" if number % 4 else "Space")
        content.wait_for(state="visible")
        assert button.get_attribute("aria-expanded") == "true"
    page.close()
    assert fresh.troubles == []


def test_tab_reaches_the_first_solution(page):
    """By Tab from what stands before it, not by script."""
    buttons = page.locator(f"{SOLUTION} button.toggle-button")
    if buttons.count():
        page.evaluate(
            """([solution, all]) => {
                const button = document.querySelector(solution + " button");
                const before = [...document.querySelectorAll(all)].filter(e => e.checkVisibility()
                    && button.compareDocumentPosition(e) & Node.DOCUMENT_POSITION_PRECEDING);
                before.at(-1).focus();
            }""",
            [SOLUTION, "a[href], button, summary, input, [tabindex='0']"],
        )
        for _ in range(3):
            page.keyboard.press("Tab")
            if buttons.first.evaluate("button => button === document.activeElement"):
                return
        pytest.fail("Tab does not reach the button that unfolds the solution")


def test_sliders_move_by_keyboard_and_change_what_is_seen(page):
    for slider in page.locator("article input[type=range]").all():
        assert slider.evaluate("s => s.labels.length > 0 || s.ariaLabel"), "a slider without a name"
        figure = slider.locator("xpath=ancestor::*[.//*[name()='svg' or name()='canvas']][1]")
        slider.scroll_into_view_if_needed()
        slider.focus()
        page.keyboard.press("Home")
        before, value = figure.screenshot(), slider.input_value()
        page.keyboard.press("End")
        assert slider.input_value() != value
        assert figure.screenshot() != before
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowRight")
        assert slider.get_attribute("max") is None or slider.input_value() != value
