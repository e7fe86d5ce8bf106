"""The page of a run in a real browser: what became of each source, why, how fast, and links that lead on."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.captioning.outcome_store import Outcomes
from pipeline.records.outcome import Input, Outcome
from pipeline.reports.run_files import Run, write_run_report
from pipeline.reports.run_page import RunFacts, rates
from pipeline.reports.text import duration
from pipeline.storage.open import open_storage
from tests.media import write_video
from tests.pipeline.jobs import caption, write_stills
from tests.pipeline.report_pages import Reports, browser, reports

__all__ = ["browser", "reports"]

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"

WRITE = r"""
import re, sys
from pathlib import Path
from tests.pipeline.reports.test_run_page import written
written(Path(sys.argv[2]), int(sys.argv[1]))
print(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
"""

RUN = Run(
    "20261121T101500Z-3fa9c1",
    "s3://footage/incoming",
    "s3://footage/captions",
    "2026-11-21T10:15:00Z",
    "2026-11-21T10:17:05Z",
    "test-model",
    "0123456789ab",
    {"beam_size": 5, "scenes": False, "fps": None},
    125.0,
)


def page_of(outcomes: Outcomes, folder: Path) -> Path:
    write_run_report(RUN, outcomes, open_storage(str(folder)))
    return folder / RUN.folder / "report.html"


def written(folder: Path, count: int) -> Path:
    """The page of a run over films, of which every fiftieth was no film and every tenth was done before."""
    with Outcomes() as outcomes:
        for number in range(count):
            key = f"camera/{number:06}.mp4"
            if number % 50 == 7:
                reason = f"{number:06}.mp4: no video that can be read"
                outcomes.add(Outcome(key, "set aside", reason=reason), ())
            else:
                status = "already done" if number % 10 == 0 else "captioned"
                outcomes.add(Outcome(key, status, 10 + number % 7), ())  # type: ignore[arg-type]
        return page_of(outcomes, folder)


needs_chromium = pytest.mark.needs("chromium")


@needs_chromium
def test_a_job_leaves_a_page_that_leads_to_each_report(
    tmp_path: Path, tiny_model: Path, reports: Reports
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    write_video(source / "trip #1" / "a film.webm", ("cat",), frames_each=20)
    write_stills(source / "album", 3)
    (source / "album" / "torn.png").write_bytes(b"\x89PNG torn")
    (source / "bad.mp4").write_bytes(b"no film")
    assert caption(source, out, tiny_model) == 3
    (path,) = out.glob("runs/*/report.html")
    page = reports.open_page(path, disk=True).page
    facts = dict(
        zip(
            page.locator(".facts dt").all_inner_texts(),
            page.locator(".facts dd").all_inner_texts(),
            strict=True,
        )
    )
    assert (facts["Sources"], facts["Frames captioned"], facts["Set aside"]) == ("3", "5", "2")
    assert float(facts["Frames a second"]) > 0
    assert page.locator(".legend li").all_inner_texts() == ["2 captioned", "1 set aside"]
    lines = [" ".join(line.split()) for line in page.locator("#source-list li").all_inner_texts()]
    assert lines[0] == "album 3 frames 1 set aside"
    assert lines[1].startswith("bad.mp4 set aside ") and lines[2] == "trip #1/a film.webm 2 frames"
    assert page.locator("#error-list .name").all_inner_texts() == ["album/torn.png", "bad.mp4"]
    links = [link.get_attribute("href") for link in page.locator("#source-list a, .files a").all()]
    assert len(links) == 4
    for place in range(2):
        link = page.locator("#source-list a").nth(place)
        name = link.inner_text()
        with page.expect_navigation():
            link.click()
        assert page.locator(".source").inner_text() == name
        page.go_back()
    assert (path.parent / "captions.csv").exists() and (path.parent / "summary.json").exists()


@needs_chromium
def test_films_of_which_something_is_missing_are_found(tmp_path: Path, reports: Reports) -> None:
    with Outcomes() as outcomes:
        outcomes.add(Outcome("a.mp4", "captioned", 5), ())
        outcomes.add(Outcome("b.mp4", "captioned", 5, undecoded_s=12.04), ())
        outcomes.add(Outcome("ü.mp4", "already done", 5, undecoded_s=0.01), ())
        page = reports.open_page(page_of(outcomes, tmp_path), disk=True).page
    lines = [" ".join(line.split()) for line in page.locator("#source-list li").all_inner_texts()]
    assert lines == [
        "a.mp4 5 frames",
        "b.mp4 5 frames 12 s not decoded",
        "ü.mp4 5 frames less than 0.1 s not decoded already done",
    ]
    assert page.locator("#source-list a").nth(2).get_attribute("href") == "../../%C3%BC.mp4/report.html"
    facts = [" ".join(fact.split()) for fact in page.locator(".facts div").all_inner_texts()]
    assert "Damaged films 1" in facts
    page.locator("#status").select_option("damaged")
    assert page.locator("#source-list .name").all_inner_texts() == ["b.mp4", "ü.mp4"]


@needs_chromium
def test_many_sources_come_some_at_a_time_and_can_be_searched(tmp_path: Path, reports: Reports) -> None:
    page = reports.open_page(written(tmp_path, 450)).page
    lines = page.locator("#source-list li")
    assert lines.count() == 200
    page.locator("#more-sources").click()
    assert lines.count() == 400
    assert page.evaluate("document.activeElement.textContent") == "camera/000200.mp4"
    assert page.locator("#more-sources").inner_text() == "Show 50 more"
    page.locator("#search").fill("CAMERA 0044")
    assert lines.count() == 11 and page.locator("#found").inner_text() == "11 of 450"
    page.locator("#search").press("Escape")
    page.locator("#status").select_option("2")
    assert lines.count() == 9 and page.locator("#found").inner_text() == "9 of 450"
    assert "no video that can be read" in lines.first.inner_text()
    page.locator("#status").select_option("")
    page.locator("#order").select_option("frames")
    assert "16 frames" in lines.first.inner_text()
    page.locator("#search").fill("zebra")
    assert page.locator("#nothing").is_visible()


@needs_chromium
def test_reasons_are_counted_and_narrow_the_list(tmp_path: Path, reports: Reports) -> None:
    with Outcomes() as outcomes:
        for number in range(5):
            bad = [Input(f"a/{number}/x.jpg", "e", f"a/{number}/x.jpg", "x.jpg: the file is empty")]
            outcomes.add(Outcome(f"a/{number}", "captioned", 2), bad)
        outcomes.add(Outcome("b.mp4", "set aside", reason="b.mp4: no video"), ())
        outcomes.add(Outcome("c", "left", reason="another worker has it"), ())
        page = reports.open_page(page_of(outcomes, tmp_path)).page
    buttons, listed = page.locator("#reasons button"), page.locator("#error-list li")
    assert buttons.all_inner_texts() == ["5 the file is empty", "1 no video"]
    assert listed.count() == 6
    buttons.nth(1).click()
    assert [" ".join(text.split()) for text in listed.all_inner_texts()] == ["b.mp4 no video"]
    buttons.nth(1).click()
    assert listed.count() == 6
    page.locator("#status").select_option("some")
    assert page.locator("#source-list li").count() == 5
    page.locator("#status").select_option("3")
    assert "another worker has it" in page.locator("#source-list li").inner_text()


@needs_chromium
def test_a_story_that_could_not_be_told_is_not_called_set_aside(tmp_path: Path, reports: Reports) -> None:
    with Outcomes() as outcomes:
        outcomes.add(Outcome("a.mp4", "captioned", 2, untold="the endpoint does not answer; try later"), ())
        outcomes.add(Outcome("b.mp4", "captioned", 2), ())
        page = reports.open_page(page_of(outcomes, tmp_path)).page
    facts = page.locator(".facts dt").all_inner_texts()
    assert "Without a story" in facts and "Set aside" not in facts
    lines = page.locator("#source-list li")
    assert [" ".join(line.split()) for line in lines.all_inner_texts()] == [
        "a.mp4 2 frames no story",
        "b.mp4 2 frames",
    ]
    page.locator("#status").select_option("untold")
    assert lines.count() == 1
    assert page.locator("#set-aside h2").inner_text() == "Without a story"
    found = page.locator("#error-list li").inner_text().split("\n")
    assert found == ["a.mp4, its story", "the endpoint does not answer; try later"]


@needs_chromium
def test_names_from_outside_are_only_text_and_links_lead_to_them(tmp_path: Path, reports: Reports) -> None:
    keys = ["a #1?/50%.mp4", "caf‛E9.mp4", "é 🐕.mp4", f"{HOSTILE.replace('/', '∕')}.mp4"]
    names = [os.fsdecode(b"caf\xe9.mp4") if key.startswith("caf") else key for key in keys]
    with Outcomes() as outcomes:
        for key in keys:
            outcomes.add(Outcome(key, "captioned", 1), ())
        outcomes.add(Outcome("z.mp4", "set aside", reason=HOSTILE), ())
        path = page_of(outcomes, tmp_path)
    for name in names:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "report.html").write_text(f"<title>{keys[names.index(name)][:5]}</title>")
    page = reports.open_page(path, disk=True).page
    assert page.title() == "Run of 21 November 2026, 10:15 · captions"
    assert page.locator("#source-list a").all_text_contents() == sorted(keys)
    assert page.locator("#error-list .reason").inner_text() == HOSTILE
    assert page.evaluate("document.scripts.length") == 4 and page.locator("img[src=x]").count() == 0
    for place, key in enumerate(sorted(keys)):
        with page.expect_navigation():
            page.locator("#source-list a").nth(place).click()
        assert page.title().split("<")[0] == key[:5].split("<")[0]
        page.go_back()


@needs_chromium
@pytest.mark.parametrize("width", [320, 390, 1400])
def test_nothing_is_wider_than_the_window(tmp_path: Path, reports: Reports, width: int) -> None:
    with Outcomes() as outcomes:
        outcomes.add(Outcome("folder/" + "n" * 200 + ".mp4", "captioned", 123456), ())
        outcomes.add(Outcome("x" * 150, "set aside", reason="y" * 300), ())
        outcomes.add(Outcome("z" * 150, "left", reason="y " * 300), ())
        page = reports.open_page(page_of(outcomes, tmp_path), width=width, dark=True).page
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@needs_chromium
def test_a_run_that_did_nothing_has_a_page(tmp_path: Path, reports: Reports) -> None:
    with Outcomes() as outcomes:
        page = reports.open_page(page_of(outcomes, tmp_path)).page
    assert page.locator("#source-list li").count() == 0
    assert page.locator("#set-aside").count() == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_hundred_thousand_sources_take_no_more_memory_than_ten_thousand(tmp_path: Path) -> None:
    def peak_kib(count: int) -> int:
        """The most memory that a process of its own had while it wrote a page of ``count`` sources."""
        command = [sys.executable, "-c", WRITE, str(count), str(tmp_path / str(count))]
        root = Path(__file__).parents[3]
        return int(subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout)

    assert peak_kib(100_000) < peak_kib(10_000) + 6 * 1024
    page = (tmp_path / "100000" / RUN.folder / "report.html").read_text(encoding="utf-8")
    assert page.count("camera/") == 100_000 + 2_000  # each source, and as many errors as the page lists
    assert "all are in" not in page


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "less than 0.1 s"),
        (0.06, "0.1 s"),
        (9.9, "9.9 s"),
        (42.4, "42 s"),
        (59.7, "1 min 0 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_times_are_told_as_people_read_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_throughput_is_of_what_this_run_did() -> None:
    counts = {"captioned": 3, "already_done": 90, "frames": 500}
    facts = RunFacts("r", "in", "out", RUN.started_at, RUN.finished_at, 20.0, "model", {}, counts, 0)
    assert rates(facts) == [("Frames a second", "25"), ("Sources an hour", "540")]
    assert rates(replace(facts, counts={**counts, "captioned": 0, "frames": 0})) == []
