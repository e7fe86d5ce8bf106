"""captions.vtt and captions.srt as a player would read them."""

from __future__ import annotations

import html
import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.records.row import Row
from pipeline.reports.subtitles import Cue, CueMaker, WebVtt, clock, escape_vtt
from tests.pipeline.report_rows import info, write

TIMES = re.compile(r"(\d{2,}):([0-5]\d):([0-5]\d)([.,])(\d{3}) --> (\d{2,}):([0-5]\d):([0-5]\d)[.,](\d{3})")


def parse(text: str, point: str) -> list[Cue]:
    """Read WebVTT or SubRip: blocks parted by empty lines, each a number, a line of times, lines of text."""
    blocks = [block.split("\n") for block in re.split(r"\n\n+", text.strip("\n")) if block]
    if point == ".":
        assert blocks.pop(0) == ["WEBVTT"]
    cues = []
    for number, block in enumerate(blocks, 1):
        assert block[0] == str(number)
        times = TIMES.fullmatch(block[1])
        assert times is not None and times[4] == point
        parts = [int(times[group]) for group in (1, 2, 3, 5, 6, 7, 8, 9)]
        start, end = (
            ((hours * 60 + minutes) * 60 + seconds) * 1000 + ms
            for hours, minutes, seconds, ms in (parts[:4], parts[4:])
        )
        assert not any("-->" in line for line in block[2:])
        cues.append(Cue(start, end, html.unescape("\n".join(block[2:]))))
    return cues


def cues_of(frames: list[tuple[float, str]]) -> list[Cue]:
    maker = CueMaker()
    made = [maker.add(row) for row in film(frames)]
    return [*(cue for cue in made if cue is not None), *maker.finish()]


def film(frames: list[tuple[float, str]]) -> list[Row]:
    return [Row(place, place, time, text, text.split(), -1.0) for place, (time, text) in enumerate(frames)]


@pytest.mark.parametrize(("name", "point"), [("captions.vtt", "."), ("captions.srt", ",")])
def test_a_caption_lasts_until_the_next_one(tmp_path: Path, name: str, point: str) -> None:
    frames = [(0.0, "a dog"), (1.0, "a dog"), (2.5, "a cat"), (3600.0, "a cup")]
    written = write(film(frames), tmp_path)
    assert parse(written.text(name), point) == [
        Cue(0, 2500, "a dog"),
        Cue(2500, 3_600_000, "a cat"),
        Cue(3_600_000, 3_610_000, "a cup"),
    ]


@pytest.mark.parametrize(
    ("frames", "end"),
    [
        ([(0.0, "a"), (0.5, "b")], 1000),  # as long as the frame before
        ([(0.0, "a"), (0.04, "b")], 540),  # long enough to be read
        ([(0.0, "a"), (600.0, "b")], 610_000),  # not for minutes
        ([(7.0, "a")], 9000),  # a single frame
        ([(0.0, "a"), (1.0, "a"), (2.0, "a")], 3000),
    ],
)
def test_the_last_caption_has_a_sensible_end(frames: list[tuple[float, str]], end: int) -> None:
    assert cues_of(frames)[-1].end_ms == end


def test_a_frame_without_a_caption_is_a_gap() -> None:
    assert cues_of([(0.0, "a"), (1.0, ""), (2.0, "b")]) == [Cue(0, 1000, "a"), Cue(2000, 3000, "b")]


def test_of_frames_at_one_time_the_last_is_shown() -> None:
    assert cues_of([(0.0, "a"), (1.0, "b"), (1.0, "c"), (2.0, "c")]) == [
        Cue(0, 1000, "a"),
        Cue(1000, 3000, "c"),
    ]


def test_a_clock_that_jumps_back_stands_still() -> None:
    cues = cues_of([(0.0, "a"), (5.0, "b"), (1.0, "c"), (6.0, "d")])
    assert [(cue.start_ms, cue.end_ms) for cue in cues] == [(0, 5000), (5000, 6000), (6000, 7000)]


@pytest.mark.parametrize(
    ("ms", "said"),
    [(0, "00:00:00.000"), (999, "00:00:00.999"), (3_599_999, "00:59:59.999"), (3_600_000, "01:00:00.000")],
)
def test_clock(ms: int, said: str) -> None:
    assert clock(ms, ".") == said


def test_a_hundred_hours_keep_their_digits() -> None:
    assert clock(100 * 3_600_000 + 61_001, ",") == "100:01:01,001"


def test_a_third_of_a_second_is_rounded_not_cut() -> None:
    assert cues_of([(0.0, "a"), (2 / 3, "b")])[0].end_ms == 667


def test_what_looks_like_markup_is_text(tmp_path: Path) -> None:
    caption = "a <b>dog</b> & a --> cat"
    written = write(film([(0.0, caption)]), tmp_path)
    assert "a &lt;b&gt;dog&lt;/b&gt; &amp; a --&gt; cat" in written.text("captions.vtt")
    assert parse(written.text("captions.vtt"), ".") == [Cue(0, 2000, caption)]
    assert parse(written.text("captions.srt"), ",") == [Cue(0, 2000, caption.replace("-->", "->"))]


caption_texts = st.sampled_from(["", "a dog", "a cat", "a\n\nb", "x --> y & <z>"]) | st.text(max_size=12)
times = st.lists(st.floats(0, 400_000), max_size=12) | st.lists(st.integers(0, 5).map(float), max_size=12)


@settings(deadline=None)
@given(times, st.data())
def test_any_film_gives_cues_in_order_that_do_not_overlap(when: list[float], data: st.DataObject) -> None:
    cues = cues_of([(time, data.draw(caption_texts)) for time in sorted(when)])
    assert all(cue.start_ms < cue.end_ms for cue in cues)
    assert all(one.end_ms <= other.start_ms for one, other in itertools.pairwise(cues))
    assert all(
        one.text != other.text or one.end_ms < other.start_ms for one, other in itertools.pairwise(cues)
    )


@settings(deadline=None)
@given(st.text(max_size=40))
def test_escaped_text_reads_back(text: str) -> None:
    escaped = escape_vtt(text)
    assert not set("<>") & set(escaped)
    for entity, character in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
        escaped = escaped.replace(entity, character)
    assert escaped == text


def test_a_still_makes_no_cue(tmp_path: Path) -> None:
    writer = WebVtt(info(), tmp_path)
    writer.add(Row(0, "a.jpg", None, "a cat", ["a", "cat"], -1.0))
    writer.close(iter(()))
    assert (tmp_path / "captions.vtt").read_text(encoding="utf-8") == "WEBVTT\n"
