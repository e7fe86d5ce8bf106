"""The film tab in a real browser: a film in; a timeline, playback with subtitles and files out."""

from __future__ import annotations

import csv
import json
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.media import pan, photograph, write_frames, write_video
from tests.pipeline.web.pages import Pages, browser, pages, served

if TYPE_CHECKING:
    from playwright.sync_api import Page

__all__ = ["browser", "pages", "served"]

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.slow]

SCENES = ("officer", "galaxies", "flower")
SIZE = (320, 240)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds: three photographs, two seconds each; over the last one the camera does not move."""
    *moving, still = SCENES
    frames = [frame for name in moving for frame in pan(name, 20, size=SIZE)]
    frames += [photograph(still, size=SIZE)] * 20
    return write_frames(tmp_path_factory.mktemp("films") / "trip.webm", iter(frames), fps=10, size=SIZE)


def choose(page: Page, path: Path) -> None:
    """Choose a film, and wait until its captions are there."""
    page.locator("#film-input").set_input_files(path)
    page.locator("#film-done").wait_for()
    page.locator("#film-working").wait_for(state="hidden")


def colour(page: Page, place: int) -> list[int]:
    """The mean colour of a thumbnail."""
    return [
        round(channel)
        for channel in page.locator(".moment canvas.drawn")
        .nth(place)
        .evaluate(
            """canvas => {
                const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                const sums = [0, 0, 0];
                data.forEach((value, at) => { if (at % 4 < 3) sums[at % 4] += value; });
                return sums.map((sum) => sum / (data.length / 4));
            }"""
        )
    ]


def download(page: Page, label: str, folder: Path) -> Path:
    """What a button of the downloads gives."""
    with page.expect_download() as found:
        page.locator("#film-files").get_by_role("button", name=label, exact=True).click()
    path = folder / found.value.suggested_filename
    found.value.save_as(path)
    return path


def test_a_film_becomes_a_timeline_with_subtitles_and_files(pages: Pages, film: Path, tmp_path: Path) -> None:
    opened = pages.open(part="film")
    page = opened.page
    choose(page, film)
    assert page.locator("#film-status").inner_text() == "Done: 6 frames captioned."

    table = download(page, "CSV", tmp_path)
    assert table.name == "trip.csv"
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    cards = [list(group) for _, group in groupby(rows, key=lambda row: row["caption"])]
    captions = [card[0]["caption"] for card in cards]
    starts = [round(float(card[0]["timestamp_s"])) for card in cards]
    assert page.locator(".moment-text").all_inner_texts() == captions
    shown = [when.split(" – ")[0] for when in page.locator(".moment .when").all_inner_texts()]
    assert shown == [f"0:0{start}" for start in starts]
    assert page.locator(".moment .when").last.inner_text() == "0:04 – 0:05"  # the same again: one card
    whole = json.loads(download(page, "JSON", tmp_path).read_text(encoding="utf-8"))
    assert whole["rows"][0]["caption"] == captions[0]
    assert download(page, "WebVTT", tmp_path).read_text(encoding="utf-8").startswith("WEBVTT")
    assert download(page, "Report", tmp_path).name == "trip.report.html"

    # The thumbnails are of their moments: those of one photograph are unlike those of the next.
    page.locator(".moment canvas.drawn").nth(len(cards) - 1).wait_for()
    second = next(place for place, start in enumerate(starts) if start >= 2)
    for one, other in ((0, second), (second, len(cards) - 1)):
        assert max(abs(a - b) for a, b in zip(colour(page, one), colour(page, other), strict=True)) > 20

    # The captions are the film's subtitles.
    cues = "video => [...video.textTracks[0].cues].map((cue) => cue.text)"
    assert page.locator("#film-video").evaluate(cues) == captions
    page.locator(".moment").last.click()
    page.locator("#film-now", has_text=captions[-1]).wait_for()
    now = "video => [Math.round(video.currentTime * 10) / 10, video.textTracks[0].activeCues[0]?.text]"
    assert page.locator("#film-video").evaluate(now) == [starts[-1], captions[-1]]
    assert page.locator(".moment").last.get_attribute("aria-current") == "true"
    opened.shot("film")


def test_a_film_plays(pages: Pages, film: Path) -> None:
    page = pages.open(part="film").page
    choose(page, film)
    page.locator("#film-video").evaluate("video => { video.muted = true; return video.play(); }")
    page.locator("li:not(:first-child) .moment[aria-current]").wait_for()
    assert page.locator("#film-video").evaluate("video => video.currentTime") > 0.9


def test_progress_is_said_and_a_film_can_be_cancelled(pages: Pages, tmp_path: Path) -> None:
    long = write_video(tmp_path / "long.webm", SCENES, frames_each=300, fps=2)
    opened = pages.open(part="film", width=390)
    page = opened.page
    page.locator("details.options summary:visible").click()
    page.locator("#film-frames").select_option("0.5")
    page.locator("#film-input").set_input_files(long)
    page.locator("#film-status", has_text="Captioning:").wait_for()
    page.locator(".moment").first.wait_for()
    assert 0 < page.locator("#film-progress").evaluate("bar => bar.value") < 1
    opened.shot("film-working-phone")
    with page.expect_request(lambda request: request.method == "DELETE"):
        page.locator("#film-cancel").click()
    page.locator("#film-status", has_text="Cancelled").wait_for()
    assert page.locator("#film-working").is_hidden()
    assert page.locator("#film-problem").is_hidden()
    assert 1 <= page.locator(".moment").count() < 900
    assert not opened.is_too_wide()


def test_a_film_that_browsers_cannot_play_gets_its_captions(pages: Pages, tmp_path: Path) -> None:
    avi = write_video(tmp_path / "old.avi", SCENES[:1], frames_each=20, fps=10, size=SIZE)
    opened = pages.open(part="film")
    page = opened.page
    choose(page, avi)
    assert page.locator("#film-found").inner_text() == "2 frames"
    assert page.locator(".moment").first.is_visible()
    assert page.get_by_text("cannot play this kind of film").is_visible()
    assert page.locator(".moment canvas").first.is_hidden()
    opened.shot("film-unplayable")


def test_what_is_no_film_is_said_in_one_line(pages: Pages, tmp_path: Path) -> None:
    opened = pages.open(part="film")
    page = opened.page
    (tmp_path / "notes.mp4").write_text("no film at all")
    page.locator("#film-input").set_input_files(tmp_path / "notes.mp4")
    page.locator("#film-problem").wait_for()
    assert page.locator("#film-problem").inner_text().startswith("notes.mp4: not a film")
    assert page.locator("#film-working").is_hidden()
    opened.shot("film-problem")


def test_the_example_film_is_a_click_away_and_leads_to_a_story(pages: Pages) -> None:
    opened = pages.open(part="film", dark=True)
    page = opened.page
    page.locator("#film-examples .example").click()
    page.locator("#film-done").wait_for()
    opened.shot("film-example-dark")
    page.locator("#film-story").click()
    assert page.locator("#story-from option:checked").inner_text() == "Film: outdoors.webm"
    page.locator("#story-start").click()
    page.locator(".turn-foot").wait_for()
    assert page.locator("#story-title").inner_text() == "Outdoors"
    assert "For the first" in page.locator(".turn .text").inner_text()
    opened.shot("story-of-a-film-dark")
