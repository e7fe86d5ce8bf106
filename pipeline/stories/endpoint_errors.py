"""What goes wrong between us and an endpoint, in words for people."""

from __future__ import annotations

import time
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from pipeline.errors import one_line
from pipeline.stories.providers import StoryFailed
from pipeline.stories.story_settings import StorySettings

_LONGEST_REASON = 200


class Passing(Exception):
    """What may be over in a while. ``wait_s`` is what the endpoint asks for, if it does."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait_s = wait_s

    def told(self, tries: int) -> str:
        """What to tell people after so many tries."""
        asked = f"; it asks to wait {self.wait_s:.0f} s" if self.wait_s else ""
        return f"{self.reason}{asked}" + (f" ({tries} tries)" if tries > 1 else "")


class Adaptable(Exception):
    """What the endpoint does not take, and how it can be asked otherwise."""

    def __init__(
        self, about: Literal["length", "temperature", "system", "context", "thoughts"], reason: str
    ) -> None:
        super().__init__(reason)
        self.about = about
        self.reason = reason


def understood(error: BaseException, where: str, settings: StorySettings) -> Exception:
    """Return an error of the library as what it means: Passing, Adaptable or StoryFailed.

    Raises what is a bug of ours.
    """
    import openai

    if isinstance(error, Passing | Adaptable | StoryFailed):
        return error
    if isinstance(error, openai.APITimeoutError):
        return Passing(f"{where} does not answer in time")
    if isinstance(error, openai.APIConnectionError):
        cause = _root(error)
        return Passing(f"{where} cannot be reached ({_said(cause, settings)})")
    if isinstance(error, openai.APIStatusError):
        return _status(error, where, settings)
    if isinstance(error, openai.OpenAIError):
        # An error that comes in the middle of a stream, or an answer that is no chat completion.
        return Passing(f"{where}: {_said(error, settings)}")
    if type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "httpcore2"):
        return Passing(f"{where}: the answer broke off")
    if isinstance(error, ValueError | AttributeError | TypeError | KeyError | IndexError):
        return StoryFailed(f"{where} does not answer as OpenAI's protocol says; is its address right?")
    raise error


def _status(error: Any, where: str, settings: StorySettings) -> Exception:
    status, said = error.status_code, _said(error, settings)
    if status == 429:
        if getattr(error, "code", None) == "insufficient_quota":
            return StoryFailed(f"{where}: the account's quota is used up", unreachable=True)
        return Passing(f"{where} has too many requests (429)", _retry_after(error))
    if status in (401, 403):
        key = "GPUCAPT_STORY_API_KEY" if settings.base_url or settings.api_key else "OPENAI_API_KEY"
        return StoryFailed(f"{where} refuses the key ({status}); set {key}", unreachable=True)
    if status == 404:
        return StoryFailed(
            f"{where} has no such model or address ({_with(404, said)}); see GPUCAPT_STORY_MODEL and"
            " GPUCAPT_STORY_BASE_URL, which most often ends with /v1",
            unreachable=True,
        )
    if status in (408, 409, 425) or status >= 500:
        return Passing(f"{where} has trouble ({_with(status, said)})", _retry_after(error))
    about = _refused(said.lower(), getattr(error, "code", None))
    reason = f"{where} refuses the question ({_with(status, said)})"
    return StoryFailed(reason) if about is None else Adaptable(about, reason)


def _refused(said: str, code: object) -> Literal["length", "temperature", "system", "context"] | None:
    if "max_completion_tokens" in said or ("max_tokens" in said and "unsupported" in said):
        return "length"
    if code == "context_length_exceeded" or "context" in said or "too long" in said:
        return "context"
    if "temperature" in said:
        return "temperature"
    if "system" in said and "role" in said:
        return "system"
    return None


def _retry_after(error: Any) -> float | None:
    """The seconds that an endpoint asks to wait; it may say until when instead."""
    headers = error.response.headers
    for seconds in (_number(headers.get("retry-after-ms"), 0.001), _number(headers.get("retry-after"), 1.0)):
        if seconds is not None and 0 < seconds < 1e6:
            return seconds
    with suppress(ValueError):
        until = parsedate_to_datetime(headers.get("retry-after", ""))
        return max(0.5, until.timestamp() - time.time())
    return None


def _number(text: str | None, unit: float) -> float | None:
    try:
        return float(text or "") * unit
    except ValueError:
        return None


def _with(status: int, said: str) -> str:
    return str(status) if said.startswith("Error code:") else f"{status}: {said}"


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__ or error
    return error


def _told(body: object) -> str | None:
    """What the body of an error says, in any of the ways that servers have."""
    for name in ("message", "error", "detail"):
        found = body.get(name) if isinstance(body, dict) else None
        if found:
            return found if isinstance(found, str) else _told(found)
    return None


def _said(error: BaseException, settings: StorySettings) -> str:
    """What an error says, short, on one line, without the key."""
    told = _told(getattr(error, "body", None)) or getattr(error, "message", None) or error
    text = one_line(" ".join(str(told).split())) or type(error).__name__
    if settings.key:
        text = text.replace(settings.key, "***")
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}…"
