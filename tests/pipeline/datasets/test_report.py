"""dataset.html: its numbers are right, and it shows itself in a browser without asking for anything."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.datasets.annotations import Example
from pipeline.datasets.preprocess import Preprocessing, preprocess
from tests.media import write_photograph
from tests.pipeline.captioned import SUBJECTS
from tests.services.browser import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HOSTILE = "<img src=x onerror=document.title='owned'>.png"
SETTINGS = Preprocessing(min_word_freq=1, image_size=64, max_length=9, workers=2)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    pictures = folder / "pictures"
    examples = []
    for number, (subject, text) in enumerate(SUBJECTS.items()):
        for copy in range(2):
            name = HOSTILE if (subject, copy) == ("cat", 1) else f"{subject} {copy}.png"
            write_photograph(pictures / name, subject, size=(90 + 10 * copy, 80))
            split = "train" if number < 4 else "val"
            examples.append(Example(name, split, (tuple(text.split()), ("short", subject))))
    examples += [
        Example("gone.png", "train", (("nothing",),)),
        Example("long.png", "train", (("very",) * 10,)),
    ]
    preprocess("zoo & more", examples, pictures, folder / "data", SETTINGS)
    return folder / "data" / "dataset.html"


def text_of(page: Path) -> str:
    """What a reader sees, white space made single."""
    body = page.read_text(encoding="utf-8").partition("<body>")[2]
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def test_its_numbers_are_those_of_the_captions(page: Path) -> None:
    text = text_of(page)
    # In train two pictures of four subjects with two captions each: of 7, 6, 8 and 7 words, and of 2.
    assert "train 8 16 4.5 8 " in text
    assert "val 4 8 4.0 6 " in text
    assert "1 picture could not be used" in text
    assert "gone.png the file is missing." in text
    assert "1 picture has no caption of 1 to 9 words" in text
    assert "there is only train and val" in text


def test_it_says_what_each_threshold_knows(page: Path) -> None:
    text = text_of(page)
    rows = dict(re.findall(r"(\d+)(?: this one)? (\d+ 1?\d\d\.\d % \d+\.\d %|\d+ \d+\.\d % \d+\.\d %)", text))
    words, train, val = rows["1"].replace(" %", "").split()
    said = [*(word for name in list(SUBJECTS)[:4] for word in (*SUBJECTS[name].split(), "short", name))]
    assert int(words) == len(set(said)), "each word of train is said twice at least"
    assert float(train) == 100
    of_val = [*(word for name in list(SUBJECTS)[4:] for word in (*SUBJECTS[name].split(), "short", name))]
    known = sum(word in said for word in of_val) / len(of_val)
    assert float(val) == pytest.approx(100 * known, abs=0.05)


def test_every_picture_of_a_small_dataset_is_among_the_samples(page: Path) -> None:
    samples = page.read_text(encoding="utf-8").partition('id="samples-title"')[2]
    assert samples.count("<img ") == 12
    assert html.escape(HOSTILE, quote=False).replace("'", "&#39;") in samples


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as launched:
        yield launched


@pytest.mark.needs("chromium")
@pytest.mark.parametrize("width", [360, 1280])
def test_a_browser_shows_it_whole_and_asks_for_nothing(page: Path, browser: Browser, width: int) -> None:
    tab = browser.new_page(viewport={"width": width, "height": 800})
    said: list[str] = []
    asked: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(page.as_uri())
    assert tab.title() == "zoo & more · dataset"
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    bars = tab.locator(".bars rect")
    assert bars.count() == 8
    assert tab.evaluate("document.querySelector('.bars rect:last-child').getBoundingClientRect().height") > 5
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    tab.close()
