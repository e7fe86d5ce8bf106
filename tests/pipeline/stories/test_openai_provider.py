"""Stories by a real language model behind a real server of OpenAI's protocol (``transformers serve``).

The model is tiny, and what it says after which request is known: see tests/services/language_model.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.stories import (
    Material,
    Story,
    StoryFailed,
    StorySettings,
    continue_story,
    redo_turn,
    start_story,
)
from tests.pipeline.report_rows import info, long_film
from tests.services.language_model import (
    BEGINNING,
    MIDDLE,
    STEERED,
    language_model_server,
    make_language_model,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StorySettings]:
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("language")
    model = make_language_model(folder / "tiny-storyteller")
    with language_model_server(model, folder / "log.txt") as url:
        yield StorySettings(base_url=url, model=str(model), length=40, timeout=120)


@pytest.fixture(scope="module")
def story(endpoint: StorySettings) -> Story:
    rows = long_film(5000)()
    return start_story(Material("A day out", "day.mp4", info(), rows), "openai", settings=endpoint)


def test_a_story_is_begun_gone_on_with_and_steered(endpoint: StorySettings, story: Story) -> None:
    heard: list[str] = []
    longer = continue_story(story, "openai", told=heard.append, settings=endpoint)
    steered = continue_story(longer, "openai", prompt="Let it rain", settings=endpoint)
    assert [turn.text for turn in steered.turns] == [BEGINNING, MIDDLE, STEERED]
    assert [turn.kind for turn in steered.turns] == ["start", "continue", "steer"]
    assert steered.turns[2].prompt == "Let it rain"
    assert {turn.provider for turn in steered.turns} == {"openai"}
    assert len(heard) > 5, "it does not come in pieces"
    assert "".join(heard).strip() == MIDDLE


def test_a_turn_is_told_anew_with_what_comes_before_it(endpoint: StorySettings, story: Story) -> None:
    longer = continue_story(story, "openai", settings=endpoint)
    redone = redo_turn(longer, 0, prompt="Let it rain", settings=endpoint)
    assert [turn.text for turn in redone.turns] == [STEERED, MIDDLE]
    assert redo_turn(longer, 1, "outline").turns[1].provider == "outline"


def test_a_model_that_only_repeats_itself_tells_no_story(endpoint: StorySettings, story: Story) -> None:
    with pytest.raises(StoryFailed, match="says the same again and again"):
        continue_story(story, "openai", prompt="loop", settings=endpoint.model_copy(update={"length": 200}))


def test_a_model_that_says_nothing_tells_no_story(endpoint: StorySettings, story: Story) -> None:
    with pytest.raises(StoryFailed, match="answered nothing"):
        continue_story(story, "openai", prompt="silence", settings=endpoint)


def test_a_story_that_is_cut_off_ends_with_whole_words(endpoint: StorySettings, story: Story) -> None:
    short = endpoint.model_copy(update={"length": 10, "context": 1024})
    text = start_story(Material("x", "x", text="A dog."), "openai", settings=short).turns[0].text
    assert text == BEGINNING


def test_a_model_that_is_not_there(endpoint: StorySettings) -> None:
    wrong = endpoint.model_copy(update={"model": "nobody/no-such-model", "retries": 0})
    with pytest.raises(StoryFailed) as failed:
        start_story(Material("x", "x", text="A dog."), "openai", settings=wrong)
    assert str(failed.value).startswith("http://127.0.0.1:")
    assert "\n" not in str(failed.value)
