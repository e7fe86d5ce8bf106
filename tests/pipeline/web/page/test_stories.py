"""The story tab in a real browser: begin, continue, steer, redo, drop, undo, export."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.stories import Story
from tests.pipeline.web.pages import Pages, browser, pages, served
from tests.services.failing_endpoint import FailingEndpoint, failing_endpoint, hangs, refuses, says
from tests.services.gpucapt_server import running

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["browser", "pages", "served"]

pytestmark = pytest.mark.needs("chromium")

TEXT = "A brown dog runs over the beach. It finds a ball. A girl throws it into the water."


def begin(page: Page, text: str = TEXT) -> None:
    """Begin a story from a text."""
    page.locator("#story-from").select_option("text")
    page.locator("#story-text").fill(text)
    page.locator("#story-start").click()
    settled(page, 1)


def settled(page: Page, count: int) -> None:
    """Wait until the story has so many turns, and nothing is being told."""
    page.locator("#story-stop").wait_for(state="hidden")
    page.locator(".turn-foot").nth(count - 1).wait_for()
    assert page.locator(".turn").count() == count


def turns(page: Page) -> list[str]:
    return [text.strip() for text in page.locator(".turn .text").all_inner_texts()]


def saved(page: Page, button: str, path: Path) -> str:
    with page.expect_download() as found:
        page.get_by_role("button", name=button, exact=True).click()
    found.value.save_as(path)
    return path.read_text(encoding="utf-8")


def test_a_story_is_begun_continued_steered_and_exported(pages: Pages, tmp_path: Path) -> None:
    opened = pages.open(part="story")
    page = opened.page
    begin(page)
    page.locator("#continue-button").click()
    settled(page, 2)
    page.locator("#continue-prompt").fill("Then it begins to rain")
    page.keyboard.press("Enter")
    settled(page, 3)
    assert page.locator(".steered").all_inner_texts() == ["Then it begins to rain"]
    assert page.locator("#continue-prompt").input_value() == ""
    assert len(set(turns(page))) == 3
    opened.shot("story")

    story = Story.from_json(saved(page, "Save story.json", tmp_path / "story.json"))
    assert [turn.kind for turn in story.turns] == ["start", "continue", "steer"]
    markdown = saved(page, "Export Markdown", tmp_path / "story.md")
    assert markdown == story.to_markdown()


def test_any_turn_is_told_anew_or_dropped_and_both_can_be_undone(pages: Pages) -> None:
    opened = pages.open(part="story", width=390)
    page = opened.page
    begin(page)
    page.locator("#continue-prompt").fill("Then it begins to rain")
    page.keyboard.press("Enter")
    settled(page, 2)
    before = turns(page)
    assert page.get_by_role("button", name="Drop part 1").count() == 0

    page.get_by_role("button", name="Redo part 2").click()
    assert page.evaluate("document.activeElement.value") == "Then it begins to rain"
    opened.shot("story-redo-phone")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Redo part 2").click()
    page.locator(".redo-form input").fill("Then a storm comes up")
    page.keyboard.press("Enter")
    settled(page, 2)
    page.get_by_text("Told anew").wait_for()
    assert page.locator(".steered").inner_text() == "Then a storm comes up"
    assert turns(page)[0] == before[0]
    assert turns(page)[1] != before[1]
    page.locator("#story-undo").click()
    assert turns(page) == before

    page.get_by_role("button", name="Drop part 2").click()
    page.get_by_text("Dropped").wait_for()
    settled(page, 1)
    page.locator("#story-undo").click()
    assert turns(page) == before
    assert not opened.is_too_wide()


def test_a_line_that_is_emptied_steers_no_more(pages: Pages) -> None:
    page = pages.open(part="story").page
    begin(page)
    page.locator("#continue-prompt").fill("Then it begins to rain")
    page.keyboard.press("Enter")
    settled(page, 2)
    page.get_by_role("button", name="Redo part 2").click()
    page.locator(".redo-form input").fill("")
    page.keyboard.press("Enter")
    page.get_by_text("Told anew").wait_for()
    assert page.locator(".steered").count() == 0


def test_a_story_outlives_a_reload_and_can_be_opened_from_its_file(pages: Pages, tmp_path: Path) -> None:
    page = pages.open(part="story").page
    begin(page)
    text = saved(page, "Save story.json", tmp_path / "story.json")
    told = turns(page)
    page.reload()
    page.locator(".turn-foot").wait_for()
    assert turns(page) == told
    other = pages.open(part="story").page
    other.locator("#story-input").set_input_files(tmp_path / "story.json")
    other.locator(".turn-foot").wait_for()
    assert turns(other) == told
    other.locator("#continue-button").click()
    settled(other, 2)
    (tmp_path / "no-story.json").write_text(json.dumps({"title": text}))
    other.locator("#story-input").set_input_files(tmp_path / "no-story.json")
    other.get_by_text("no-story.json is no story.json of gpucapt").wait_for()
    assert other.locator(".turn").count() == 2


def test_nothing_to_begin_from_is_said(pages: Pages) -> None:
    page = pages.open(part="story").page
    page.locator("#story-start").click()
    page.get_by_text("Write a few sentences to begin from").wait_for()
    assert page.evaluate("document.activeElement.id") == "story-text"


def test_what_a_story_says_is_only_text(pages: Pages) -> None:
    page = pages.open(part="story").page
    title = page.title()
    begin(page, "<img src=x onerror='document.title=1'> runs over the <b>beach</b>. A dog sits.")
    assert "<img src=x" in turns(page)[0]
    assert page.locator("img[src=x]").count() == 0
    assert page.title() == title


BEGUN = ("A dog wakes up ", "and runs out ", "into the grass.")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[FailingEndpoint]:
    """A language model's server that tells a beginning, hangs in the middle of a turn, then refuses."""
    acts = (says(*BEGUN), hangs("It rains ", "and it "), refuses(403, "not for you"))
    with failing_endpoint(*acts) as answering:
        yield answering


@pytest.mark.slow
def test_a_language_model_tells_word_by_word_and_can_be_stopped(
    browser: Browser, endpoint: FailingEndpoint
) -> None:
    with running(GPUCAPT_STORY_BASE_URL=endpoint.url) as started:
        pages = Pages(browser, started.url)
        opened = pages.open(part="story")
        page = opened.page
        page.locator("#story-provider option").nth(1).wait_for(state="attached")
        page.locator("#story-provider").select_option("openai")
        begin(page)
        assert turns(page) == ["".join(BEGUN)]
        assert "openai, the-only-one" in page.locator(".how").inner_text()

        page.locator("#continue-button").click()
        page.locator(".growing", has_text="It rains and it").wait_for()
        opened.shot("story-growing")
        page.locator("#story-stop").click()
        page.get_by_text("Stopped; the story is as it was.").wait_for()
        settled(page, 1)

        page.locator("#continue-button").click()
        page.locator("#story-problem").wait_for()
        assert "\n" not in page.locator("#story-problem").inner_text()
        settled(page, 1)
        opened.shot("story-problem")
        pages.close()
