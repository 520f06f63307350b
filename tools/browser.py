"""Pages of the built book in Chromium, served from 127.0.0.1 and cut off from everything else."""

from __future__ import annotations

import functools
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

ARGUMENTS = [  # root in a container has no sandbox; the rest keeps Chromium off the network
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def executable(own: str) -> str:
    """Chromium's: the one that CHROMIUM names, else one on the PATH, else Playwright's ``own``.

    FileNotFoundError: there is none.
    """
    if named := os.environ.get("CHROMIUM"):
        if found := shutil.which(named):
            return found
        raise FileNotFoundError(f"CHROMIUM names {named}, which is no program")
    for name in ("chromium", "chromium-browser", "google-chrome", own):
        if found := shutil.which(name):
            return found
    raise FileNotFoundError(
        "no Chromium: install one (apt-get install chromium, or python -m playwright install"
        " chromium), or name its executable in the environment variable CHROMIUM"
    )


@contextmanager
def launched() -> Iterator[Browser]:
    """A headless Chromium."""
    with sync_playwright() as playwright:
        path = executable(playwright.chromium.executable_path)
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        """No line per request."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of ``folder`` on a free port, with a slash at the end."""
    handler = functools.partial(_Handler, directory=folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


class Reader:
    """A page and its ``troubles``: errors, files that were not there, requests to other hosts."""

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.address = address
        self.troubles: list[str] = []
        self.page: Page = context.new_page()
        self.page.route(lambda url: not url.startswith((address, "data:", "blob:")), self._outside)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.troubles.append(f"script error: {error}"))
        self.page.on("response", self._response)

    def _outside(self, route) -> None:
        self.troubles.append(f"asked another host for {route.request.url}")
        route.abort()

    def _console(self, message) -> None:
        if message.type == "error":
            self.troubles.append(f"console: {message.text}")

    def _response(self, response) -> None:
        if response.status >= 400:
            self.troubles.append(f"status {response.status}: {response.url}")

    def open(self, name: str) -> Page:
        """Go to a page and wait until its formulas are set and its pictures are there."""
        self.page.goto(f"{self.address}{name}.html", wait_until="load")
        self.page.evaluate(
            """async () => {
                for (const image of document.images) image.loading = "eager";
                await Promise.all([...document.images].map(i => i.decode().catch(() => 0)));
                if (document.querySelector(".math")) {
                    while (!window.MathJax?.startup?.promise)
                        await new Promise(done => setTimeout(done, 20));
                    await MathJax.startup.promise;
                }
            }"""
        )
        return self.page
