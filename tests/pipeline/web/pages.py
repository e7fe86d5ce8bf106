"""The page of `gpucapt serve` in a real browser, served by a real process with the bundled model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.services.browser import CAMERA, chromium
from tests.services.gpucapt_server import Server, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

SCREENSHOTS = Path(__file__).parents[3] / "build" / "screenshots"
PATIENCE_MS = 60_000
"""For what a machine that is busy with something else may take; on a quiet one all of it is quick."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, with a camera that shows a test picture."""
    with chromium(*CAMERA) as launched:
        yield launched


@pytest.fixture(scope="module")
def served() -> Iterator[Server]:
    """One server with the bundled model for the tests of a file."""
    with running() as started:
        yield started


@dataclass
class Open:
    """The page open in the browser, with what it said on the console and asked of the network."""

    page: Page
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def listen(self, message: ConsoleMessage) -> None:
        """Keep what the browser calls an error; it also has opinions and plans to tell."""
        if message.type == "error":
            self.messages.append(message.text)

    def shot(self, name: str) -> None:
        """Keep a picture of the whole page, to be looked at."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)

    def is_too_wide(self) -> bool:
        """Whether the page has to be scrolled sideways."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth > innerWidth"))


class Pages:
    """Opens the page; after a test it must have asked nothing of anybody but its server."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser = browser
        self._url = url
        self._opened: list[Open] = []

    def open(self, *, width: int = 1200, dark: bool = False, url: str | None = None, part: str = "") -> Open:
        """The page, at the tab ``part``."""
        context = self._browser.new_context(
            viewport={"width": width, "height": 844},
            color_scheme="dark" if dark else "light",
            has_touch=width < 600,
            reduced_motion="reduce",
            permissions=["camera"],
        )
        context.set_default_timeout(PATIENCE_MS)
        opened = Open(context.new_page())
        opened.page.on("console", opened.listen)
        opened.page.on("pageerror", lambda error: opened.messages.append(str(error)))
        opened.page.on("request", lambda request: opened.requests.append(request.url))
        opened.page.goto(f"{url or self._url}/#{part}")
        self._opened.append(opened)
        return opened

    def close(self) -> None:
        """Close all, and look at what they did."""
        for opened in self._opened:
            home = "/".join(opened.page.url.split("/")[:3]) + "/"
            opened.page.context.close()
            foreign = [url for url in opened.requests if not url.startswith((home, "blob:", "data:"))]
            assert foreign == []
            # Answers that are errors are logged by the browser itself; scripts that fail are ours.
            assert [text for text in opened.messages if "Failed to load resource" not in text] == []


@pytest.fixture
def pages(browser: Browser, served: Server) -> Iterator[Pages]:
    """Opens the page of the file's server."""
    opened = Pages(browser, served.url)
    yield opened
    opened.close()
