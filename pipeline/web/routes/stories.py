"""POST /v1/stories…: stories begun, gone on with, steered and mended. The server keeps none of them.

A story travels with each request and comes back as it is then. Who asks for an event stream gets the text
while it comes.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.records.row import Row
from pipeline.records.source_info import SourceInfo
from pipeline.stories import (
    Material,
    Story,
    StoryFailed,
    continue_story,
    drop_turn,
    redo_turn,
    start_story,
    story_settings,
)
from pipeline.web.errors import RequestFailed, as_failed, busy
from pipeline.web.limits import Limits
from pipeline.web.schemas import StoryAnswer, failures

_AT_ONCE, _WAITING = 4, 16
"""Stories that are being told: one by a language model is mostly waited for."""
_ALIVE_S = 15.0
"""After so long without text a comment is sent, so that nobody in between takes the connection for dead."""

Telling = Callable[[Callable[[str], None]], Story]
"""Tells a story, giving its text in pieces to the function that it gets."""
CaptionsOf = Callable[[str], tuple[SourceInfo, list[Row]]]
"""The captions of a film on this server by its id. Raises RequestFailed."""


class CaptionGiven(BaseModel):
    """A caption that a story is told from."""

    model_config = ConfigDict(extra="forbid")

    caption: Annotated[str, Field(max_length=2000)]
    timestamp_s: Annotated[float | None, Field(ge=0, le=10**7, allow_inf_nan=False)] = None
    end_s: Annotated[float | None, Field(ge=0, le=10**7, allow_inf_nan=False)] = None


class From(BaseModel):
    """What a story is told from: one of text, captions and video."""

    model_config = ConfigDict(extra="forbid")

    text: str | None = None
    captions: Annotated[list[CaptionGiven] | None, Field(min_length=1, max_length=100_000)] = None
    title: Annotated[str | None, Field(max_length=200)] = None
    video: Annotated[str | None, Field(max_length=64, description="The id of a film that is done.")] = None

    @model_validator(mode="after")
    def _is_one(self) -> From:
        if sum(value is not None for value in (self.text, self.captions, self.video)) != 1:
            raise ValueError("give one of text, captions and video")
        return self


Provider = Annotated[
    str, Field(max_length=50, examples=["outline"], description="One that /v1/models lists.")
]
Prompt = Annotated[str | None, Field(max_length=1000, description="A line of your own that steers.")]
_EXAMPLE = {
    "format": 2,
    "title": "At the sea",
    "source": "captions",
    "turns": [
        {
            "kind": "start",
            "provider": "outline",
            "text": "For the first four seconds, a dog runs on the beach.",
        },
        {"kind": "steer", "provider": "outline", "text": "A storm comes.", "prompt": "Then a storm comes."},
    ],
}
StoryGiven = Annotated[
    dict[str, Any], Field(description="A story, as the last answer had it.", examples=[_EXAMPLE])
]


class Start(BaseModel):
    """How to begin a story."""

    model_config = ConfigDict(
        extra="forbid",
        validate_by_name=True,
        validate_by_alias=True,
        json_schema_extra={
            "examples": [
                {
                    "from": {
                        "captions": [
                            {"caption": "a dog runs on the beach", "timestamp_s": 0},
                            {"caption": "a dog jumps into the water", "timestamp_s": 4},
                        ],
                        "title": "At the sea",
                    },
                    "provider": "outline",
                }
            ]
        },
    )

    source: Annotated[From, Field(alias="from")]
    provider: Provider = "outline"
    prompt: Prompt = None


class Continue(BaseModel):
    """How to go on."""

    model_config = ConfigDict(extra="forbid")

    story: StoryGiven
    provider: Provider = "outline"
    prompt: Prompt = None


class Redo(BaseModel):
    """Which turn to tell anew, and how; without provider or prompt as before."""

    model_config = ConfigDict(extra="forbid")

    story: StoryGiven
    index: Annotated[int, Field(ge=0, le=100_000, description="The turn, from 0.")]
    provider: Provider | None = None
    prompt: Prompt = None


class Drop(BaseModel):
    """Which turn to leave out."""

    model_config = ConfigDict(extra="forbid")

    story: StoryGiven
    index: Annotated[int, Field(ge=0, le=100_000, description="The turn, from 1: the first stays.")]


class Export(BaseModel):
    """The story to export."""

    model_config = ConfigDict(extra="forbid")

    story: StoryGiven


def providers() -> list[str]:
    """Who tells stories here: a language model does where the operator has named one."""
    return ["outline", "openai"] if story_settings().is_configured else ["outline"]


def stories_router(limits: Limits, captions_of: CaptionsOf) -> APIRouter:
    """The paths."""
    router = APIRouter(prefix="/v1/stories", tags=["stories"])
    tellers = _Tellers()
    errors = failures(400, 401, 403, 404, 409, 413, 422, 429, 502, 503)
    streamed: dict[int | str, dict[str, Any]] = {
        **errors,
        200: {
            "model": StoryAnswer,
            "description": "The story. With `Accept: text/event-stream`: `text`…, then `story` or `error`.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
    }

    @router.post("", summary="Begin a story", responses=streamed)
    async def begin_story(request: Request, wish: Start) -> Response:
        _known(wish.provider)
        material = _material(wish.source, limits, captions_of)
        telling = partial(start_story, material, wish.provider, prompt=wish.prompt)
        return await tellers.answer(request, wish.provider, lambda told: telling(told=told))

    @router.post("/continue", summary="Go on with a story, or steer it by a prompt", responses=streamed)
    async def go_on_with_story(request: Request, wish: Continue) -> Response:
        _known(wish.provider)
        telling = partial(continue_story, Story.from_fields(wish.story), wish.provider, prompt=wish.prompt)
        return await tellers.answer(request, wish.provider, lambda told: telling(told=told))

    @router.post("/redo", summary="Tell a turn anew", responses=streamed)
    async def redo_story_turn(request: Request, wish: Redo) -> Response:
        story = Story.from_fields(wish.story)
        before = story.turns[wish.index].provider if wish.index < len(story.turns) else "outline"
        provider = wish.provider or before
        _known(provider)
        telling = partial(redo_turn, story, wish.index, wish.provider, prompt=wish.prompt)
        return await tellers.answer(request, provider, lambda told: telling(told=told))

    @router.post("/drop", summary="Leave a turn out", responses={**errors, 200: {"model": StoryAnswer}})
    async def drop_story_turn(wish: Drop) -> Response:
        return StoryResponse(drop_turn(Story.from_fields(wish.story), wish.index).to_fields())

    @router.post(
        "/markdown",
        summary="A story as Markdown",
        responses={**errors, 200: {"content": {"text/markdown": {"schema": {"type": "string"}}}}},
        response_class=Response,
    )
    async def export_story(wish: Export) -> Response:
        text = Story.from_fields(wish.story).to_markdown()
        headers = {"Content-Disposition": 'attachment; filename="story.md"'}
        content = text.encode("utf-8", errors="replace")
        return Response(content, media_type="text/markdown; charset=utf-8", headers=headers)

    return router


class StoryResponse(JSONResponse):
    """JSON in ASCII: what a client sent may hold characters that have no place in UTF-8."""

    def render(self, content: Any) -> bytes:
        """The body."""
        return json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")


class _Tellers:
    """Threads in which stories are told, and who waits for them."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="story")
        self._running = 0

    async def answer(self, request: Request, provider: str, tell: Telling) -> Response:
        """The story whole, or as it comes, as the client wants it."""

        def telling(told: Callable[[str], None]) -> Story:
            try:
                return tell(told)
            except StoryFailed as error:
                if provider == "outline":  # it has said all: no endpoint is to blame
                    raise RequestFailed(409, "nothing_to_tell", str(error)) from error
                raise

        if self._running >= _AT_ONCE + _WAITING:
            raise busy("too many stories are being told already")
        if "text/event-stream" not in request.headers.get("accept", ""):
            self._running += 1
            try:
                loop = asyncio.get_running_loop()
                story = await loop.run_in_executor(self._pool, telling, lambda piece: None)
            finally:
                self._running -= 1
            return StoryResponse(story.to_fields())
        events = self._events(telling)
        first = await anext(events)  # what fails at once is an answer with a status of its own
        return StreamingResponse(_first_again(first, events), media_type="text/event-stream")

    async def _events(self, telling: Telling) -> AsyncIterator[str]:
        loop = asyncio.get_running_loop()
        waiting: asyncio.Queue[tuple[_Kind, Any]] = asyncio.Queue()
        gone = threading.Event()

        def put(kind: _Kind, value: Any) -> None:
            loop.call_soon_threadsafe(waiting.put_nowait, (kind, value))

        def told(piece: str) -> None:
            if gone.is_set():
                raise _Gone
            put("text", piece)

        def work() -> None:
            if gone.is_set():  # while it waited for its turn
                return
            try:
                put("story", telling(told).to_fields())
            except Exception as error:
                put("error", error)

        self._running += 1
        self._pool.submit(work)
        begun = False
        try:
            while True:
                try:
                    kind, value = await asyncio.wait_for(waiting.get(), _ALIVE_S)
                except TimeoutError:
                    begun = True
                    yield ": still there\n\n"
                    continue
                if kind == "error" and not begun:
                    raise value
                begun = True
                yield _event(kind, as_failed(value).content if kind == "error" else value)
                if kind != "text":
                    return
        finally:
            gone.set()
            self._running -= 1


_Kind = Literal["text", "story", "error"]


class _Gone(Exception):
    """Nobody listens to the story any more."""


async def _first_again(first: str, rest: AsyncIterator[str]) -> AsyncIterator[str]:
    yield first
    async for event in rest:
        yield event


def _event(kind: str, value: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps(value, ensure_ascii=True, allow_nan=False)}\n\n"


def _known(provider: str) -> None:
    known = providers()
    if provider not in known:
        reason = f"nobody called {provider!r} tells stories here; there is {' and '.join(known)}"
        raise RequestFailed(422, "unknown_provider", reason)


def _material(source: From, limits: Limits, captions_of: CaptionsOf) -> Material:
    title = source.title or "Story"
    if source.text is not None:
        if len(source.text) > limits.text_length:
            raise _too_long("the text", len(source.text), limits.text_length)
        return Material(title, "text", text=source.text)
    if source.video is not None:
        info, rows = captions_of(source.video)
        return Material(source.title or "The film", info.key, info, rows)
    given = source.captions or []
    length = sum(len(one.caption) for one in given)
    if length > limits.captions_length:
        raise _too_long("the captions together", length, limits.captions_length)
    timed = all(one.timestamp_s is not None for one in given)
    ordered = sorted(given, key=lambda one: one.timestamp_s or 0.0) if timed else given
    rows = [_row(position, one, timed) for position, one in enumerate(ordered)]
    return Material(title, "captions", rows=rows)


def _row(position: int, one: CaptionGiven, timed: bool) -> Row:
    words = one.caption.split()
    if not timed:
        return Row(position, position, None, one.caption, words, 0.0)
    return Row(position, position, one.timestamp_s, one.caption, words, 0.0, end_s=one.end_s)


def _too_long(what: str, length: int, limit: int) -> RequestFailed:
    return RequestFailed(413, "too_long", f"{what}: {length} characters, where {limit} are allowed")
