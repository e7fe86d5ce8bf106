"""The report of a segment in a real browser: frames in time, and no film to look for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.model.tiny import make_tiny_checkpoint
from tests.pipeline.streams.cameras import NetworkCamera
from tests.pipeline.streams.runs import segments, watch
from tests.services.browser import chromium

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.slow]


def test_a_segment_s_report_speaks_of_a_stream_and_works(tmp_path: Path) -> None:
    model = make_tiny_checkpoint(tmp_path / "model")
    with NetworkCamera() as camera:
        assert watch(camera.url, tmp_path / "out", model, duration_s=1.5, name="door") == 0
    (key,) = segments(tmp_path / "out")
    said: list[str] = []
    with chromium() as browser:
        page = browser.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto((tmp_path / "out" / key / "report.html").as_uri())
        page.locator(".card").first.wait_for()
        assert page.locator(".overline").first.text_content() == "Stream, captioned"
        assert page.locator("#order option").first.text_content() == "By time"
        assert page.locator("#film, .from-here:visible, #viewer-film:visible").count() == 0
        page.locator(".card:visible .word").first.click()
    assert said == []
