"""Shots: of frames that look alike the surest caption; times that subtitles, chapters and stories share."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.records.row import Row
from pipeline.records.source_info import SourceInfo
from pipeline.reports.film import chapters
from pipeline.reports.subtitles import Cue, CueMaker
from pipeline.stories import outline_story
from pipeline.stories.scenes import find_scenes
from pipeline.stories.shots import ShotMaker, shots

INFO = SourceInfo("film.mp4", "video", "test-model", "0123456789ab", "")


def row(at: float, caption: str, sure: float = -4.0, *, alike: bool = False, end: float | None = None) -> Row:
    return Row(0, round(at * 25), at, caption, caption.split(), sure, is_alike=alike, end_s=end)


def cues(rows: list[Row]) -> list[Cue]:
    maker = CueMaker()
    made = [maker.add(one) for one in rows]
    return [*(cue for cue in made if cue is not None), *maker.finish()]


FIVE_SCENES = [
    row(4.0 * n, caption, end=4.0 * n + 4.0)
    for n, caption in enumerate(
        [
            "a dog runs on grass",
            "two men sit at a table",
            "a red car drives",
            "a child eats an apple",
            "a boat",
        ]
    )
]
"""Of a film of 20 s with cuts at 4, 8, 12 and 16 s."""


def test_cues_of_scenes_begin_and_end_at_the_cuts() -> None:
    assert [(cue.start_ms, cue.end_ms) for cue in cues(FIVE_SCENES)] == [
        (0, 4000), (4000, 8000), (8000, 12_000), (12_000, 16_000), (16_000, 20_000),
    ]  # fmt: skip


def test_chapters_and_story_of_scenes_begin_and_end_at_the_cuts() -> None:
    wanted = [(4.0 * n, 4.0 * n + 4.0) for n in range(5)]
    assert [(one.start_s, one.end_s) for one in chapters(lambda: iter(FIVE_SCENES))] == wanted
    timeline = outline_story(INFO, FIVE_SCENES).timeline
    assert timeline is not None
    assert [(scene.start, scene.end) for scene in timeline.scenes] == wanted
    assert timeline.seconds == 20


def test_a_film_of_one_scene_is_one_cue_of_its_length() -> None:
    assert cues([row(0.04, "a boat", end=45.52)]) == [Cue(40, 45_520, "a boat")]


def test_a_scene_that_is_over_when_it_begins_lasts_until_the_next() -> None:
    assert cues([row(0, "a dog", end=0.0), row(4, "a cat", end=3.0)]) == [
        Cue(0, 4000, "a dog"),
        Cue(4000, 8000, "a cat"),
    ]


def test_a_scene_that_says_too_late_an_end_gives_way_to_the_next() -> None:
    assert cues([row(0, "a dog", end=5.0), row(4, "a cat", end=6.0)]) == [
        Cue(0, 4000, "a dog"),
        Cue(4000, 6000, "a cat"),
    ]


def test_nothing_is_shown_between_the_end_of_a_window_and_the_next() -> None:
    assert cues([row(0, "a dog", end=2.0), row(4, "a dog", end=5.0)]) == [
        Cue(0, 2000, "a dog"),
        Cue(4000, 5000, "a dog"),
    ]


FLICKER = [
    row(0, "a dog runs on grass", -9.0),
    row(1, "a brown dog is running", -6.0, alike=True),
    row(2, "a dog runs on grass", -8.0, alike=True),
    row(3, "two men sit at a table", -3.0),
    row(4, "two men at a table", -9.0, alike=True),
]


def test_a_shot_that_does_not_change_has_its_surest_caption_throughout() -> None:
    assert cues(FLICKER) == [
        Cue(0, 3000, "a brown dog is running"),
        Cue(3000, 5000, "two men sit at a table"),
    ]
    told = [chapter.text for chapter in chapters(lambda: iter(FLICKER))]
    assert told == ["A brown dog is running", "Two men sit at a table"]
    story = outline_story(INFO, FLICKER)
    assert "brown dog" in story.paragraphs[0] and "grass" not in story.paragraphs[0]


def test_sure_is_told_by_the_word_and_not_by_the_caption() -> None:
    rows = [row(0, "a dog", -4.0), row(1, "a brown dog is running on the grass", -5.0, alike=True)]
    assert cues(rows) == [Cue(0, 2000, "a brown dog is running on the grass")]


def test_of_equally_sure_captions_the_first_is_kept() -> None:
    assert cues([row(0, "a dog"), row(1, "a cat", alike=True)]) == [Cue(0, 2000, "a dog")]


def test_a_caption_without_words_tells_no_shot_that_another_can_tell() -> None:
    assert cues([row(0, "", -0.01), row(1, "a dog", -9.0, alike=True)]) == [Cue(0, 2000, "a dog")]


def test_scenes_that_look_alike_are_shown_as_one() -> None:
    rows = [row(0, "a dog", -5, end=4.0), row(4, "a cat", -4, end=8.0, alike=True), row(8, "a cup", end=9.5)]
    assert cues(rows) == [Cue(0, 8000, "a cat"), Cue(8000, 9500, "a cup")]


def test_all_frames_of_a_shot_count_in_the_story() -> None:
    (scene,) = find_scenes(shots(FLICKER[:3]))
    assert (scene.frames, scene.start, scene.end) == (3, 0.0, 3.0)
    ((text, wording),) = scene.wordings.items()
    assert (text, wording.count) == ("a brown dog is running", 3)


def test_stills_are_no_shots_of_one_another() -> None:
    rows = [Row(n, f"{n}.jpg", None, "a dog", ["a", "dog"], -1.0) for n in range(3)]
    rows.insert(1, Row(9, "bad.jpg", None, "", [], 0.0, error="torn"))
    assert [(shot.row.frame, shot.rows) for shot in shots(rows)] == [("0.jpg", 1), ("1.jpg", 1), ("2.jpg", 1)]


def test_a_shot_of_any_length_takes_no_memory() -> None:
    def camera() -> Iterator[Row]:
        for second in range(20_000):
            words = ["a", "man", f"number{second}"]
            yield Row(
                second, second * 25, float(second), " ".join(words), words, -45 + second / 500, is_alike=True
            )

    maker = CueMaker()
    tracemalloc.start()
    try:
        assert [cue for one in camera() if (cue := maker.add(one)) is not None] == []
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    assert maker.finish() == [Cue(0, 20_000_000, "a man number19999")]


def test_no_row_no_shot() -> None:
    assert list(shots([])) == [] and ShotMaker().finish() is None


# -- any film

when = st.integers(0, 9).map(float) | st.floats(0, 400_000)
films = st.lists(
    st.builds(
        row,
        when,
        st.sampled_from(["", "a dog", "a cat", "a dog and a cat", " "]),
        st.floats(-30, 0),
        alike=st.booleans(),
        end=st.none() | when,
    ),
    max_size=12,
)


def sorted_film(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda one: one.timestamp_s or 0.0)


@settings(deadline=None)
@given(films)
def test_cues_of_any_film_are_in_order_apart_and_never_empty(rows: list[Row]) -> None:
    for film in (rows, sorted_film(rows)):
        made = cues(film)
        assert all(0 <= cue.start_ms < cue.end_ms and cue.text for cue in made)
        assert all(one.end_ms <= other.start_ms for one, other in pairwise(made))
        assert all(one.text != other.text or one.end_ms < other.start_ms for one, other in pairwise(made))
        assert {cue.text for cue in made} <= {one.caption for one in film}


def shown_at(made: list[Cue], ms: float) -> str:
    return next((cue.text for cue in made if cue.start_ms <= ms < cue.end_ms), "")


def without(rows: list[Row], **fields: object) -> list[Row]:
    kept = [Row.from_json(one.to_json()) for one in rows]
    for one in kept:
        for name, value in fields.items():
            setattr(one, name, value)
    return kept


@settings(deadline=None)
@given(films)
def test_at_any_time_the_caption_of_the_last_frame_before_is_shown(rows: list[Row]) -> None:
    film = without(sorted_film(rows), end_s=None, is_alike=False)
    made = cues(film)
    starts = [round((one.timestamp_s or 0.0) * 1000) for one in film]
    for (start, end), one in zip(pairwise(starts), film, strict=False):
        if start < end:
            assert shown_at(made, start) == shown_at(made, (start + end - 1) / 2) == one.caption.strip()
    if film:
        assert shown_at(made, starts[-1]) == film[-1].caption.strip()
        assert made == [] or made[-1].end_ms <= starts[-1] + 10_000


@settings(deadline=None)
@given(films)
def test_what_looks_alike_changes_the_wording_and_not_the_time(rows: list[Row]) -> None:
    film = without(sorted_film(rows), end_s=None)
    for one in film:
        one.caption, one.words = (one.caption.strip() or "a cup"), (one.words or ["a", "cup"])
    alike, apart = cues(film), cues(without(film, is_alike=False))

    def covered(made: list[Cue]) -> list[list[int]]:
        spans: list[list[int]] = []
        for cue in made:
            if spans and spans[-1][1] == cue.start_ms:
                spans[-1][1] = cue.end_ms
            else:
                spans.append([cue.start_ms, cue.end_ms])
        return spans

    assert covered(alike) == covered(apart)


@settings(deadline=None)
@given(films)
def test_subtitles_and_story_agree_on_when_the_film_begins_and_ends(rows: list[Row]) -> None:
    film = [one for one in sorted_film(rows) if one.caption.strip()]
    scenes, made = find_scenes(shots(film)), cues(film)
    assert all(one.end <= other.start for one, other in pairwise(scenes))
    if made:
        assert scenes[0].start <= made[0].start_ms / 1000
        assert scenes[-1].end == made[-1].end_ms / 1000


@pytest.mark.parametrize("captions", [["a dog runs", "a cat sits on a mat", "two red cars"]])
def test_every_shot_s_wording_is_that_of_its_cue(captions: list[str]) -> None:
    rows = [row(n, captions[n // 3], -9.0 + n % 3, alike=n % 3 > 0) for n in range(9)]
    assert [cue.text for cue in cues(rows)] == captions
    assert [" ".join(scene.words) for scene in find_scenes(shots(rows))] == captions
