"""How a story goes on without a network: by what the captions say, and by a person's own line."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.errors import WrongUsage
from pipeline.records.row import Row
from pipeline.stories import (
    Material,
    Story,
    StoryFailed,
    Turn,
    continue_story,
    drop_turn,
    redo_turn,
    start_story,
)
from pipeline.stories.outline_texts import sentences_of, words_of
from tests.pipeline.report_rows import film_row, info, long_film, still_row

SCENES = (
    ("a black dog runs through the grass", 9),
    ("a man in a red jacket is climbing a rock", 30),
    ("two men standing on a mountain", 3),
    ("a boy jumps into the water", 5),
    ("a girl playing with a ball", 18),
    ("a surfer rides a wave", 4),
    ("an orange boat on a lake", 12),
)


def film_rows() -> list[Row]:
    captions = [caption for caption, seconds in SCENES for _ in range(seconds)]
    return [film_row(place, caption, illustrated=False) for place, caption in enumerate(captions)]


@pytest.fixture
def film() -> Story:
    """A film that is told in three sentences at first, as if it were short."""
    return start_story(Material("Trip", "trip.mp4", info(), film_rows()), prompt="shorter")


@pytest.fixture
def album() -> Story:
    rows = [still_row(place, f"{place}.jpg", caption) for place, (caption, _) in enumerate(SCENES)]
    return start_story(Material("Trip", "trip", info("stills"), rows))


def steered(story: Story, line: str) -> str:
    return continue_story(story, prompt=line).turns[-1].text


def test_it_goes_on_with_what_was_passed_over_then_looks_back_then_ends(film: Story) -> None:
    assert film.turns[0].text == (
        "In about a minute and a half, the film goes from a black dog running through the grass, by way of"
        " a man in a red jacket climbing a rock, to an orange boat on a lake."
    )
    one = continue_story(film)
    assert one.turns[1].text == (
        "Some moments have gone unmentioned. After about forty seconds, two men are standing on a mountain."
        " A little later, a boy jumps into the water. After about forty-five seconds, a girl is playing with"
        " a ball. After about a minute, a surfer rides a wave."
    )
    two = continue_story(one)
    assert two.turns[2].text == (
        "Looking back, the film shows a man in a red jacket climbing a rock for longer than anything else:"
        " half a minute of about a minute and a half."
    )
    three = continue_story(two)
    assert three.turns[3].text == (
        "That is all that can be told: the film begins with a black dog running through the grass and ends"
        " with an orange boat on a lake."
    )
    with pytest.raises(StoryFailed, match="nothing more to tell; steer the story"):
        continue_story(three)
    assert [turn.kind for turn in three.turns] == ["start", "continue", "continue", "continue"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("Tell me more about the dog", "Back to the dog. At the very beginning, a black dog runs"),
        ("what about the red jacket?", "Back to the red jacket. After nine seconds, a man in a red jacket"),
        ("climbing", "Back to climbing. After nine seconds"),
        ("and how does it end?", "After about a minute, we see an orange boat on a lake."),
        ("back to the beginning", "At the very beginning, a black dog runs through the grass."),
        ("make it shorter", "In about a minute and a half, the film goes from"),
        ("more, please", "Some moments have gone unmentioned."),
        ("any elephants?", "The captions say nothing of elephants."),
        ("mehr vom Krokodil und vom Zoo", "The captions say nothing of “mehr vom Krokodil und vom Zoo”."),
    ],
)
def test_a_line_that_asks_is_answered_from_the_captions(film: Story, line: str, told: str) -> None:
    story = film if line != "make it shorter" else redo_turn(film, 0, prompt="It was spring.")
    assert steered(story, line).startswith(told)


@pytest.mark.parametrize(
    "line",
    [
        "Then a storm comes",
        "the dog sees a dragon",
        "It rains",
        "Nobody opens",
        "He laughed.",
        "Что-то случилось!",
    ],
)
def test_a_line_that_tells_becomes_part_of_the_story(film: Story, line: str) -> None:
    said = line[0].upper() + line[1:]
    said = said if said.endswith((".", "!")) else f"{said}."
    assert steered(film, line).startswith(f"{said} Some moments have gone unmentioned.")


def test_pictures_are_told_without_times(album: Story) -> None:
    dog = "a black dog running through the grass"
    assert steered(album, "the dog") == f"Back to the dog. One picture shows {dog}."
    assert continue_story(album).turns[1].text.startswith("That is all that can be told: the series of")


def test_a_turn_told_anew_is_told_another_way(film: Story) -> None:
    longer = continue_story(continue_story(film), prompt="the dog")
    again = redo_turn(longer, 2)
    assert again.turns[2].text.startswith("Once more, the dog. At the very beginning,")
    assert redo_turn(again, 2) == longer
    assert again.turns[:2] == longer.turns[:2]
    other = redo_turn(longer, 1, prompt="the boat")
    assert (other.turns[1].kind, other.turns[1].prompt) == ("steer", "the boat")
    assert other.turns[2] == longer.turns[2]


def test_turns_can_be_dropped_but_not_the_first(film: Story) -> None:
    longer = continue_story(continue_story(film), prompt="the dog")
    assert drop_turn(longer, 1).turns == (longer.turns[0], longer.turns[2])
    for index, said in ((0, "cannot be dropped"), (3, "no turn 3"), (-1, "no turn -1")):
        with pytest.raises(WrongUsage, match=said):
            drop_turn(longer, index)


def test_a_story_goes_on_from_its_file_as_if_it_had_never_been_away(film: Story) -> None:
    again = Story.from_json(film.to_json())
    assert again == film
    assert continue_story(again) == continue_story(film)
    assert redo_turn(again, 0, prompt="the dog") == redo_turn(film, 0, prompt="the dog")


def test_what_a_story_remembers_of_a_long_film_is_short() -> None:
    story = start_story(Material("Long", "long.mp4", info(), long_film(50_000)()))
    assert len(story.to_json()) < 60_000
    assert continue_story(story).turns[1].text.count(".") <= 6


def test_nobody_else_tells_stories() -> None:
    with pytest.raises(WrongUsage, match="nobody called 'muse' tells stories; name one of outline, openai"):
        start_story(Material("x", "x", text="A dog."), "muse")


MATERIAL = {"kind": "video", "pictures": 1, "common": None, "text": None}
SCENE = {"start_s": 0, "end_s": 1, "frames": 1}
CAPTION = {"caption": "a dog", "frames": 1, "confidence": 0.5}


@pytest.mark.parametrize(
    "material",
    [
        7,
        {},
        {**MATERIAL, "scenes": 3},
        {**MATERIAL, "scenes": [{**SCENE, "captions": []}]},
        {**MATERIAL, "scenes": [{**SCENE, "captions": [CAPTION], "end_s": float("inf")}]},
        {**MATERIAL, "scenes": [{**SCENE, "captions": [CAPTION], "start_s": -1}]},
        {**MATERIAL, "scenes": [{**SCENE, "captions": [CAPTION], "frames": 10**400}]},
        {**MATERIAL, "scenes": [{**SCENE, "captions": [CAPTION]}] * 61},
        {**MATERIAL, "scenes": [], "kind": "opera"},
    ],
)
def test_material_that_cannot_be_is_refused(material: object) -> None:
    turns = [{"kind": "start", "provider": "outline", "text": "One."}]
    with pytest.raises(Exception, match=r"not a story\.json of gpucapt"):
        Story.from_fields({"title": "T", "source": "s", "turns": turns, "material": material})


SOME_WORDS = (
    *("the", "a", "dog", "dogs", "red", "more", "end", "shorter", "then", "it", "rains", "sees", "two"),
    *("of", "and", "what"),
)
lines = st.text(max_size=40) | st.lists(st.sampled_from(SOME_WORDS), max_size=8).map(" ".join)


@settings(deadline=None, max_examples=60)
@given(st.lists(lines, max_size=4), st.text(max_size=60), st.booleans())
@example(["\x1b"], "\x07", True)
def test_any_lines_steer_any_story(prompts: list[str], text: str, from_text: bool) -> None:
    rows = film_rows()[::4]
    material = Material("T", "s", text=text or None) if from_text and text.strip() else None
    story = start_story(material or Material("T", "s", info(), rows))
    for prompt in prompts:
        try:
            story = continue_story(story, prompt=prompt)
        except StoryFailed:
            continue
    assert all(isinstance(turn, Turn) and turn.text.strip() for turn in story.turns)
    assert Story.from_json(story.to_json()) == story


@pytest.mark.parametrize(
    "text",
    ["一只狗在跑。它很高兴！然后它睡了。", "कुत्ता दौड़ता है। वह खुश है। फिर सोता है।"],
    ids=["Chinese", "Hindi"],
)
def test_a_text_in_another_script_has_sentences(text: str) -> None:
    story = start_story(Material("A dog", "text", text=text))
    assert story.turns[0].text == text
    assert len(sentences_of(text)) == 3
    assert "".join(sentences_of(text)) == text.replace("। ", "।")


def test_words_of_a_line_keep_their_marks_hyphens_and_apostrophes() -> None:
    assert words_of("A T-shirt, isn’t it? 'Yes'") == ["a", "t-shirt", "isn’t", "it", "yes"]
    assert words_of("भूरे कुत्ते को दिखाओ!") == ["भूरे", "कुत्ते", "को", "दिखाओ"]
