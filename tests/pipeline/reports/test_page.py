"""report.html in a real browser: it works from a disk, asks for nothing, runs nothing from outside."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.records.row import Row
from pipeline.reports import write_outputs
from tests.pipeline.report_pages import Reports, browser, reports, until
from tests.pipeline.report_rows import Written, bad_still, film_row, info, long_film, still_row, write

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["browser", "reports"]

HOSTILE_NAME = "<img src=x onerror='document.title=1'> & <b>"
HOSTILE = '<script>document.title="owned"</script><img src=x onerror=\'document.title="owned"\'>'
CAPTIONS = ("a brown dog is running", "two men are standing on a rock", "a cat on a mat")


def film(count: int = 12) -> list[Row]:
    return [
        film_row(place, CAPTIONS[place // 4 % 3], log_prob=-12.0 if place == 5 else -2.0)
        for place in range(count)
    ]


pytestmark = pytest.mark.needs("chromium")


def test_it_shows_the_story_and_a_card_for_each_frame(tmp_path: Path, reports: Reports) -> None:
    page = reports.open(write(film(), tmp_path)).page
    assert page.title() == "Clip · captions"
    assert page.locator("h1").inner_text() == "Clip"
    assert "For the first four seconds, a brown dog is running." in page.locator(".story").inner_text()
    assert page.locator(".card").count() == 12
    card = page.locator(".card").nth(4)
    assert card.locator(".when").text_content() == "0:04"
    assert card.locator(".caption").text_content() == "two men are standing on a rock"
    assert card.locator(".sure").text_content() == "78%"
    until(page, "document.querySelector('.card img').naturalWidth === 64")
    assert page.locator("#found").inner_text() == "12 shown"


def test_search_leaves_the_cards_that_match(tmp_path: Path, reports: Reports) -> None:
    opened = reports.open(write(film(), tmp_path))
    search = opened.page.locator("#search")
    search.fill("MEN rock")
    assert opened.shown() == ["0:04", "0:05", "0:06", "0:07"]
    assert opened.page.locator("#found").inner_text() == "4 of 12"
    assert opened.page.locator(".word.match:visible").count() == 8
    search.fill("zebra")
    assert opened.shown() == []
    assert opened.page.locator("#nothing").is_visible()
    search.press("Escape")
    assert len(opened.shown()) == 12


def test_low_confidence_is_marked_and_can_be_looked_at_first(tmp_path: Path, reports: Reports) -> None:
    opened = reports.open(write(film(), tmp_path))
    page = opened.page
    assert page.locator(".card .mark-unsure").count() == 1
    assert "1 of 12 captions is below 30% and marked" in " ".join(
        page.locator(".confidence").inner_text().split()
    )
    page.locator("#order").select_option("unsure")
    assert opened.shown()[0] == "0:05"
    page.locator("#unsure").check()
    assert opened.shown() == ["0:05"]


def test_resting_on_a_word_shows_where_the_model_looked(tmp_path: Path, reports: Reports) -> None:
    opened = reports.open(write(film(), tmp_path))
    words = opened.page.locator(".card").first.locator(".word")
    assert opened.lit() == 0
    words.nth(0).hover()
    assert opened.lit() == 1
    first = opened.pixels()
    words.nth(2).hover()
    assert opened.lit() == 1
    assert opened.pixels() != first
    opened.page.mouse.move(0, 0)
    assert opened.lit() == 0


def test_the_map_lies_where_the_attention_was(tmp_path: Path, reports: Reports) -> None:
    row = film_row(0, "a dog")
    row.grid, row.attention = (2, 2), bytes([255, 0, 0, 0]) + bytes([0, 0, 0, 255])
    opened = reports.open(write([row], tmp_path))
    brightness = """canvas => [[.25, .25], [.75, .25], [.25, .75], [.75, .75]].map(([x, y]) => {
        const copy = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
        copy.drawImage(canvas, -x * canvas.width, -y * canvas.height);
        return copy.getImageData(0, 0, 1, 1).data.slice(0, 3).reduce((sum, channel) => sum + channel);
    })"""
    canvas, words = opened.page.locator(".card canvas"), opened.page.locator(".card .word")
    words.nth(0).hover()
    corners = canvas.evaluate(brightness)
    assert max(corners) == corners[0] > corners[3]
    words.nth(1).hover()
    corners = canvas.evaluate(brightness)
    assert max(corners) == corners[3] > corners[0]


def test_an_almost_even_map_stays_cool(tmp_path: Path, reports: Reports) -> None:
    row = film_row(0, "a dog")
    row.grid, row.attention = (2, 2), bytes([255, 253, 254, 252]) + bytes([255, 120, 130, 110])
    opened = reports.open(write([row], tmp_path))
    hottest = """canvas => {
        const {width, height} = canvas;
        const copy = new OffscreenCanvas(width, height).getContext('2d', {willReadFrequently: true});
        copy.drawImage(canvas, 0, 0);
        const reds = copy.getImageData(0, 0, width, height).data.filter((_, at) => at % 4 === 0);
        return Math.max(...reds);
    }"""
    canvas, words = opened.page.locator(".card canvas"), opened.page.locator(".card .word")
    words.nth(0).hover()
    assert canvas.evaluate(hottest) < 60
    words.nth(1).hover()
    assert canvas.evaluate(hottest) > 200


def test_words_of_a_model_that_does_not_attend_promise_nothing(tmp_path: Path, reports: Reports) -> None:
    row = film_row(0, "a dog")
    for folder, attention in (("attends", bytes(8)), ("does not", b"")):
        row.grid, row.attention = (2, 2) if attention else (0, 0), attention
        opened = reports.open(write([row], tmp_path / folder))
        assert opened.page.get_by_text("Rest on a word").is_visible() == bool(attention)
        assert opened.page.locator(".card button.word").count() == (2 if attention else 0)


def test_words_are_reached_by_the_keyboard(tmp_path: Path, reports: Reports) -> None:
    opened = reports.open(write(film(), tmp_path))
    page = opened.page
    page.locator(".card .picture").first.focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "a"
    assert opened.lit() == 1
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.textContent") == "brown"
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.textContent") == "running"
    page.keyboard.press("Tab")  # one stop a caption: on to the next picture
    assert page.evaluate("document.activeElement.className") == "picture"
    assert opened.lit() == 0
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"


def test_tapping_a_word_shows_its_map(tmp_path: Path, reports: Reports) -> None:
    opened = reports.open(write(film(), tmp_path), width=390, touch=True)
    opened.page.locator(".card .word").nth(1).tap()
    assert opened.lit() == 1


@pytest.mark.parametrize("width", [320, 390, 768, 1600])
def test_nothing_is_wider_than_the_window(tmp_path: Path, reports: Reports, width: int) -> None:
    rows: list[Row] = [
        still_row(place, f"{'long-' * 30}{place}.jpg", CAPTIONS[place % 3]) for place in range(9)
    ]
    rows.append(bad_still(9, "x" * 200 + ".jpg", "y" * 300))
    opened = reports.open(
        write(rows, tmp_path, info("stills", "folder/" + "n" * 150)), width=width, dark=True
    )
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    opened.page.locator(".picture").first.click()
    assert opened.page.locator("#viewer").evaluate("viewer => viewer.scrollWidth <= viewer.clientWidth")
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width


def test_dark_mode_is_dark(tmp_path: Path, reports: Reports) -> None:
    written = write(film(), tmp_path)
    background = "getComputedStyle(document.body).backgroundColor"
    channels = {
        dark: [
            int(part)
            for part in re.findall(r"\d+", reports.open(written, dark=dark).page.evaluate(background))
        ]
        for dark in (False, True)
    }
    assert min(channels[False]) > 220
    assert max(channels[True]) < 60


def test_the_plot_leads_to_the_frame(tmp_path: Path, reports: Reports) -> None:
    page = reports.open(write(film(), tmp_path)).page
    plot = page.locator("#plot")
    box = plot.bounding_box()
    assert box is not None
    assert plot.locator(".dot").count() == 12
    assert plot.locator(".dot.low").count() == 1
    plot.hover(position={"x": box["width"] - 20, "y": 60})
    assert "0:11" in plot.locator(".tip").inner_text()
    plot.click(position={"x": box["width"] - 20, "y": 60})
    assert page.evaluate("document.activeElement.closest('.card').id") == "frame-11"
    plot.focus()
    for key in ("Home", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    assert page.evaluate("document.activeElement.closest('.card').id") == "frame-1"


def test_the_plot_leads_to_a_frame_that_the_search_hides(tmp_path: Path, reports: Reports) -> None:
    opened = reports.open(write(film(), tmp_path))
    opened.page.locator("#search").fill("zebra")
    opened.page.locator("#plot").focus()
    for key in ("End", "Enter"):
        opened.page.keyboard.press(key)
    assert opened.page.evaluate("document.activeElement.closest('.card').id") == "frame-11"
    assert len(opened.shown()) == 12


def test_a_picture_opens_large_with_a_map_for_each_word(tmp_path: Path, reports: Reports) -> None:
    page = reports.open(write(film(), tmp_path)).page
    page.locator(".picture").nth(4).click()
    viewer = page.locator("#viewer")
    page.wait_for_selector("#viewer .cell")
    assert viewer.locator(".cell").all_inner_texts() == CAPTIONS[1].split()
    assert "Frame 100, at 4.000" in viewer.locator("#viewer-title").inner_text()
    viewer.locator(".cell").nth(1).hover()
    assert viewer.locator("#viewer-heat.on").count() == 1
    assert viewer.locator(".word.lit").inner_text() == "men"
    page.locator("#viewer-next").click()
    assert "Frame 125" in viewer.locator("#viewer-title").inner_text()
    page.keyboard.press("Escape")
    assert not viewer.is_visible()
    assert page.evaluate("document.activeElement.closest('.card').id") == "frame-5"


def test_names_and_captions_from_outside_are_only_text(tmp_path: Path, reports: Reports) -> None:
    rows = [
        still_row(0, f"{HOSTILE}.jpg", f"a dog {HOSTILE}"),
        still_row(1, "</script><!-- 🐕 \u2028 \udcff.jpg", "a <!-- cat"),
        bad_still(2, f"{HOSTILE}\n.jpg", f"bad {HOSTILE}"),
    ]
    page = reports.open(write(rows, tmp_path, info("stills", f"in/{HOSTILE_NAME}"))).page
    page.locator(".picture").first.click()
    page.keyboard.press("Escape")
    page.locator("#plot").hover()
    assert page.title() == f"{HOSTILE_NAME} · captions"
    assert page.locator("h1").inner_text() == HOSTILE_NAME
    names = [f"{HOSTILE}.jpg", "</script><!-- 🐕 \udcff.jpg"]
    assert page.locator(".card .when").all_text_contents() == names
    assert page.locator(".card .caption").first.text_content() == f"a dog {HOSTILE}"
    assert page.locator(".set-aside .name").inner_text() == f"{HOSTILE} .jpg"
    assert page.evaluate("document.scripts.length") == 3
    assert page.locator("img[src=x]").count() == 0


def test_the_policy_lets_no_foreign_script_run(tmp_path: Path, browser: Browser) -> None:
    written = write(film(), tmp_path)
    path = written.directory / "report.html"
    foreign = '<script>document.title = "owned"</script><img src="http://127.0.0.1:9/x.png">'
    path.write_text(written.text("report.html").replace("</main>", foreign + "</main>"), encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    assert page.locator(".card").count() == 12
    assert page.title() == "Clip · captions"
    assert (
        page.evaluate("performance.getEntriesByType('resource').filter(entry => entry.transferSize).length")
        == 0
    )
    page.close()


def test_set_aside_stills_are_listed_with_their_reasons(tmp_path: Path, reports: Reports) -> None:
    rows = [
        still_row(0, "a.jpg", "a cat"),
        *(bad_still(place, f"{place}.jpg", "empty file") for place in range(1, 251)),
    ]
    page = reports.open(write(rows, tmp_path)).page
    assert page.locator(".set-aside li").count() == 200
    assert page.locator(".set-aside li").first.inner_text().split("\n") == ["1.jpg", "empty file"]
    assert "And 50 more, in captions.json" in page.locator(".set-aside").inner_text()


def test_a_long_film_shows_300_frames_and_says_where_the_rest_is(tmp_path: Path, reports: Reports) -> None:
    written = Written(tmp_path, write_outputs(info(), long_film(1000), tmp_path, story=None))
    page = reports.open(written).page
    assert page.locator(".card").count() == 250
    assert "250 of 1,000 frames are shown here" in page.locator("#shown").inner_text()
    assert page.locator("#shown a").get_attribute("href") == "captions.csv"
    assert page.locator("#plot .curve").count() == 1


@pytest.mark.parametrize("rows", [[], [film_row(0, "a dog")], [bad_still(0, "a.jpg", "empty")],
                                  [film_row(0, "a dog", illustrated=False)], [film_row(0, "")]])  # fmt: skip
def test_little_is_no_error(tmp_path: Path, reports: Reports, rows: list[Row]) -> None:
    page = reports.open(write(rows, tmp_path)).page
    assert page.locator("h1").is_visible()
    assert page.locator(".card").count() == sum(row.thumbnail is not None for row in rows)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("一 只 狗 穿 t 恤", "一只狗穿t恤"),
        ("สุ นั ข วิ่ ง", "สุนัขวิ่ง"),
        ("एक कुत्ता है", "एक कुत्ता है"),
        ("a a b", "a a b"),
    ],
)
def test_captions_have_blanks_where_their_script_has(
    tmp_path: Path, reports: Reports, words: str, shown: str
) -> None:
    row = film_row(0, words)
    row.caption = shown
    page = reports.open(write([row], tmp_path)).page
    assert page.locator(".card .caption").first.text_content() == shown
    assert page.locator(".card .word").all_text_contents() == words.split()
