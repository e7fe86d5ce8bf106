"""The film in report.html, in a real browser: found where it lies, with captions as subtitles and scenes as
chapters; or chosen by the reader. Films are real VP8 .webm."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import pytest

from pipeline.records.row import Row
from pipeline.reports import write_outputs
from pipeline.reports.film import MOST_CUES
from tests.media import ffmpeg, write_video
from tests.pipeline.report_pages import Open, Reports, browser, reports, until
from tests.pipeline.report_rows import Written, film_row, info, write

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["browser", "reports"]

pytestmark = pytest.mark.needs("chromium")

DOG, MEN, CAT = "a brown dog is running", "two men are standing on a rock", "a cat on a mat"
NAME = "clip 1.webm"
BESIDE, MOVED = "clip%201.webm", "../../films/clip%201.webm"


def film_rows(*captions: str, each: int = 4) -> list[Row]:
    """A row a second, each caption for some seconds."""
    return [film_row(place, captions[place // each]) for place in range(each * len(captions))]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Twelve seconds."""
    path = write_video(tmp_path_factory.mktemp("films") / NAME, frames_each=20, fps=5.0)
    return path.read_bytes()


def report(folder: Path, rows: list[Row] | None = None, *, places: tuple[str, ...] = (BESIDE,)) -> Written:
    folder.mkdir(parents=True, exist_ok=True)
    kept = film_rows(DOG, MEN, CAT) if rows is None else rows
    names = write_outputs(info(key=f"trip/{NAME}"), lambda: iter(kept), folder, story=None, film=places)
    return Written(folder, names)


def with_film(opened: Open) -> Page:
    """The page once it has its film, which is slowed down: a slow machine must not miss a scene."""
    opened.page.wait_for_selector("#player:not([hidden])")
    opened.page.evaluate("document.getElementById('player').playbackRate = 0.1")
    return opened.page


def seek(page: Page, seconds: float) -> str:
    """Go to a time of the film; the subtitle that is shown there."""
    page.evaluate(
        """at => new Promise(resolve => {
            const player = document.getElementById("player");
            player.addEventListener("seeked", resolve, {once: true});
            player.currentTime = at;
        })""",
        seconds,
    )
    until(
        page,
        """(({currentTime, textTracks: [track]}) => track.activeCues.length === 1
            && track.activeCues[0].startTime <= currentTime && currentTime < track.activeCues[0].endTime
        )(document.getElementById("player"))""",
    )
    text = page.evaluate(
        "document.getElementById('player').textTracks[0].activeCues[0].getCueAsHTML().textContent"
    )
    return str(text)


def test_the_film_beside_the_page_plays_with_its_captions(
    tmp_path: Path, film: bytes, reports: Reports
) -> None:
    written = report(tmp_path)
    (tmp_path / NAME).write_bytes(film)
    page = with_film(reports.open(written, disk=True))
    assert page.locator("#no-film").is_hidden()
    assert page.evaluate("document.getElementById('player').duration") == pytest.approx(12, abs=0.3)
    assert page.evaluate("document.getElementById('player').textTracks[0].mode") == "showing"
    assert [seek(page, at) for at in (0.5, 5.5, 11.0)] == [DOG, MEN, CAT]


def test_the_film_is_found_where_it_was_moved_to(tmp_path: Path, film: bytes, reports: Reports) -> None:
    written = report(tmp_path / "out" / "report", places=(BESIDE, MOVED))
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / NAME).write_bytes(film)
    page = with_film(reports.open(written, disk=True))
    assert str(page.evaluate("document.getElementById('player').currentSrc")).endswith("/films/clip%201.webm")


def test_a_scene_leads_to_its_place_in_the_film(tmp_path: Path, film: bytes, reports: Reports) -> None:
    written = report(tmp_path)
    (tmp_path / NAME).write_bytes(film)
    page = with_film(reports.open(written, disk=True))
    chapters = page.locator(".chapter")
    assert chapters.locator(".when").all_text_contents() == ["0:00", "0:04", "0:08"]
    assert chapters.locator(".told").all_text_contents() == [
        "A brown dog is running", "Two men are standing on a rock", "A cat on a mat",
    ]  # fmt: skip
    chapters.nth(1).focus()
    page.keyboard.press("Enter")
    until(page, "document.getElementById('player').currentTime >= 4")
    page.wait_for_selector(".chapter[aria-current=true] >> text=Two men")
    assert page.locator(".chapter[aria-current]").count() == 1
    assert page.locator("#plot .playhead").count() == 1


def test_a_frame_leads_to_its_place_in_the_film(tmp_path: Path, film: bytes, reports: Reports) -> None:
    written = report(tmp_path)
    (tmp_path / NAME).write_bytes(film)
    page = with_film(reports.open(written, disk=True))
    page.get_by_label("Play the film from 0:09").click()
    until(page, "document.getElementById('player').currentTime >= 9")
    page.locator(".picture").nth(6).click()
    page.get_by_role("button", name="Film from here").click()
    assert page.locator("#viewer").is_hidden()
    until(page, "(at => at >= 6 && at < 9)(document.getElementById('player').currentTime)")


def test_a_film_that_is_elsewhere_can_be_chosen(tmp_path: Path, film: bytes, reports: Reports) -> None:
    (tmp_path / "elsewhere.webm").write_bytes(film)
    page = reports.open(report(tmp_path / "report"), disk=True).page
    page.wait_for_selector("#no-film:not([hidden])")
    assert "does not lie beside this page" in page.locator("#no-film").inner_text()
    assert page.locator(".from-here:visible").count() == 0
    page.locator(".chapter").nth(2).click()  # without a film a scene leads to its frame
    assert page.evaluate("document.activeElement.closest('.card').id") == "frame-8"
    page.set_input_files("#film-file", tmp_path / "elsewhere.webm")
    page.wait_for_selector("#player:not([hidden])")
    assert seek(page, 5.0) == MEN


def test_a_file_that_is_no_film_says_so_and_another_can_be_chosen(
    tmp_path: Path, film: bytes, reports: Reports
) -> None:
    (tmp_path / "notes.txt").write_text("no film")
    (tmp_path / NAME).write_bytes(film)
    page = reports.open(report(tmp_path / "report"), disk=True).page
    page.set_input_files("#film-file", tmp_path / "notes.txt")
    page.wait_for_selector("#no-film >> text=cannot play notes.txt")
    page.set_input_files("#film-file", tmp_path / NAME)
    page.wait_for_selector("#player:not([hidden])")


@pytest.mark.needs("ffmpeg")
def test_a_film_whose_clock_does_not_begin_at_zero_keeps_its_captions(
    tmp_path: Path, film: bytes, reports: Reports
) -> None:
    (tmp_path / "film.webm").write_bytes(film)
    ffmpeg(tmp_path / "film.webm", "-c", "copy", "-output_ts_offset", "5", to=tmp_path / NAME)
    capture = cv2.VideoCapture(str(tmp_path / NAME))
    assert capture.grab() and capture.get(cv2.CAP_PROP_POS_MSEC) == 0  # so that is what captions count from
    capture.release()
    page = with_film(reports.open(report(tmp_path), disk=True))
    until(page, "document.getElementById('player').textTracks[0].cues[0].startTime === 5")
    assert [seek(page, at) for at in (5.5, 10.5, 16.0)] == [DOG, MEN, CAT]
    page.locator(".chapter").nth(1).click()
    until(page, "(at => at >= 9 && at < 13)(document.getElementById('player').currentTime)")
    page.wait_for_selector(".chapter[aria-current=true] >> text=Two men")


def test_another_film_than_the_captioned_one_is_noticed(
    tmp_path: Path, film: bytes, reports: Reports
) -> None:
    written = report(tmp_path, film_rows(DOG, MEN, CAT, each=20))
    (tmp_path / NAME).write_bytes(film)
    page = with_film(reports.open(written, disk=True))
    assert "may not be the one that was captioned" in page.locator("#film-note").inner_text()


def test_captions_in_subtitles_and_scenes_are_only_text(
    tmp_path: Path, film: bytes, reports: Reports
) -> None:
    hostile = "a <b>dog</b> &amp; <img src=x onerror=document.title=1> </script> --> end"
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / NAME).write_bytes(film)
    page = with_film(reports.open(report(tmp_path / "report", film_rows(hostile, CAT)), disk=True))
    assert seek(page, 1.0) == hostile
    assert page.locator(".chapter .told").first.text_content() == hostile[0].upper() + hostile[1:]
    assert page.title() == "clip 1.webm · captions"


@pytest.mark.parametrize("width", [320, 390, 900])
@pytest.mark.parametrize("there", [True, False])
def test_film_and_scenes_fit_the_window(
    tmp_path: Path, film: bytes, reports: Reports, width: int, there: bool
) -> None:
    rows = film_rows("a dog " + "very " * 40, MEN, "x" * 150)
    written = report(tmp_path, rows)
    if there:
        (tmp_path / NAME).write_bytes(film)
    page = reports.open(written, width=width, dark=True, disk=True).page
    page.wait_for_selector("#player:not([hidden])" if there else "#no-film:not([hidden])")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


class _Counting(BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_error(404)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def stranger() -> Iterator[tuple[str, list[str]]]:
    """A server that no report may ask for anything, and what it was asked for."""
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Counting,), {"asked": asked}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_no_film_is_asked_of_another_place(
    tmp_path: Path, browser: Browser, stranger: tuple[str, list[str]]
) -> None:
    url, asked = stranger
    written = report(tmp_path, places=(f"{url}/clip.webm",))
    page = browser.new_page()
    page.goto((written.directory / "report.html").as_uri())
    page.wait_for_selector("#no-film:not([hidden])")
    assert asked == []
    page.goto(f"{url}/")  # the server does count what it is asked for
    assert asked != []
    page.close()


def film_data(written: Written) -> dict[str, Any]:
    found = re.search(
        r'<script type="application/json" id="film-data">(.*?)</script>', written.text("report.html"), re.S
    )
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_the_subtitles_in_the_page_end_where_it_says(tmp_path: Path) -> None:
    def rows() -> Iterator[Row]:
        for place in range(MOST_CUES + 10):
            yield film_row(place, f"a dog number {place}", illustrated=False)

    data = film_data(Written(tmp_path, write_outputs(info(), rows, tmp_path, story=None)))
    assert len(data["cues"]) == MOST_CUES
    assert data["until"] == data["cues"][-1][1] == MOST_CUES * 1000


def test_a_short_film_has_all_its_subtitles_and_no_scene_that_is_too_short(tmp_path: Path) -> None:
    rows = [film_row(place, (DOG, MEN, CAT)[place % 3]) for place in range(12)]
    data = film_data(write(rows, tmp_path))
    assert data["until"] is None and len(data["cues"]) == 12
    assert data["chapters"][0][0] == 0.0
    assert 3 <= len(data["chapters"]) <= 4


def test_a_folder_of_pictures_has_no_film(tmp_path: Path) -> None:
    row = film_row(0, DOG)
    row.timestamp_s, row.frame = None, "a.jpg"
    page = write([row], tmp_path).text("report.html")
    assert "media-src" not in page and 'id="film"' not in page and "playFilm(" in page


def test_scenes_begin_and_end_at_their_cuts(tmp_path: Path, film: bytes, reports: Reports) -> None:
    rows = [film_row(place, caption) for place, caption in enumerate((DOG, MEN, CAT))]
    for place, row in enumerate(rows):
        row.frame, row.timestamp_s, row.end_s = 20 * place + 10, 4.0 * place, 4.0 * place + 4
    path = report(tmp_path / "out" / "trip", rows).directory / "report.html"
    (path.parent / NAME).write_bytes(film)
    page = with_film(reports.open_page(path, disk=True))
    assert [seek(page, at) for at in (0.1, 3.9, 4.1, 7.9, 8.1, 11.5)] == [DOG, DOG, MEN, MEN, CAT, CAT]
    page.locator(".chapter").nth(1).click()
    until(page, "document.querySelector('.chapter[aria-current] .when')?.textContent === '0:04'")
    assert page.evaluate("document.getElementById('player').currentTime") == pytest.approx(4, abs=0.5)
    assert page.locator(".card .when").nth(1).get_attribute("title") == "Frame 30, for 4.000–8.000\u00a0s"
    assert "Last scene ends at" in page.locator(".facts").inner_text()
