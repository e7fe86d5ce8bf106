"""`gpucapt story`: begun from captions, a picture or a text; gone on with, steered, mended, exported."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner, Result

from pipeline.cli.main import app
from pipeline.errors import WrongUsage
from pipeline.schemas import load_schema
from pipeline.stories import Story
from tests.pipeline.jobs import command, environment, write_stills
from tests.pipeline.report_rows import film_row, write
from tests.services.failing_endpoint import failing_endpoint, refuses, says

pytestmark = pytest.mark.slow


TEXT = "a dog runs on a beach\na boy throws a ball\nthe dog catches the ball\n"


def gpucapt(*words: object) -> Result:
    return CliRunner().invoke(app, ["story", *map(str, words)])


def succeed(*words: object) -> str:
    result = gpucapt(*words)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def read(path: Path) -> Story:
    text = path.read_text(encoding="utf-8")
    jsonschema.validate(json.loads(text), load_schema("story"))
    return Story.from_json(text)


@pytest.fixture
def story(tmp_path: Path) -> Path:
    path = tmp_path / "story.json"
    succeed("new", "--text", TEXT, "--out", path)
    return path


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """The captions of a film with more scenes than are told at first."""
    things = ("dog", "cat", "man", "boat", "tree", "car", "horse", "lake", "cup", "hat", "bird", "bus")
    captions = [f"a {thing} in the snow" for thing in things]
    write([film_row(place, caption, illustrated=False) for place, caption in enumerate(captions)], tmp_path)
    return tmp_path / "captions.json"


def test_a_story_is_begun_with_a_text(story: Path) -> None:
    begun = read(story)
    assert begun.turns[0].text == (
        "First, a dog runs on a beach. Then, a boy throws a ball. In the end, the dog catches the ball."
    )
    assert begun.title == "a dog runs on a beach…"


def test_prose_stays_as_it_is(tmp_path: Path) -> None:
    prose = "It was late. Nobody came.\n\nThen the bell rang"
    told = succeed("new", "--text", prose, "--out", tmp_path / "story.json")
    assert told == "# It was late. Nobody came. Then…\n\nIt was late. Nobody came.\n\nThen the bell rang.\n"


def test_a_story_grows_turn_by_turn_and_each_can_be_mended(film: Path, tmp_path: Path) -> None:
    path, markdown = tmp_path / "my/story.json", tmp_path / "my/story.md"
    succeed("new", "--from", film, "--out", path)
    more = succeed("continue", path)
    steered = succeed("continue", path, "--steer", "Then a storm comes over the hills.")
    assert [turn.kind for turn in read(path).turns] == ["start", "continue", "steer"]
    assert read(path).turns[1].text == more.strip()
    assert steered.startswith("Then a storm comes over the hills.")
    assert read(path).turns[2].prompt == "Then a storm comes over the hills."

    again = succeed("redo", path, 1)
    assert read(path).turns[0].text == again.strip()
    assert read(path).turns[1].text == more.strip()
    succeed("drop", path, 2, "--markdown", markdown)
    assert [turn.kind for turn in read(path).turns] == ["start", "steer"]
    assert markdown.read_text(encoding="utf-8") == read(path).to_markdown() == succeed("export", path)
    succeed("export", path, "--out", tmp_path / "again.md")
    assert (tmp_path / "again.md").read_text(encoding="utf-8") == markdown.read_text(encoding="utf-8")
    shown = succeed("show", path)
    assert "1. start (outline)\n" in shown
    assert "2. steer (outline): Then a storm comes over the hills.\n" in shown


def test_out_keeps_the_story_before(story: Path, tmp_path: Path) -> None:
    before = story.read_bytes()
    succeed("continue", story, "--out", tmp_path / "longer.json")
    assert story.read_bytes() == before
    assert len(read(tmp_path / "longer.json").turns) == 2


def test_a_story_is_begun_with_a_picture(tmp_path: Path) -> None:
    picture = write_stills(tmp_path / "my album", 1) / "000.png"
    told = succeed("new", "--from", picture, "--out", tmp_path / "story.json", "--beam-size", 1)
    begun = read(tmp_path / "story.json")
    assert begun.source == "000.png"
    assert begun.timeline is not None
    assert len(begun.timeline.scenes) == 1
    assert "The picture shows" in told


def test_a_story_goes_on_with_a_picture(story: Path, tmp_path: Path, tiny_model: Path) -> None:
    picture = write_stills(tmp_path / "my album", 1) / "000.png"
    options = ("--model", tiny_model, "--beam-size", 1, "--precision", "fp32", "--device", "cpu")
    succeed("new", "--from", picture, "--out", tmp_path / "other.json", *options)
    material = json.loads((tmp_path / "other.json").read_text())["material"]
    caption = material["scenes"][0]["captions"][0]["caption"]
    told = succeed("continue", story, "--from", picture, *options)
    turn = read(story).turns[-1]
    assert turn.kind == "steer" and turn.prompt == f"Then: {caption}."
    assert caption in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["continue", "STORY", "--from", "FILM"], "this is no picture"),
        (["continue", "STORY", "--from", "FILM", "--out", "FILM"], "the story would replace"),
        (["continue", "STORY", "--from", "p.jpg", "--steer", "x"], "give one of them"),
        (["continue", "STORY", "--from", "p.jpg", "--beam-size", "0"], "beam-size must be at least 1"),
        (["new", "--out", "x.json"], "give one"),
        (["new", "--out", "x.json", "--from", "a.json", "--text", "b"], "give one"),
        (["new", "--out", "x.json", "--text", "b", "--provider", "me"], "provider must be one of outline"),
        (["new", "--out", "x.json", "--text", "  "], "is empty"),
        (["redo", "STORY", "2"], "the story has no turn 2; it has 1"),
        (["drop", "STORY", "0"], "the story has no turn 0; it has 1"),
        (["drop", "STORY", "1"], "the turn that the story begins with cannot be dropped"),
        (["continue", "STORY", "--steer", "x" * 2000], "2000 characters long"),
        (["continue", "none.json"], "none.json cannot be read"),
        (["show", "CAPTIONS"], "not a story.json of gpucapt"),
        (["new", "--from", "FILM", "--out", "x.json"], "this is no picture"),
        (["new", "--from", "CAPTIONS", "--out", "CAPTIONS"], "the story would replace"),
    ],
)
def test_what_is_wrong_is_said(words: list[str], said: str, story: Path, film: Path, tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"0" * 100)
    places = {"STORY": story, "CAPTIONS": film, "FILM": tmp_path / "film.mp4", "x.json": tmp_path / "x.json"}
    before = story.read_bytes()
    result = gpucapt(*(places.get(word, word) for word in words))
    assert result.exit_code != 0
    assert said in " ".join(f"{result.output} {result.exception}".replace("│", " ").split())
    assert story.read_bytes() == before
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["export", "story.json", "--out", "./story.json"],
        ["continue", "story.json", "--markdown", "story.json"],
        ["continue", "story.json", "--out", "longer.json", "--markdown", "story.json"],
        ["drop", "story.json", "1", "--out", "other.md", "--markdown", "other.md"],
    ],
)
def test_markdown_never_replaces_the_story(
    words: list[str], story: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(story.parent)
    before = story.read_bytes()
    result = gpucapt(*words)
    assert isinstance(result.exception, WrongUsage) and "would replace" in str(result.exception)
    assert story.read_bytes() == before
    assert [path.name for path in story.parent.iterdir()] == [story.name]


def test_no_terminal_obeys_a_story(story: Path) -> None:
    content = json.loads(story.read_text())
    content["title"] = "\x1b]0;title\x07Here"
    content["turns"][0]["text"] = "One\x1b[2J dog.\n\nTwo\x00 dogs."
    story.write_text(json.dumps(content))
    for shown in (succeed("show", story), succeed("export", story)):
        assert "Here" in shown and "Two dogs" in shown
        assert not set(shown) & {"\x1b", "\x07", "\x00"}


def test_a_language_model_that_fails_leaves_the_story_as_it_was(
    story: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = story.read_bytes()
    monkeypatch.setenv("GPUCAPT_STORY_RETRIES", "0")
    with failing_endpoint(refuses(500), says("The dog barked at the sea ", "and was happy.")) as endpoint:
        monkeypatch.setenv("GPUCAPT_STORY_BASE_URL", endpoint.url)
        failed = gpucapt("continue", story, "--provider", "openai")
        assert failed.exit_code == 1
        assert "has trouble (500: no)" in str(failed.exception)
        assert story.read_bytes() == before
        succeed("continue", story, "--provider", "openai")
    assert read(story).turns[1].text == "The dog barked at the sea and was happy."
    assert read(story).turns[1].model == "the-only-one"


def test_a_story_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    turn = {"kind": "start", "provider": "outline", "text": "One. Two.", "prompt": None, "model": None}
    path = tmp_path / "story.json"
    path.write_text(json.dumps({"format": 1, "title": "T", "source": "s", "turns": [turn]}), encoding="utf-8")
    succeed("continue", path, "--steer", "Then a storm comes over the hills.")
    assert read(path).turns[1].text.startswith("Then a storm comes over the hills.")


def test_at_a_terminal_a_turn_is_shown_once_as_it_comes(story: Path) -> None:
    ours, theirs = pty.openpty()
    line = command("story", "continue", story, "--steer", "Then it rains.")
    done = subprocess.run(line, stdout=theirs, stderr=subprocess.PIPE, env=environment(), timeout=120)
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert done.returncode == 0
    assert shown.count("Then it rains.") == 1
