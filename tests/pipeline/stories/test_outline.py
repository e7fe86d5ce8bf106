"""The outline provider tells what the captions say, in English that a person would write."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import GpucaptError
from model.words import join
from pipeline.records.row import Row
from pipeline.schemas import load_schema
from pipeline.stories import Story, Turn, outline_story
from pipeline.stories.english import Phrase, article, participle, plural, third_person
from pipeline.stories.number_words import duration, number
from pipeline.stories.scenes import condense, find_scenes
from pipeline.stories.shots import shots
from tests.pipeline.report_rows import bad_still, film_row, info, long_film, still_row

DOG = "a brown dog is running through the grass"
LOG = "a brown dog is jumping over a log"
MEN = "two men are standing on a rock"


def film(*scenes: tuple[str, int]) -> list[Row]:
    """A frame each second; each scene a caption for some seconds."""
    captions = [caption for caption, seconds in scenes for _ in range(seconds)]
    return [film_row(place, caption, illustrated=False) for place, caption in enumerate(captions)]


def album(*captions: str) -> list[Row]:
    return [still_row(place, f"{place}.jpg", caption) for place, caption in enumerate(captions)]


def tell(rows: list[Row]) -> str:
    kind = "video" if rows and rows[0].timestamp_s is not None else "stills"
    return "\n\n".join(outline_story(info(kind), rows).paragraphs)  # type: ignore[arg-type]


def test_a_film_is_told_scene_by_scene() -> None:
    assert tell(film((DOG, 10), (LOG, 6), (MEN, 20), ("a cup on a table", 1))) == (
        "For the first ten seconds, a brown dog is running through the grass. "
        "For the next six seconds, the brown dog is jumping over a log. "
        "Then, for twenty seconds, two men are standing on a rock. "
        "The film ends with a cup on a table."
    )


def test_a_film_of_one_scene_is_one_sentence() -> None:
    expected = "All through this film of twelve seconds, a brown dog is running through the grass."
    assert tell(film((DOG, 12))) == expected


def test_a_longer_film_has_paragraphs_that_say_where_they_are() -> None:
    places = ("grass", "snow", "sand", "street", "forest", "garden", "kitchen", "station")
    text = tell(film(*((f"a {animal} sits in the {place}", 30) for place, animal in zip(
        places, ("dog", "cat", "man", "woman", "bird", "boy", "girl", "horse"), strict=True))))  # fmt: skip
    first, second = text.split("\n\n")
    assert first.startswith("For the first half a minute, a dog sits in the grass.")
    assert second.startswith("After two minutes, a bird sits in the forest.")
    assert second.endswith("For the last half a minute, a horse sits in the station.")


def test_a_scene_that_returns_is_said_to() -> None:
    assert "once again, the brown dog is running through the grass" in tell(
        film((DOG, 10), (MEN, 10), (DOG, 10))
    )


def test_an_odd_frame_does_not_part_a_scene() -> None:
    assert tell(film((DOG, 5), (MEN, 1), (DOG, 5))).count("dog") == 1


def test_wordings_of_one_scene_are_told_once_in_the_commonest() -> None:
    other = "a brown dog runs through the grass"
    assert tell(film((other, 2), (DOG, 4), (other, 1))).count("dog") == 1
    assert "is running through" in tell(film((other, 2), (DOG, 4), (other, 1)))


def test_pictures_have_no_times() -> None:
    assert tell(album(DOG, MEN, "a cat on a mat", "a woman reads a book", "a boat on a lake")) == (
        "The first pictures show a brown dog running through the grass and two men standing on a rock. "
        "The last pictures show a cat on a mat, a woman reading a book, and a boat on a lake."
    )


def test_one_picture_and_pictures_of_one_thing() -> None:
    assert tell(album(DOG)) == "The picture shows a brown dog running through the grass."
    assert tell(album(DOG, DOG)) == "Both pictures show a brown dog running through the grass."
    assert tell(album(DOG, DOG, DOG)).startswith("All three pictures show a brown dog")


def test_what_pictures_have_in_common_is_counted() -> None:
    captions = [
        "a woman in a hat",
        DOG,
        MEN,
        "a woman on a bench",
        "the woman rides a horse",
        "a red car",
        "a lake",
    ]
    assert tell(album(*captions)).endswith("\n\nWomen appear in three of the seven pictures.")


def test_a_picture_shown_twice_is_told_once() -> None:
    assert tell(album(DOG, MEN, DOG)) == (
        "The pictures show a brown dog running through the grass and two men standing on a rock."
    )


def test_bad_stills_and_empty_captions_are_passed_over() -> None:
    assert (
        tell([bad_still(0, "a.jpg", "not an image")]) == "There is nothing to tell: no frame has a caption."
    )
    assert tell(album("a", "of the")) == "There is nothing to tell: no frame has a caption."
    assert tell([]) == "There is nothing to tell: no frame has a caption."
    assert tell([bad_still(0, "a.jpg", "empty"), *album(DOG)]).startswith("The picture shows a brown dog")


def test_a_long_film_is_condensed() -> None:
    story = outline_story(info(), long_film(20_000)())
    sentences = "\n".join(story.paragraphs).count(". ") + len(story.paragraphs)
    assert sentences <= 14
    assert "hours" in story.turns[0].text


def test_a_short_film_is_told_in_few_sentences() -> None:
    things = ("dog", "cat", "man", "boat", "tree", "car", "horse", "lake", "cup", "hat")
    text = tell(film(*((f"a {thing}", 1) for thing in things)))
    assert text.count(".") == 4


def test_the_same_rows_give_the_same_story() -> None:
    rows = film((DOG, 3), (MEN, 2), (LOG, 4), ("a cat", 2))
    assert outline_story(info(), rows) == outline_story(info(), list(rows))


def test_scenes_stay_few_however_long_the_film() -> None:
    words = ["dog", "cat", "man", "boat", "tree", "car", "horse"]
    rows = (
        film_row(place, f"a {words[place % 7]} at the {words[place % 5]}", illustrated=False)
        for place in range(3000)
    )
    scenes = find_scenes(shots(rows))
    assert len(scenes) <= 200
    assert sum(scene.frames for scene in scenes) == 3000
    told = condense(scenes, 10)
    assert len(told) == 10
    assert sum(scene.frames for scene in told) == 3000
    assert all(one.end <= other.start + 1e-9 for one, other in pairwise(told))


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "a moment"),
        (1, "a second"),
        (2, "two seconds"),
        (10.1, "ten seconds"),
        (10.4, "about ten seconds"),
        (25, "twenty-five seconds"),
        (30, "half a minute"),
        (41, "about forty seconds"),
        (58, "about a minute"),
        (60, "a minute"),
        (92, "about a minute and a half"),
        (90, "a minute and a half"),
        (130, "about two minutes"),
        (150, "two and a half minutes"),
        (12 * 60, "twelve minutes"),
        (31 * 60, "about half an hour"),
        (45 * 60, "three quarters of an hour"),
        (3600, "an hour"),
        (1.5 * 3600, "an hour and a half"),
        (2.5 * 3600, "two and a half hours"),
        (23 * 3600, "twenty-three hours"),
    ],
)
def test_times_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@settings(deadline=None)
@given(st.floats(0, 1e6))
def test_every_time_can_be_said(seconds: float) -> None:
    said = duration(seconds)
    assert said
    assert "zero" not in said
    assert not {"one seconds", "one minutes", "one hours"} & {said.removeprefix("about ")}


@pytest.mark.parametrize(
    ("value", "said"), [(0, "zero"), (17, "seventeen"), (21, "twenty-one"), (1200, "1,200")]
)
def test_numbers(value: int, said: str) -> None:
    assert number(value) == said


@pytest.mark.parametrize(
    ("caption", "clause", "noun_phrase"),
    [
        (
            "a dog is running through the grass",
            "a dog is running through the grass",
            "a dog running through the grass",
        ),
        ("a dog runs through the grass", "a dog runs through the grass", "a dog running through the grass"),
        ("a man climbing a wall", "a man is climbing a wall", "a man climbing a wall"),
        ("two men climbing a wall", "two men are climbing a wall", "two men climbing a wall"),
        ("people walking on a beach", "people are walking on a beach", "people walking on a beach"),
        ("a man and a woman sitting", "a man and a woman are sitting", "a man and a woman sitting"),
        (
            "a black and white dog jumping",
            "a black and white dog is jumping",
            "a black and white dog jumping",
        ),
        ("a group of people standing", "a group of people is standing", "a group of people standing"),
        ("a man in a red shirt", "we see a man in a red shirt", "a man in a red shirt"),
        ("there are two dogs", "we see two dogs", "two dogs"),
        ("a boy in a swimming pool", "we see a boy in a swimming pool", "a boy in a swimming pool"),
        (
            "a woman sits and reads a book",
            "a woman sits and reads a book",
            "a woman sitting and reading a book",
        ),
        (
            "two children play in the sand",
            "two children play in the sand",
            "two children playing in the sand",
        ),
        ("a man in a hat stands on", "a man in a hat stands", "a man in a hat standing"),
        ("a man with an dog on the", "we see a man with a dog", "a man with a dog"),
        ("a orange cat laying on a bed", "an orange cat is lying on a bed", "an orange cat lying on a bed"),
        ("a surfer in blue rides a wave", "a surfer in blue rides a wave", "a surfer in blue riding a wave"),
        ("young boy wearing a hat", "a young boy is wearing a hat", "a young boy wearing a hat"),
        (
            "a man and woman sit on a bench",
            "a man and woman sit on a bench",
            "a man and woman sitting on a bench",
        ),
        (
            "a group of people stand in a park",
            "a group of people stand in a park",
            "a group of people standing in a park",
        ),
        ("a brown dog and a brown dog run", "two brown dogs run", "two brown dogs running"),
        ("a man in a red hat and a red hat", "we see a man in a red hat", "a man in a red hat"),
        ("man in a boat", "we see a man in a boat", "a man in a boat"),
        ("the dogs are in the snow", "the dogs are in the snow", "the dogs in the snow"),
        ("a skier is a man", "a skier is a man", "a skier that is a man"),
    ],
)
def test_captions_become_clauses_and_noun_phrases(caption: str, clause: str, noun_phrase: str) -> None:
    phrase = Phrase.parse(caption.split())
    assert phrase.clause() == clause
    assert phrase.noun_phrase() == noun_phrase


@pytest.mark.parametrize(
    ("caption", "known"),
    [
        ("a dog is running", "the dog is running"),
        ("two dogs are running", "the two dogs are running"),
        ("people are walking", "the people are walking"),
        ("the dog is running", "the dog is running"),
        ("his dog is running", "his dog is running"),
    ],
)
def test_who_was_there_before_is_known(caption: str, known: str) -> None:
    assert Phrase.parse(caption.split()).clause(known=True) == known


def test_inflections() -> None:
    assert [participle(verb) for verb in ("run", "ride", "lie", "play", "see")] == [
        "running", "riding", "lying", "playing", "seeing",
    ]  # fmt: skip
    assert [third_person(verb) for verb in ("carry", "watch", "go", "have", "play", "ski")] == [
        "carries", "watches", "goes", "has", "plays", "skis",
    ]  # fmt: skip
    assert [plural(noun) for noun in ("woman", "puppy", "bus", "boy", "child")] == [
        "women", "puppies", "buses", "boys", "children",
    ]  # fmt: skip
    assert [article(word) for word in ("apple", "hour", "unicycle", "dog", "umbrella", "one-armed")] == [
        "an", "an", "a", "a", "an", "a",
    ]  # fmt: skip


SOME_WORDS = ("a", "the", "dog", "dogs", "is", "running", "runs", "in", "and", "grass", "of", "two", "men")
some_words = st.sampled_from(SOME_WORDS) | st.text(max_size=5)


@settings(deadline=None)
@given(st.lists(st.lists(some_words, max_size=8), max_size=20), st.booleans())
def test_any_captions_make_a_story(captions: list[list[str]], as_film: bool) -> None:
    rows = [
        Row(place, place, float(place), " ".join(words), words, -3.0)
        if as_film
        else still_row(place, f"{place}.jpg", " ".join(words))
        for place, words in enumerate(captions)
    ]
    story = outline_story(info("video" if as_film else "stills"), rows)
    assert story.paragraphs
    assert all(paragraph.endswith(".") for paragraph in story.paragraphs)
    assert Story.from_json(story.to_json()) == story


@pytest.mark.parametrize(
    ("key", "kind", "title"),
    [
        ("trip/a_week-away.mp4", "video", "A week away"),
        ("trip/album.v2", "stills", "Album.v2"),
        ("two\nlines.mp4", "video", "Two lines"),
        ("---", "stills", "---"),
    ],
)
def test_the_title_is_the_name_as_one_would_write_it(key: str, kind: str, title: str) -> None:
    assert outline_story(info(kind, key), []).title == title  # type: ignore[arg-type]


def test_markdown_shows_the_text_and_nothing_else() -> None:
    turns = (
        Turn("start", "outline", "# Not a heading\n\n1. not a list *or* <b>markup</b>"),
        Turn("steer", "x", "End.", "now"),
    )
    story = Story("A [link](x) & more", "a", turns)
    assert story.to_markdown() == (
        "# A \\[link\\](x) \\& more\n\n"
        "\\# Not a heading\n\n"
        "\\1. not a list \\*or\\* \\<b\\>markup\\</b\\>\n\n"
        "End.\n"
    )


def test_turns_are_kept(tmp_path: Path) -> None:
    story = Story(
        "Title",
        "trip/clip.mp4",
        (Turn("start", "outline", "One."), Turn("steer", "openai", "Two.", "sadder", "m")),
    )
    path = tmp_path / "story.json"
    path.write_text(story.to_json(), encoding="utf-8")
    jsonschema.validate(json.loads(path.read_text(encoding="utf-8")), load_schema("story"))
    assert Story.from_json(path.read_text(encoding="utf-8")) == story


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"title": 1}', '{"title": "a", "source": "b", "turns": [{"kind": "x"}]}']
)
def test_what_is_not_a_story_is_refused(text: str) -> None:
    with pytest.raises(GpucaptError, match=r"not a story\.json of gpucapt"):
        Story.from_json(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("一 只 狗 在 海 滩 上 奔 跑", "两 个 孩 子 吃 饭"),
        ("สุ นั ข วิ่ ง", "เ ด็ ก น อ น"),
        ("एक कुत्ता दौड़ रहा है", "दो बच्चे खाना खाते"),
    ],
)
def test_captions_of_other_scripts_are_told_as_they_are_written(one: str, other: str) -> None:
    rows = film((one, 8), (other, 8), (one, 8))
    for row in rows:
        row.caption = join(row.words)
    story = outline_story(info("video"), rows)
    text = "\n\n".join(story.paragraphs)
    assert text.count(join(one.split())) == 2
    assert join(other.split()) in text
    kept = json.loads(story.to_json())["material"]["scenes"]
    assert [scene["captions"][0]["caption"] for scene in kept] == [
        join(words.split()) for words in (one, other, one)
    ]
    assert story.timeline is not None
    assert Story.from_json(story.to_json()).timeline == story.timeline
    assert [scene.words for scene in story.timeline.scenes] == [
        tuple(words.split()) for words in (one, other, one)
    ]
