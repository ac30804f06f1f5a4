"""A real Chromium, and what axe-core says of a page in it."""

import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

_QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
          "--disable-component-update", "--disable-sync")


@contextmanager
def open_browser(*arguments: str) -> Generator[Browser]:
    """Starts Chromium without a window; as root too, which is why it has no sandbox."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=[*_QUIET, *arguments])
        try:
            yield browser
        finally:
            browser.close()


class Tab:
    """A page whose errors and requests are kept.

    Attributes:
        page: to be driven.
        errors: what the console said at the levels warning and error, and what was thrown.
        asked: the URLs that were asked for.
    """

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.context: BrowserContext = browser.new_context(**options)
        self.page: Page = self.context.new_page()
        self.errors: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(url)

    def _hear(self, said: ConsoleMessage) -> None:
        if said.type in ("warning", "error"):
            self.errors.append(said.text)

    def violations(self) -> list[str]:
        """Returns what axe-core finds wrong, each with the first place."""
        self.page.evaluate(_axe())
        found: Mapping[str, Any] = self.page.evaluate("axe.run({resultTypes: ['violations']})")
        return [f"{each['id']}: {each['help']} ({each['nodes'][0]['html']})" for each in found["violations"]]

    def close(self) -> None:
        """Closes it."""
        self.context.close()


@cache
def _axe() -> str:
    return Path(str(files("axe_playwright_python").joinpath("axe.min.js"))).read_text(encoding="utf-8")
