"""Takes the pictures of docs/web.md from the running page.

gpucapt serve --port 8000 &
python infra/examples/shots.py http://127.0.0.1:8000/ docs/images
"""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

GAP = 24


@contextmanager
def page_of(browser: Browser, url: str, *, width: int, height: int, dark: bool = False) -> Iterator[Page]:
    """The page, once its model is loaded."""
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
    )
    context.set_default_timeout(120_000)
    page = context.new_page()
    page.goto(url)
    page.locator("[data-state=ready]").wait_for()
    yield page
    context.close()


def pictures(page: Page) -> None:
    """Caption two examples and light a word of the second."""
    page.locator("#picture-examples .example").nth(1).click()
    page.locator("#stage-result").wait_for()
    page.locator("#picture-examples .example").nth(0).click()
    page.locator("#stage-name", has_text="mountain").wait_for()
    page.locator(".shelved.unsettled").first.wait_for(state="detached")
    page.locator("#stage-strip .cell").nth(3).wait_for()
    page.locator("#stage-caption .word", has_text="jacket").hover()


def film(page: Page) -> None:
    """Caption the example film and go to one of its moments."""
    page.locator("#tab-film").click()
    page.locator("#film-examples .example").click()
    page.locator("#film-done").wait_for()
    page.locator(".moment canvas.drawn").nth(2).wait_for()
    page.locator(".moment").nth(3).click()
    page.wait_for_timeout(500)
    page.evaluate("scrollTo(0, 0)")


def story(page: Page) -> None:
    """Begin a story from the film, and steer it."""
    page.locator("#film-story").click()
    page.locator("#story-start").click()
    page.locator(".turn-foot").wait_for()
    page.locator("#continue-prompt").fill("Tell of the dogs")
    page.locator("#continue-button").click()
    page.locator(".turn-foot").nth(1).wait_for()
    page.locator("#continue-prompt").fill("Suddenly it begins to rain")
    page.evaluate("scrollTo(0, 0)")


def shot(page: Page) -> Image.Image:
    """What the window shows."""
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def save(image: Image.Image, path: Path) -> None:
    """A small file."""
    image.save(path, quality=86, method=6)


def side_by_side(images: list[Image.Image]) -> Image.Image:
    """One picture of several of the same height."""
    width = sum(image.width for image in images) + GAP * (len(images) - 1)
    whole = Image.new("RGB", (width, images[0].height), "white")
    left = 0
    for image in images:
        whole.paste(image, (left, 0))
        left += image.width + GAP
    return whole


def main(url: str, out: Path) -> None:
    """Take all pictures."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        with page_of(browser, url, width=1120, height=1120) as page:
            pictures(page)
            save(shot(page), out / "web-picture.webp")
            film(page)
            save(shot(page), out / "web-film.webp")
            story(page)
            save(shot(page), out / "web-story.webp")
        with page_of(browser, url, width=390, height=800, dark=True) as page:
            pictures(page)
            phone = [shot(page)]
            film(page)
            phone.append(shot(page))
            story(page)
            phone.append(shot(page))
            save(side_by_side(phone), out / "web-phone.webp")
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
