"""How the server says no: a status, a code for programs, one line for people."""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from model.errors import GpucaptError
from pipeline.errors import BadInput, StorageUnavailable, one_line
from pipeline.stories import StoryFailed

_log = logging.getLogger("gpucapt")


class RequestFailed(HTTPException):
    """Ends a request with a status and the error that the answer tells."""

    def __init__(
        self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        self.code = code
        self.message = one_line(message)
        super().__init__(status, self.message, dict(headers or {}))

    @property
    def content(self) -> dict[str, Any]:
        """What an answer, or an image's place in one, says of it."""
        return {"error": {"code": self.code, "message": self.message}}

    def response(self) -> JSONResponse:
        """The whole answer."""
        return JSONResponse(self.content, self.status_code, self.headers)


def busy(message: str) -> RequestFailed:
    """There is too much to do already."""
    return RequestFailed(429, "queue_full", message, headers={"Retry-After": "1"})


def too_large(name: str, limit: int) -> RequestFailed:
    """A file or a request beyond the limit."""
    return RequestFailed(413, "too_large", f"{name or 'it'} is larger than the {limit / 1e6:g} MB allowed")


def unavailable(code: str, message: str) -> RequestFailed:
    """Not now: the model is loading, or the server ends."""
    return RequestFailed(503, code, message, headers={"Retry-After": "2"})


def as_failed(error: Exception) -> RequestFailed:
    """What a client is told of an error that nobody foresaw, or of one of ours."""
    if isinstance(error, RequestFailed):
        return error
    if isinstance(error, StorageUnavailable):
        _log.warning("%s", error)
        return unavailable("storage_unavailable", "the storage does not answer; try again later")
    if isinstance(error, StoryFailed):
        return RequestFailed(502, "story_failed", str(error))
    if isinstance(error, BadInput):
        return RequestFailed(422, "unreadable", str(error))
    if isinstance(error, GpucaptError):
        return RequestFailed(422, "invalid_request", " ".join(str(error).split()))
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        _log.warning("there is no room on the disk for what clients send: %s", error.strerror)
        return unavailable("no_room", "the server has no room for it just now; try again later")
    _log.error("a request failed", exc_info=error)
    return RequestFailed(500, "internal_error", "the server failed at this; its log says why")


def add_handlers(app: FastAPI) -> None:
    """Let every error of the app have the same form."""

    async def failed(request: Request, error: Exception) -> JSONResponse:
        return as_failed(error).response()

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return _of_http(error).response()

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return RequestFailed(422, "invalid_request", in_words(error.errors())).response()

    app.add_exception_handler(RequestFailed, failed)
    app.add_exception_handler(GpucaptError, failed)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)


def in_words(errors: Any) -> str:
    """The first thing that pydantic found wrong, as one line."""
    first = errors[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


_MESSAGES = {
    HTTPStatus.BAD_REQUEST: "the body of the request cannot be read; send JSON in UTF-8",
    HTTPStatus.NOT_FOUND: "there is nothing at this path; /openapi.json lists them all",
    HTTPStatus.METHOD_NOT_ALLOWED: "this path takes another method; /openapi.json lists them",
}
"""What the framework says in words that help nobody."""


def _of_http(error: HTTPException) -> RequestFailed:
    status = HTTPStatus(error.status_code)
    message = _MESSAGES.get(status, status.description or status.phrase)
    return RequestFailed(status, status.name.lower(), message, headers=error.headers)
