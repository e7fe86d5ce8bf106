"""The picture tab in a real browser: a picture comes in by every way, its caption and attention come out."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from model.checkpoint import BUNDLED, read_config
from tests.media import write_photograph
from tests.pipeline.jobs import write_still
from tests.pipeline.web.pages import Open, Pages, browser, pages, served
from tests.services.gpucapt_server import Server, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FilePayload, Page, Route

__all__ = ["browser", "pages", "served"]

pytestmark = pytest.mark.needs("chromium")

HOSTILE = "<img src=x onerror='document.title=1'>.jpg"
DROP = """([name, type, data]) => {
    const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], name, { type }));
    const how = { bubbles: true, cancelable: true, dataTransfer: transfer };
    const send = (kind) => document.body.dispatchEvent(new DragEvent(kind, how));
    ["dragenter", "dragover", "drop"].forEach(send);
}"""
PASTE = DROP.split("const how")[0] + (
    "document.body.dispatchEvent(new ClipboardEvent('paste', { bubbles: true, clipboardData: transfer })); }"
)


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photograph(tmp_path_factory.mktemp("pictures") / "officer.jpg", "officer")


def choose(page: Page, *files: Path | FilePayload) -> None:
    """Choose pictures, and wait for their captions."""
    count = page.locator(".shelved").count() + len(files)
    page.locator("#picture-input").set_input_files(list(files))  # type: ignore[arg-type]
    wait(page, count)


def wait(page: Page, count: int) -> None:
    """Until there are so many pictures, all of them settled."""
    page.locator(".shelved").nth(count - 1).wait_for(state="attached")
    page.locator(".shelved.unsettled").first.wait_for(state="detached")
    page.locator("body.busy").wait_for(state="detached")


def api_caption(page: Page, picture: Path, **fields: str) -> Any:
    """What the API says of a picture."""
    url = page.url.split("#")[0] + "v1/captions"
    files = {"name": picture.name, "mimeType": "image/jpeg", "buffer": picture.read_bytes()}
    answer = page.request.post(url, multipart={"images": files, **fields})
    return answer.json()["captions"][0]


def text(page: Page, selector: str) -> str:
    return " ".join(page.locator(selector).inner_text().split())


def lit_pixels(page: Page) -> str:
    return str(page.locator("#stage-heat").evaluate("canvas => canvas.toDataURL()"))


def test_a_chosen_picture_gets_the_caption_that_the_api_gives(pages: Pages, photograph: Path) -> None:
    opened = pages.open()
    page = opened.page
    choose(page, photograph)
    expected = api_caption(page, photograph, alternatives="4")
    assert text(page, "#stage-caption") == expected["caption"]
    assert text(page, "#stage-name") == "officer.jpg"
    assert f"{round(expected['confidence'] * 100)} %" in text(page, "#stage-sure")
    assert page.locator("#picture-status").inner_text() == f"Done: {expected['caption']}."
    wordings = page.locator("#stage-alternatives .wording").all_inner_texts()
    assert wordings == [expected["caption"], *(other["caption"] for other in expected["alternatives"])]
    chances = page.locator("#stage-alternatives .chance").all_inner_texts()
    assert chances[0] == f"{round(expected['confidence'] * 100)} %"
    opened.shot("picture")


def test_resting_on_a_word_shows_where_the_model_looked(pages: Pages, photograph: Path) -> None:
    page = pages.open().page
    choose(page, photograph)
    words = page.locator("#stage-caption .word")
    assert page.locator("#stage-heat.on").count() == 0
    words.nth(0).hover()
    assert page.locator("#stage-heat.on").count() == 1
    first = lit_pixels(page)
    words.nth(2).hover()
    assert lit_pixels(page) != first
    page.locator("#stage-strip .cell").nth(2).wait_for()
    assert page.locator("#stage-strip .cell.lit").inner_text() == words.nth(2).inner_text()
    page.mouse.move(0, 0)
    assert page.locator("#stage-heat.on").count() == 0


def test_words_are_walked_by_the_keyboard_and_played(pages: Pages, photograph: Path) -> None:
    page = pages.open().page
    choose(page, photograph)
    words = page.locator("#stage-caption .word").all_inner_texts()
    page.locator("#stage-caption .word").first.focus()
    focused = "document.activeElement.textContent"
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == words[1]
    assert page.locator("#stage-heat.on").count() == 1
    page.keyboard.press("End")
    assert page.evaluate(focused) == words[-1]
    page.keyboard.press("Tab")  # one stop a caption
    assert page.evaluate("document.activeElement.id") == "stage-play"
    assert page.locator("#stage-heat.on").count() == 0
    page.keyboard.press("Enter")
    page.locator("#stage-caption .word.lit").wait_for()
    assert "Stop" in text(page, "#stage-play")
    page.keyboard.press("Enter")
    assert page.locator("#stage-heat.on").count() == 0


def test_an_example_is_a_click_away_and_every_picture_stays_on_the_shelf(pages: Pages) -> None:
    opened = pages.open()
    page = opened.page
    examples = page.locator("#picture-examples .example")
    examples.first.wait_for()
    count = examples.count()
    assert count >= 3
    for place in range(count):
        examples.nth(place).click()
    wait(page, count)
    captions = page.locator(".shelved-text").all_inner_texts()
    assert len(captions) == count
    assert len(set(captions)) == count
    page.locator(".shelved").last.click()
    assert text(page, "#stage-caption") == captions[-1]
    page.get_by_role("button", name="Remove", exact=False).nth(1).click()
    assert page.locator(".shelved").count() == count - 1
    opened.shot("examples")


@pytest.mark.parametrize("way", [DROP, PASTE], ids=["dropped", "pasted"])
def test_a_picture_can_be_dropped_and_pasted_anywhere(pages: Pages, photograph: Path, way: str) -> None:
    page = pages.open(part="story").page
    page.evaluate(way, [photograph.name, "image/jpeg", base64.b64encode(photograph.read_bytes()).decode()])
    page.locator("#stage-result").wait_for()
    assert page.locator("#tab-picture").get_attribute("aria-selected") == "true"
    assert page.locator("#veil").is_hidden()
    assert text(page, "#stage-caption") == api_caption(page, photograph)["caption"]


def test_a_picture_is_taken_with_the_camera(pages: Pages) -> None:
    opened = pages.open(width=390, dark=True)
    page = opened.page
    page.locator("#picture-camera").tap()
    page.locator("#camera-take:enabled").wait_for()
    page.locator("#camera-take").tap()
    page.locator("#stage-result").wait_for()
    assert text(page, "#stage-name") == "camera.jpg"
    assert page.locator("#stage-image").evaluate("picture => picture.naturalWidth") > 100
    assert page.locator("#camera-video").evaluate("video => video.srcObject") is None
    opened.shot("camera-phone-dark")


def test_where_pages_get_no_camera_the_phones_own_is_opened(pages: Pages, photograph: Path) -> None:
    page = pages.open(width=390).page
    # As browsers have it for pages that came by plain HTTP from another machine.
    page.evaluate("Object.defineProperty(navigator, 'mediaDevices', { value: undefined })")
    with page.expect_file_chooser() as chooser:
        page.locator("#picture-camera").tap()
    assert chooser.value.element.get_attribute("capture") == "environment"
    chooser.value.set_files(photograph)
    page.locator("#stage-result").wait_for()


def test_a_bad_picture_costs_itself_alone(pages: Pages, photograph: Path, tmp_path: Path) -> None:
    opened = pages.open()
    page = opened.page
    (tmp_path / "notes.jpg").write_text("no picture at all")
    choose(page, tmp_path / "notes.jpg", photograph)
    assert page.locator(".shelved.bad").count() == 1
    assert "notes.jpg" in text(page, "#stage-problem")
    assert (
        page.locator(".shelved:not(.bad) .shelved-text").inner_text()
        == api_caption(page, photograph)["caption"]
    )
    opened.shot("bad-picture")
    page.locator("#shelf-clear").click()
    choose(page, tmp_path / "notes.jpg")  # alone it is the whole answer that is an error
    assert "notes.jpg" in text(page, "#stage-problem")


def test_names_from_outside_are_only_text(pages: Pages, photograph: Path) -> None:
    page = pages.open().page
    title = page.title()
    file: FilePayload = {"name": HOSTILE, "mimeType": "image/jpeg", "buffer": photograph.read_bytes()}
    bad: FilePayload = {"name": HOSTILE, "mimeType": "image/jpeg", "buffer": b"no picture"}
    choose(page, file, bad)
    assert page.locator("#stage-name").inner_text() == HOSTILE
    assert page.locator("img[src=x]").count() == 0
    assert page.title() == title


def test_a_wider_beam_applies_at_once(pages: Pages, photograph: Path) -> None:
    page = pages.open().page
    choose(page, photograph)
    assert page.locator("#stage-alternatives li").count() == 5
    page.locator("#picture details summary").click()
    page.locator("#beam-size").fill("1")
    page.locator("#beam-size").blur()
    page.locator("#stage-others").wait_for(state="hidden")
    wait(page, 1)
    assert text(page, "#stage-caption") == api_caption(page, photograph, beam_size="1")["caption"]


def test_a_caption_can_be_saved(pages: Pages, photograph: Path) -> None:
    page = pages.open().page
    choose(page, photograph)
    with page.expect_download() as download:
        page.locator("#stage-save").click()
    assert download.value.suggested_filename == "officer.caption.json"
    saved = json.loads(download.value.path().read_text(encoding="utf-8"))
    assert saved["caption"] == text(page, "#stage-caption")
    assert saved["image"] == "officer.jpg"


def test_tabs_are_walked_by_the_keyboard_and_named_in_the_address(pages: Pages) -> None:
    page = pages.open(part="film").page
    assert page.locator("#film").is_visible()
    page.locator("#tab-film").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "tab-story"
    assert page.locator("#story").is_visible() and page.locator("#film").is_hidden()
    page.keyboard.press("ArrowRight")
    assert page.locator("#picture").is_visible()
    assert page.url.endswith("#picture")


@pytest.mark.parametrize("width", [320, 390, 768])
def test_nothing_is_wider_than_the_window(pages: Pages, photograph: Path, width: int) -> None:
    opened = pages.open(width=width)
    for part in ("story", "film", "picture"):
        opened.page.locator(f"#tab-{part}").click()
        assert not opened.is_too_wide(), part
    long_name: FilePayload = {
        "name": "n" * 120 + ".jpg",
        "mimeType": "image/jpeg",
        "buffer": photograph.read_bytes(),
    }
    choose(opened.page, long_name)
    assert not opened.is_too_wide()
    opened.shot(f"picture-{width}")


def test_a_busy_server_is_asked_again(pages: Pages, photograph: Path) -> None:
    page = pages.open().page
    answers = iter((True, False))

    def refuse_once(route: Route) -> None:
        """As the server does when its queue is full, which it cannot be made to be at a given moment."""
        error = {"error": {"code": "busy", "message": "too many pictures wait already"}}
        if next(answers):
            route.fulfill(status=429, json=error, headers={"Retry-After": "1"})
        else:
            route.continue_()

    page.route("**/v1/captions", refuse_once)
    page.locator("#picture-input").set_input_files(photograph)
    page.locator("#picture-status", has_text="The server is busy; trying again in 1 s").wait_for()
    page.locator("#stage-result").wait_for()
    assert text(page, "#stage-caption") == api_caption(page, photograph)["caption"]


@pytest.mark.parametrize("unsure_below", [0.0, 1.0])
def test_a_caption_is_marked_that_the_model_is_unsure_of(
    pages: Pages, served: Server, photograph: Path, unsure_below: float
) -> None:
    known = served.client.get("/v1/models").json()
    assert known["models"][0]["unsure_below"] == read_config(BUNDLED)["unsure_below"]
    known["models"][0]["unsure_below"] = unsure_below
    opened = pages.open()
    opened.page.route("**/v1/models", lambda route: route.fulfill(json=known))
    opened.page.reload()
    choose(opened.page, photograph)
    assert opened.page.locator("#stage-unsure").is_visible() == (unsure_below == 1.0)


def test_the_shelf_is_gone_along_by_the_keyboard(pages: Pages, photograph: Path) -> None:
    page = pages.open().page
    choose(page, photograph, photograph, photograph)
    focused = "[document.activeElement.className, document.querySelector('.shelf').children.length]"
    page.locator(".shelved").nth(1).focus()
    page.keyboard.press("Enter")
    assert page.locator(".shelved").nth(1).get_attribute("aria-current") == "true"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate(focused) == ["remove", 2]


def test_everything_that_can_be_used_has_a_name(pages: Pages, photograph: Path) -> None:
    page = pages.open().page
    choose(page, photograph, photograph)
    nameless = """[...document.querySelectorAll("button, input, select, textarea, dialog, video, [role]")]
        .filter((one) => !one.textContent.trim() && !one.labels?.length && !one.hidden
            && !one.ariaLabel && !one.hasAttribute("aria-labelledby") && one.role !== "status"
            && one.role !== "alert" && one.tagName !== "VIDEO").map((one) => one.outerHTML)"""
    assert page.evaluate(nameless) == []


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    """A server with a token, that takes small pictures only."""
    variables = {"GPUCAPT_SERVE_TOKEN": "open sesame", "GPUCAPT_SERVE_IMAGE_SIZE": "20000"}
    with running(**variables) as started:
        yield started


def give_token(opened: Open, token: str) -> None:
    page = opened.page
    page.locator("#token").wait_for()
    page.locator("#token-value").fill(token)
    page.keyboard.press("Enter")


def test_the_token_is_asked_for_and_kept(browser: Browser, guarded: Server, photograph: Path) -> None:
    pages = Pages(browser, guarded.url)
    opened = pages.open()
    page = opened.page
    give_token(opened, "wrong")
    page.get_by_text("not accepted").wait_for()
    opened.shot("token")
    give_token(opened, "open sesame")
    page.locator("[data-state=ready]").wait_for()
    page.reload()
    page.locator("[data-state=ready]").wait_for()
    assert page.locator("#token").is_hidden()
    choose(page, photograph)  # larger than this server takes
    assert "this server takes pictures of up to 20 KB" in text(page, "#stage-problem")
    pages.close()


def test_a_server_that_is_gone_is_said(browser: Browser, guarded: Server, tmp_path: Path) -> None:
    pages = Pages(browser, guarded.url)
    opened = pages.open()
    give_token(opened, "open sesame")
    opened.page.locator("[data-state=ready]").wait_for()
    assert guarded.end() == 0
    opened.page.locator("#picture-input").set_input_files(write_still(tmp_path / "small.png", 1))
    opened.page.get_by_text("The server does not answer").first.wait_for()
    pages.close()
