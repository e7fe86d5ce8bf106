"""Reports open in a real browser, for the tests of what they show and do there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.pipeline.report_rows import Written
from tests.services.browser import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as launched:
        yield launched


@dataclass
class Open:
    """A report open in the browser, with all that it said on the console and asked of the network."""

    page: Page
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    disk: bool = False

    def lit(self) -> int:
        return self.page.locator(".card canvas.on").count()

    def pixels(self, place: int = 0) -> str:
        canvas = self.page.locator(".card canvas").nth(place)
        return str(canvas.evaluate("canvas => canvas.toDataURL()"))

    def shown(self) -> list[str]:
        labels = self.page.locator(".card:visible .when").all_text_contents()
        return [str(label) for label in labels]


def until(page: Page, condition: str) -> None:
    """Wait until an expression holds. (Playwright's own way evaluates text in the page, which may not.)"""
    for _ in range(1000):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(20)
    raise AssertionError(f"never came true: {condition}")


class Reports:
    """Opens reports; after a test nothing may have been said on the console or asked of the network."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._opened: list[Open] = []

    def open(
        self,
        written: Written,
        *,
        width: int = 1200,
        dark: bool = False,
        touch: bool = False,
        disk: bool = False,
    ) -> Open:
        """Open a report; with ``disk`` it may ask for other files there, also absent ones."""
        path = written.directory / "report.html"
        return self.open_page(path, width=width, dark=dark, touch=touch, disk=disk)

    def open_page(
        self,
        path: Path,
        *,
        width: int = 1200,
        dark: bool = False,
        touch: bool = False,
        disk: bool = False,
    ) -> Open:
        """Open a page."""
        context = self._browser.new_context(
            viewport={"width": width, "height": 800},
            color_scheme="dark" if dark else "light",
            has_touch=touch,
            reduced_motion="reduce",
        )
        opened = Open(context.new_page(), disk=disk)
        opened.page.on("console", lambda message: opened.messages.append(message.text))
        opened.page.on("pageerror", lambda error: opened.messages.append(str(error)))
        opened.page.on("request", lambda request: opened.requests.append(request.url))
        opened.page.goto(path.as_uri())
        self._opened.append(opened)
        return opened

    def close(self) -> None:
        for opened in self._opened:
            opened.page.context.close()
            absent = "Failed to load resource: net::ERR_FILE_NOT_FOUND"
            assert [message for message in opened.messages if not (opened.disk and message == absent)] == []
            own = ("data:", "file:", "blob:") if opened.disk else ("data:",)
            assert [url for url in opened.requests[1:] if not url.startswith(own)] == []


@pytest.fixture
def reports(browser: Browser) -> Iterator[Reports]:
    opened = Reports(browser)
    yield opened
    opened.close()
