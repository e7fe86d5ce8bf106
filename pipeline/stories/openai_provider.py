"""The provider ``openai``: any endpoint that speaks OpenAI's chat completions, hosted or on this machine."""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline.errors import one_line
from pipeline.stories.endpoint_errors import Adaptable, Passing, understood
from pipeline.stories.llm_output import Listening, problem_with, story_text, without_controls
from pipeline.stories.prompting import answer_tokens, messages_for
from pipeline.stories.providers import StoryFailed, Told, Wanted
from pipeline.stories.story import Turn
from pipeline.stories.story_settings import StorySettings, require_endpoint

if TYPE_CHECKING:
    from openai import OpenAI

PROVIDER = "openai"

_log = logging.getLogger("gpucapt")

_CONNECT_S = 10.0
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 30.0
_MOST_ADAPTIONS = 4
_LONGEST_THOUGHTS = 200_000
_NO_KEY = "none"
"""What is sent where there is no key: the library wants one, and would else look for OpenAI's own."""


@dataclass(slots=True)
class _Dialect:
    """What an endpoint can do; found out by what it refuses."""

    context: int
    length_name: str = "max_tokens"
    limited: bool = True
    """Whether answers are limited in length; of models that think first that cuts the thoughts."""
    temperature: bool = True
    system: bool = True


@dataclass(frozen=True, slots=True)
class _Answer:
    text: str
    cut_off: bool
    model: str


class Endpoint:
    """Tells stories by a language model. Keys appear in no message."""

    def __init__(self, settings: StorySettings) -> None:
        require_endpoint(settings)
        self._settings = settings
        self._where = shown_address(settings.where)

    def tell(self, wanted: Wanted, told: Told) -> Turn:
        """Return the turn; what fails for a passing reason is repeated until the time is over.

        Raises StoryFailed.
        """
        dialect = _Dialect(self._settings.context)
        deadline = time.monotonic() + self._settings.timeout
        tries = adaptions = 0
        while True:
            heard = _Heard(told)
            try:
                return self._turn(wanted, self._ask(wanted, dialect, deadline, heard), heard)
            except Adaptable as error:
                adaptions += 1
                if adaptions > _MOST_ADAPTIONS or not self._adapt(dialect, error):
                    raise StoryFailed(error.reason) from error
            except Passing as error:
                tries += 1
                wait = error.wait_s or _backoff(tries)
                # What somebody has heard cannot be taken back.
                given_up = tries > self._settings.retries or heard.something
                if given_up or time.monotonic() + wait > deadline:
                    raise StoryFailed(error.told(tries), unreachable=True) from error
                _log.info("%s; trying again in %.3g s", one_line(error.reason), wait)
                time.sleep(wait)

    def _turn(self, wanted: Wanted, answer: _Answer, heard: _Heard) -> Turn:
        text = story_text(answer.text, cut_off=answer.cut_off)
        if not text and answer.cut_off:
            raise Adaptable("thoughts", f"{self._where}: the model {answer.model} thinks without an end")
        problem = problem_with(text, tuple(turn.text for turn in wanted.before))
        if problem is not None:
            raise StoryFailed(
                f"{self._where}: the model {answer.model} {problem}; try again, or name another model"
            )
        return Turn(wanted.kind, PROVIDER, text, wanted.prompt, answer.model)

    def _adapt(self, dialect: _Dialect, error: Adaptable) -> bool:
        """Speak as the endpoint wants it; False where that was done already."""
        before = replace(dialect)
        if error.about == "length":
            dialect.length_name = "max_completion_tokens"
        elif error.about == "temperature":
            dialect.temperature = False
        elif error.about == "system":
            dialect.system = False
        elif error.about == "thoughts":
            dialect.limited = False
        elif dialect.context >= 1024:
            dialect.context //= 2
            _log.info("%s sees less than it should: condensing to %d tokens", self._where, dialect.context)
        return before != dialect

    def _ask(self, wanted: Wanted, dialect: _Dialect, deadline: float, heard: _Heard) -> _Answer:
        """One question, one answer. It is read by a thread, for an endpoint may hang in many ways."""
        pieces: queue.SimpleQueue[str | _Answer | BaseException] = queue.SimpleQueue()
        client = self._client(deadline)
        arguments = (client, wanted, dialect, pieces)
        threading.Thread(target=self._read, args=arguments, name="story", daemon=True).start()
        try:
            while True:
                try:
                    piece = pieces.get(timeout=max(0.01, deadline - time.monotonic()))
                except queue.Empty:
                    seconds = self._settings.timeout
                    raise StoryFailed(
                        f"{self._where} has not finished within {seconds:g} s (GPUCAPT_STORY_TIMEOUT)",
                        unreachable=True,
                    ) from None
                if isinstance(piece, _Answer):
                    return piece
                if isinstance(piece, BaseException):
                    raise understood(piece, self._where, self._settings)
                heard.hear(piece)
        finally:
            with suppress(Exception):  # it may be in use: that is what ends the thread
                client.close()

    def _read(
        self,
        client: OpenAI,
        wanted: Wanted,
        dialect: _Dialect,
        pieces: queue.SimpleQueue[str | _Answer | BaseException],
    ) -> None:
        try:
            model = self._settings.model or self._only_model(client)
            for piece in self._stream(client, model, wanted, dialect):
                pieces.put(piece)
        except BaseException as error:
            pieces.put(error)

    def _stream(
        self, client: OpenAI, model: str, wanted: Wanted, dialect: _Dialect
    ) -> Iterator[str | _Answer]:
        settings = self._settings
        chat = messages_for(wanted, words=settings.length, context=dialect.context)
        if not dialect.system:
            rules = chat.pop(0)["content"]
            chat[0]["content"] = f"{rules}\n\n{chat[0]['content']}"
        options: dict[str, Any] = {}
        if dialect.limited:
            options[dialect.length_name] = answer_tokens(settings.length, dialect.context)
        if dialect.temperature:
            options["temperature"] = settings.temperature
        most = 40 * settings.length + 2000 if dialect.limited else _LONGEST_THOUGHTS
        text, reason, chunks = "", None, 0
        ask: Any = client.chat.completions.create  # the library's types want literal roles
        stream = ask(model=model, messages=chat, stream=True, **options)
        with closing(stream):
            for chunk in self._chunks(stream):
                chunks += 1
                choice = chunk.choices[0] if chunk.choices else None
                if choice is None:
                    continue
                piece = (choice.delta.content if choice.delta is not None else None) or ""
                text += piece
                reason = choice.finish_reason or reason
                if piece:
                    yield piece
                if len(text) > most:
                    reason = "length"
                    break
        if chunks == 0:
            raise ValueError("no chat completion")
        if reason is None:
            raise Passing(f"{self._where}: the answer broke off")
        if reason == "content_filter":
            raise StoryFailed(f"{self._where}: its filter refuses to tell this story")
        yield _Answer(text, reason == "length", model)

    def _chunks(self, stream: Any) -> Iterator[Any]:
        """The pieces of an answer as the library has them; it takes one that breaks off for nobody there."""
        import openai

        try:
            yield from stream
        except openai.APITimeoutError:
            raise
        except openai.APIConnectionError as error:
            raise Passing(f"{self._where}: the answer broke off") from error

    def _only_model(self, client: OpenAI) -> str:
        names = [model.id for model, _ in zip(client.models.list(), range(6), strict=False)]
        if len(names) == 1:
            return names[0]
        there = f"{self._where} has " + (", ".join(names[:5]) + (", …" if len(names) > 5 else "") or "none")
        raise StoryFailed(f"which language model? Set GPUCAPT_STORY_MODEL; {there}", unreachable=True)

    def _client(self, deadline: float) -> OpenAI:
        from openai import OpenAI, Timeout

        left = max(0.1, deadline - time.monotonic())
        return OpenAI(
            base_url=self._settings.where,
            api_key=self._settings.key or _NO_KEY,
            timeout=Timeout(left, connect=min(_CONNECT_S, left)),
            max_retries=0,
        )


class _Heard:
    """Who listens to a turn, and whether there was anything to hear."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._listening = Listening()
        self.something = False

    def hear(self, piece: str) -> None:
        text = self._listening.hear(without_controls(piece))
        if text:
            self.something = True
            self._told(text)


def _backoff(tries: int) -> float:
    return min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** (tries - 1)) * random.uniform(0.8, 1.2)


def shown_address(address: str) -> str:
    """An address as messages show it: without user, password and query, which may be secret."""
    from urllib.parse import urlsplit

    with suppress(ValueError):
        parts = urlsplit(address)
        port = f":{parts.port}" if parts.port else ""
        return one_line(f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}")
    return "the endpoint"
