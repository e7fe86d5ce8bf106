"""What clients upload, read as it comes and no further than the limits go.

Stills are held in memory and nowhere else; only a film is written to disk, by whoever asked for it and under
a name that the client had no part in. (The form parser that comes with the framework writes larger files to
the folder for temporary files.)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Protocol
from urllib.parse import parse_qs

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from pipeline.errors import one_line
from pipeline.web.errors import RequestFailed, busy, too_large

if TYPE_CHECKING:
    from starlette.requests import Request

_SILENCE_S = 30.0
"""After so long without a byte a client is taken for gone."""
_LONGEST_S = 1800.0
"""However slowly it comes: a body that trickles in for ever would hold its place for ever."""
_FIELDS, _FIELD_BYTES = 64, 8 << 10
_HEADERS_BYTES = 16 << 10
_LONGEST_NAME = 255  # characters that an answer tells of a file's name


class UploadSink(Protocol):
    """Where a file of the form goes."""

    name: str

    def write(self, data: bytes) -> None:
        """Take the next bytes. Raises RequestFailed where the whole request is to end."""


@dataclass(slots=True)
class UploadedStill:
    """One picture of a request, in memory: its bytes, or why there are none."""

    name: str
    limit: int
    data: bytearray = field(default_factory=bytearray)
    failed: RequestFailed | None = None

    def write(self, data: bytes) -> None:
        """Keep bytes up to the limit; a larger picture costs itself alone."""
        if self.failed is not None:
            return
        if len(self.data) + len(data) > self.limit:
            self.failed = too_large(self.name, self.limit)
            self.data = bytearray()
            return
        self.data += data


@dataclass(slots=True)
class FilmSink:
    """A film on its way to a file."""

    name: str
    limit: int
    file: IO[bytes]
    size: int = 0

    def write(self, data: bytes) -> None:
        """Write bytes up to the limit, beyond which the request ends."""
        self.size += len(data)
        if self.size > self.limit:
            raise too_large(self.name, self.limit)
        self.file.write(data)


@dataclass(slots=True)
class Form:
    """The fields of a form, each with all its values, and its files in their order."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    files: list[UploadSink] = field(default_factory=list)

    def single(self, names: set[str]) -> dict[str, str]:
        """Those of the fields that are given once. Raises RequestFailed for others and for unknown ones."""
        for name, values in self.fields.items():
            if name not in names:
                raise _invalid(f"there is no field {name!r}")
            if len(values) > 1:
                raise _invalid(f"{name} is given more than once")
        return {name: values[0] for name, values in self.fields.items()}


class Room:
    """How many bytes of bodies may be in memory, of all requests together."""

    def __init__(self, most: int) -> None:
        self._left = most

    @contextmanager
    def taken(self, request: Request, most_bytes: int) -> Iterator[None]:
        """Take what a request will need, by its own account or else the most. Raises RequestFailed."""
        length = request.headers.get("content-length", "")
        size = min(int(length), most_bytes) if length.isdigit() else most_bytes
        if size > self._left:
            raise busy("too many pictures are being sent already")
        self._left -= size
        try:
            yield
        finally:
            self._left += size


async def read_form(
    request: Request, open_file: Callable[[str, str], UploadSink], *, most_bytes: int, in_thread: bool = False
) -> Form:
    """Read a multipart form.

    Args:
        open_file: given a field's name and the name of the file in it, where its bytes go; raises
            RequestFailed for what is not wanted.
        in_thread: whether to write in a thread, for files on disk.

    One without files may also come as browsers send such by default. Raises RequestFailed: 415 for another
    kind of body, 413 for one that is too large, 408 for one that does not come, 422 for one that is damaged.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if kind == b"application/x-www-form-urlencoded":
        return _plain_form(await read_body(request, _FIELDS * _FIELD_BYTES))
    if kind != b"multipart/form-data" or not boundary:
        raise RequestFailed(415, "unsupported_media_type", "send a form: multipart/form-data")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > most_bytes:
        raise too_large("the request", most_bytes)
    reading = _Reading(open_file)
    parser = MultipartParser(boundary, reading.callbacks())  # type: ignore[arg-type]
    total = 0
    try:
        async for data in _pieces(request):
            total += len(data)
            if total > most_bytes:
                raise too_large("the request", most_bytes)
            if in_thread:
                await asyncio.to_thread(parser.write, data)
            else:
                parser.write(data)
        parser.finalize()
    except FormParserError as error:
        raise _invalid("the form is damaged") from error
    if not reading.is_whole:
        raise _invalid("the form is cut short")
    return reading.form


async def read_body(request: Request, most_bytes: int) -> bytes:
    """A whole body. Raises RequestFailed: 413 for one that is too large, 408 for one that does not come."""
    body = bytearray()
    async for data in _pieces(request):
        body += data
        if len(body) > most_bytes:
            raise too_large("the request", most_bytes)
    return bytes(body)


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """The body as it comes."""
    more = True
    until = asyncio.get_running_loop().time() + _LONGEST_S
    while more:
        try:
            async with asyncio.timeout(min(_SILENCE_S, until - asyncio.get_running_loop().time())):
                message = await request.receive()
        except TimeoutError:
            raise RequestFailed(408, "timeout", "the rest of the request did not come") from None
        if message["type"] == "http.disconnect":
            raise RequestFailed(400, "disconnected", "the client is gone")
        more = message.get("more_body", False)
        if message.get("body"):
            yield message["body"]


def _plain_form(body: bytes) -> Form:
    """A form without files."""
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=_FIELDS, errors="replace")
    except ValueError as error:
        raise _invalid("the form is damaged") from error
    return Form(fields)


class _Reading:
    """A form that is being read: what the parser calls with each thing that it comes upon."""

    def __init__(self, open_file: Callable[[str, str], UploadSink]) -> None:
        self.form = Form()
        self.is_whole = False
        self._open_file = open_file
        self._header, self._value = bytearray(), bytearray()
        self._disposition = b""
        self._name = ""
        self._text: bytearray | None = None
        self._file: UploadSink | None = None
        self._fields = 0

    def callbacks(self) -> dict[str, Callable[..., None]]:
        """By the names that the parser knows."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._over,
        }

    def _begin(self) -> None:
        self._disposition = b""
        self._fields += 1
        if self._fields > _FIELDS:
            raise _invalid(f"the form has more than {_FIELDS} parts")

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]
        self._check_headers()

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._check_headers()

    def _check_headers(self) -> None:
        if len(self._header) + len(self._value) > _HEADERS_BYTES:
            raise _invalid("the form is damaged")

    def _header_end(self) -> None:
        if bytes(self._header).lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header, self._value = bytearray(), bytearray()

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise _invalid("the form is damaged: a part has no name")
        self._name = _text(options[b"name"])
        if b"filename" in options:
            name = one_line(_text(options[b"filename"]))[:_LONGEST_NAME]
            self._file = self._open_file(self._name, name)
        else:
            self._text = bytearray()

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])
        elif self._text is not None:
            self._text += data[start:end]
            if len(self._text) > _FIELD_BYTES:
                raise too_large(self._name, _FIELD_BYTES)

    def _end(self) -> None:
        if self._file is not None:
            self.form.files.append(self._file)
        elif self._text is not None:
            self.form.fields.setdefault(self._name, []).append(_text(self._text))
        self._file, self._text = None, None

    def _over(self) -> None:
        self.is_whole = True


def _text(data: bytes | bytearray) -> str:
    return data.decode("utf-8", errors="replace")


def _invalid(message: str) -> RequestFailed:
    return RequestFailed(422, "invalid_request", message)
