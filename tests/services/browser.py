"""A real browser for the tests of pages: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
)
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
"""A camera that shows a test picture, and nobody asks whether it may."""


@contextmanager
def chromium(*arguments: str) -> Iterator[Browser]:
    """Chromium while the block runs. Skips where Playwright is not installed."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=[*_ARGUMENTS, *arguments],
            # It makes a socket there, whose path may have 107 bytes.
            env={**os.environ, "TMPDIR": "/tmp"},
        )
        yield launched
        launched.close()
