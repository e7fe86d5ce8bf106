"""What an endpoint does wrong is one line for people, and costs no more than the turn."""

from __future__ import annotations

import logging
import os
import threading
import time
from email.utils import formatdate
from typing import Any

import pytest

from model.errors import GpucaptError
from pipeline.errors import WrongUsage
from pipeline.stories import Material, Story, StoryFailed, StorySettings, continue_story, start_story
from tests.pipeline.report_rows import film_row, info
from tests.services.failing_endpoint import (
    Act,
    FailingEndpoint,
    breaks_off,
    failing_endpoint,
    gibberish,
    hangs,
    refuses,
    says,
)

pytestmark = pytest.mark.slow


STORY = ("A dog wakes up ", "and runs out ", "into the grass.")
KEY = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "GPUCAPT_STORY_")):
            monkeypatch.delenv(name)


def settings(endpoint: FailingEndpoint, **given: Any) -> StorySettings:
    return StorySettings(**{"base_url": endpoint.url, "api_key": KEY, "timeout": 20, "retries": 2, **given})


def tell(endpoint: FailingEndpoint, *, heard: list[str] | None = None, **given: Any) -> Story:
    rows = [film_row(place, "a dog runs through the grass", illustrated=False) for place in range(5)]
    listen = (lambda piece: None) if heard is None else heard.append
    material = Material("A walk", "walk.mp4", info(), rows)
    return start_story(material, "openai", told=listen, settings=settings(endpoint, **given))


def failure(*acts: Act, **given: Any) -> str:
    with failing_endpoint(*acts) as endpoint, pytest.raises(StoryFailed) as failed:
        tell(endpoint, **given)
    message = str(failed.value)
    assert "\n" not in message
    assert KEY not in message
    return message


def test_a_story_comes_in_pieces_and_names_its_model() -> None:
    heard: list[str] = []
    with failing_endpoint(says(*STORY)) as endpoint:
        story = tell(endpoint, heard=heard)
    assert heard == list(STORY)
    assert story.turns[0].text == "A dog wakes up and runs out into the grass."
    assert (story.turns[0].provider, story.turns[0].model) == ("openai", "the-only-one")
    assert endpoint.headers[0]["authorization"] == f"Bearer {KEY}"


def test_passing_trouble_is_waited_out(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    soon = {"Retry_After": "0.2"}
    acts = (refuses(429, f"slow down, {KEY}", **soon), refuses(503), says(*STORY))
    with failing_endpoint(*acts) as endpoint:
        story = tell(endpoint)
    assert story.turns[0].text.startswith("A dog wakes up")
    ours = [record.getMessage() for record in caplog.records if record.name == "gpucapt"]
    assert len(ours) == 2
    assert "too many requests (429); trying again in 0.2 s" in ours[0]
    assert KEY not in caplog.text


def test_a_wait_longer_than_the_time_that_is_left_is_not_begun() -> None:
    message = failure(refuses(429, Retry_After="3600"))
    assert message.endswith("has too many requests (429); it asks to wait 3600 s")
    tomorrow = formatdate(time.time() + 86_400, usegmt=True)
    assert "it asks to wait 86" in failure(refuses(503, Retry_After=tomorrow))


def test_a_server_that_stays_broken_is_given_up() -> None:
    assert failure(refuses(500, "out of memory"), retries=1).endswith(
        "has trouble (500: out of memory) (2 tries)"
    )


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (
            refuses(401, f"Incorrect API key provided: {KEY}"),
            "refuses the key (401); set GPUCAPT_STORY_API_KEY",
        ),
        (
            refuses(404, "no model x"),
            "has no such model or address (404: no model x); see GPUCAPT_STORY_MODEL",
        ),
        (refuses(429, "pay", code="insufficient_quota"), "the account's quota is used up"),
        (refuses(400, f"bad\nrequest {KEY}"), "refuses the question (400: bad request ***)"),
        (says("x", finish="content_filter"), "its filter refuses to tell this story"),
        (says(), "the model the-only-one answered nothing; try again"),
        (says("<think>Hm, a dog.</think>"), "answered nothing"),
        (says("4 8 15 16 23 42 !!! ### $$$"), "answered nonsense"),
        (says("Yes."), "answered next to nothing"),
        (says("and then the dog ran " * 60), "says the same again and again"),
        (gibberish(b"<html>Welcome to nginx</html>"), "does not answer as OpenAI's protocol says"),
        (gibberish(b"data: {not json\n\n", "text/event-stream"), "does not answer as OpenAI's protocol says"),
        (gibberish(b"data: [1, 2]\n\n", "text/event-stream"), "does not answer as OpenAI's protocol says"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_what_cannot_be_used_is_said_in_one_line(act: Act, said: str) -> None:
    message = failure(act, retries=0)
    assert said in message
    assert message.startswith("http://127.0.0.1:")


@pytest.mark.parametrize(
    "act", [hangs(), hangs("A dog "), hangs(breathing=True), hangs("A dog", breathing=True)]
)
def test_an_endpoint_that_hangs_is_left_when_the_time_is_over(act: Act) -> None:
    with failing_endpoint(act) as endpoint:
        with pytest.raises(StoryFailed, match=r"within 0\.5 s \(GPUCAPT_STORY_TIMEOUT\)|answer in time"):
            tell(endpoint, timeout=0.5)
        listening = [thread for thread in threading.enumerate() if thread.name == "story"]
        for thread in listening:
            thread.join(10)
        assert not any(thread.is_alive() for thread in listening), "somebody still listens to it"


def test_an_answer_that_breaks_off_is_asked_for_again_when_nobody_has_heard_of_it() -> None:
    with failing_endpoint(breaks_off(), says(*STORY)) as endpoint:
        assert tell(endpoint).turns[0].text == "".join(STORY)
    heard: list[str] = []
    assert failure(breaks_off("A dog "), heard=heard).endswith("the answer broke off")
    assert heard == ["A dog "]


def test_nobody_there() -> None:
    with failing_endpoint(says()) as endpoint:
        pass
    with pytest.raises(StoryFailed, match=r"cannot be reached \(.*refused") as failed:
        tell(endpoint, retries=0)
    assert failed.value.unreachable


def test_what_an_endpoint_does_not_take_is_asked_otherwise() -> None:
    acts = (
        refuses(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
        refuses(400, "'temperature' does not support 0.7 with this model"),
        refuses(400, "System role not supported"),
        refuses(400, "This model's maximum context length is 2048 tokens", code="context_length_exceeded"),
        says(*STORY),
    )
    with failing_endpoint(*acts) as endpoint:
        tell(endpoint, retries=0)
    first, last = endpoint.chats[0], endpoint.chats[-1]
    assert first["messages"][0]["role"] == "system"
    assert {"max_tokens", "temperature"} <= set(first)
    assert [message["role"] for message in last["messages"]] == ["user"]
    assert "max_completion_tokens" in last
    assert not {"max_tokens", "temperature"} & set(last)


def test_an_endpoint_that_refuses_the_same_for_ever_is_given_up() -> None:
    assert "refuses the question (400: max_tokens unsupported)" in failure(
        refuses(400, "max_tokens unsupported")
    )


def test_a_model_that_thinks_first_is_given_room() -> None:
    thoughts = says("<think>Hm. ", "A dog", finish="length")
    with failing_endpoint(thoughts, says("<think>Hm.</think>", *STORY)) as endpoint:
        assert tell(endpoint, retries=0).turns[0].text == "".join(STORY)
    assert "max_tokens" in endpoint.chats[0]
    assert "max_tokens" not in endpoint.chats[1]
    assert failure(thoughts).endswith("thinks without an end")


def test_an_answer_without_end_is_cut_at_a_sentence() -> None:
    words = (f"Word{number} is number {number * 7919 % 1000}. " for number in range(3000))
    with failing_endpoint(says(*words)) as endpoint:
        text = tell(endpoint, length=20).turns[0].text
    assert len(text) < 4000
    assert text.endswith(".")


def test_which_model_is_asked_where_the_endpoint_has_several() -> None:
    with failing_endpoint(says(*STORY), models=("a", "b")) as endpoint:
        with pytest.raises(StoryFailed, match=r"Set GPUCAPT_STORY_MODEL; http://\S+ has a, b"):
            tell(endpoint)
        assert tell(endpoint, model="b").turns[0].model == "b"
    assert endpoint.chats[0]["model"] == "b"


def test_a_repeated_turn_is_no_turn() -> None:
    with failing_endpoint(says(*STORY)) as endpoint:
        story = tell(endpoint)
        with pytest.raises(StoryFailed, match="repeats an earlier turn"):
            continue_story(story, "openai", settings=settings(endpoint))


def test_a_key_goes_only_where_it_belongs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with failing_endpoint(says(*STORY)) as endpoint:
        tell(endpoint, api_key=None)
        monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
        material = Material("A walk", "walk", text="A dog runs.")
        start_story(material, "openai", settings=StorySettings(timeout=20))
    assert KEY not in endpoint.headers[0]["authorization"]
    assert endpoint.headers[1]["authorization"] == f"Bearer {KEY}"


def test_without_an_endpoint_it_is_wrong_usage() -> None:
    with pytest.raises(WrongUsage, match="set GPUCAPT_STORY_BASE_URL"):
        start_story(Material("x", "x", text="A dog."), "openai", settings=StorySettings())


def test_an_address_without_a_protocol_is_wrong_usage() -> None:
    wrong = StorySettings(base_url="localhost:11434/v1")
    with pytest.raises(WrongUsage, match="GPUCAPT_STORY_BASE_URL must begin with http"):
        start_story(Material("x", "x", text="A dog."), "openai", settings=wrong)


def test_a_listener_can_end_it() -> None:
    class Enough(Exception):
        pass

    def listen(piece: str) -> None:
        raise Enough

    with failing_endpoint(hangs("A dog ")) as endpoint, pytest.raises(Enough):
        start_story(
            Material("x", "x", text="A dog."), "openai", told=listen, settings=settings(endpoint, timeout=60)
        )


def test_passwords_in_an_address_are_not_shown() -> None:
    with failing_endpoint(refuses(404)) as endpoint:
        address = endpoint.url.replace("http://", "http://user:hush@") + "?key=hush"
        with pytest.raises(GpucaptError) as failed:
            tell(endpoint, base_url=address, retries=0)
    assert "hush" not in str(failed.value)
