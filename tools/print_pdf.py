"""Print the built book as one PDF: _build/obce-book.pdf, or the path that is given.

    make pdf        # or, when the book is built: python -m tools.print_pdf [FILE]

All pages of _toc.yml are put into one document in Chromium (Sphinx's own singlehtml builder loses
the hidden cells and the numbers), with solutions and hidden code unfolded, links between pages
turned into links within the document, and interactive figures in their state at rest.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml
from pypdf import PdfWriter
from pypdf.generic import DictionaryObject, NameObject, TextStringObject

from tools.browser import Reader, launched, served
from tools.check_book import missing
from tools.toc import ROOT, sources

FOOTER = '<p style="width: 100%; font-size: 8pt; text-align: center" class="pageNumber"></p>'

# Takes [title, author, [[part or null, page], ...]]; leaves a document with nothing but the book,
# and gives the text of all its headings.
ASSEMBLE = r"""async ([title, author, pages]) => {
    const name = page => page.replaceAll(/[^A-Za-z0-9]/g, "-");
    const root = new URL("../", location.href).href;
    const main = document.createElement("main");
    main.className = "bd-content printed";
    const front = document.createElement("section");
    front.className = "front";
    front.innerHTML = '<p class="name"></p><p class="author"></p><ol></ol>';
    front.querySelector(".name").textContent = title;
    front.querySelector(".author").textContent = author;
    main.append(front);
    for (const [part, page] of pages) {
        const address = new URL(page + ".html", root).href;
        const text = await (await fetch(address)).text();
        const article = new DOMParser().parseFromString(text, "text/html")
            .querySelector("article.bd-article");
        article.id = name(page);
        for (const e of article.querySelectorAll("[id]")) e.id = name(page) + "--" + e.id;
        for (const e of article.querySelectorAll("[for]"))
            e.setAttribute("for", name(page) + "--" + e.getAttribute("for"));
        for (const e of article.querySelectorAll("img[src]")) {
            e.src = new URL(e.getAttribute("src"), address).href;
            e.loading = "eager";
        }
        for (const e of article.querySelectorAll("a[href]")) {
            const url = new URL(e.getAttribute("href"), address);
            if (!url.href.startsWith(root)) continue;
            const target = url.pathname.slice(1).replace(/\.html$/, "");
            if (!pages.some(([, other]) => other === target)) e.removeAttribute("href");
            else e.setAttribute("href",
                "#" + name(target) + (url.hash && "--" + decodeURIComponent(url.hash.slice(1))));
        }
        for (const e of article.querySelectorAll("details")) e.open = true;
        for (const e of article.querySelectorAll("script, .toctree-wrapper")) e.remove();
        if (part !== null) {
            const line = document.createElement("p");
            line.className = "part";
            line.textContent = part;
            article.prepend(line);
            const entry = document.createElement("li");
            entry.className = "part";
            entry.textContent = part;
            front.querySelector("ol").append(entry);
        }
        const entry = document.createElement("li");
        const link = document.createElement("a");
        link.href = "#" + article.id;
        const heading = article.querySelector("h1").cloneNode(true);
        heading.querySelector(".headerlink")?.remove();
        link.textContent = heading.textContent;
        entry.append(link);
        front.querySelector("ol").append(entry);
        main.append(article);
    }
    document.documentElement.dataset.theme = "light";
    document.documentElement.dataset.mode = "light";
    document.title = title;
    document.body.className = "";
    document.body.replaceChildren(main);
    await Promise.all([...document.images].map(i => i.decode()));
    const headings = [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")].map(e => {
        const copy = e.cloneNode(true);
        copy.querySelector(".headerlink")?.remove();
        return copy.textContent.replaceAll(/\\[()]/g, "").trim();
    });
    await MathJax.typesetPromise([...document.querySelectorAll(".math")]);
    return headings;
}"""

# After the print style is there: boxes of less than a third of a page are not broken.
KEEP_SHORT_BOXES = """() => {
    for (const e of document.querySelectorAll(
            ".cell_input, .cell_output, .admonition, table, :not(.cell *) > pre"))
        if (e.offsetHeight < 300) e.classList.add("short");
}"""


def parts(toc: dict) -> list[tuple[str | None, str]]:
    """Each page of a parsed _toc.yml; the first of a part with the caption of the part."""
    found = [(None, toc["root"])]
    for part in toc["parts"]:
        for number, chapter in enumerate(part["chapters"]):
            found.append((None if number else part["caption"], chapter["file"]))
    return found


def name_outline(file: Path, headings: list[str], config: dict) -> None:
    """Give the outline the headings' text: Chromium doubles lines and leaves formulas out."""

    def entries(item) -> Iterator[DictionaryObject]:
        while item is not None:
            item = item.get_object()
            yield item
            yield from entries(item.get("/First"))
            item = item.get("/Next")

    logging.getLogger("pypdf").setLevel(logging.ERROR)  # Chromium's count of objects is too low
    writer = PdfWriter(clone_from=file)
    found = list(entries(writer.get_outline_root()["/First"]))
    if len(found) != len(headings):
        raise ValueError(f"{len(headings)} headings, {len(found)} entries of the outline")
    for entry, heading in zip(found, headings, strict=True):
        entry[NameObject("/Title")] = TextStringObject(heading)
    writer.add_metadata({"/Title": config["title"], "/Author": config["author"]})
    writer.write(file)


def print_pdf(site: Path, file: Path) -> None:
    """Print the book that is built in ``site``. FileNotFoundError: no book, or no Chromium."""
    if problems := missing(site):
        raise FileNotFoundError(f"{problems[0]}: make book")
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    pages = parts(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")))
    if [page for _, page in pages] != list(sources()):
        raise ValueError("_toc.yml has pages at a depth that print_pdf.py does not know")
    with served(site) as address, launched() as browser, browser.new_context() as context:
        context.set_default_timeout(300_000)
        reader = Reader(context, address)
        page = reader.open(pages[0][1])
        page.evaluate("MathJax.startup.promise")
        headings = page.evaluate(ASSEMBLE, [config["title"], config["author"], pages])
        page.add_style_tag(path=ROOT / "book" / "print.css")
        page.evaluate(KEEP_SHORT_BOXES)
        file.parent.mkdir(parents=True, exist_ok=True)
        page.pdf(
            path=file,
            prefer_css_page_size=True,
            print_background=True,
            display_header_footer=True,
            header_template="<p></p>",
            footer_template=FOOTER,
            outline=True,
            tagged=True,
        )
    if reader.troubles:
        raise ValueError(reader.troubles[0])
    name_outline(file, headings, config)


if __name__ == "__main__":
    target = Path(*sys.argv[1:] or [ROOT / "_build" / "obce-book.pdf"])
    try:
        print_pdf(ROOT / "_build" / "html", target)
    except (OSError, ValueError) as error:
        print(f"print_pdf: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB")
