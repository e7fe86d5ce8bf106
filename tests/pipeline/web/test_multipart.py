"""What is read of a client's body, and no more: in pieces of any size, up to the limits."""

from __future__ import annotations

import asyncio
import errno
import io
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from pipeline.web.errors import RequestFailed, as_failed
from pipeline.web.multipart import FilmSink, Form, Room, UploadedStill, read_body, read_form

BODY = (
    b'--cut\r\nContent-Disposition: form-data; name="beam_size"\r\n\r\n3\r\n'
    b'--cut\r\nContent-Disposition: form-data; name="images"; filename="one \xc3\xbc.jpg"\r\n'
    b"Content-Type: image/jpeg\r\n\r\n\r\n--cu\r\n\x00first\r\n"
    b'--cut\r\nContent-Disposition: form-data; name="images"; filename=""\r\n\r\n\r\n--cut--\r\n'
)


def request(pieces: list[bytes], **headers: str) -> Request:
    """A request whose body comes in these pieces; then the client is gone."""
    kind = {"content-type": "multipart/form-data; boundary=cut", **headers}
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in kind.items()]
    messages: Iterator[dict[str, Any]] = iter(
        [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
        + [{"type": "http.request", "body": b"", "more_body": False}]
    )

    async def receive() -> dict[str, Any]:
        return next(messages, {"type": "http.disconnect"})

    return Request({"type": "http", "method": "POST", "path": "/", "headers": raw}, receive)


def form_of(pieces: list[bytes], *, most_bytes: int = 10_000, limit: int = 1000) -> Form:
    def still(field: str, name: str) -> UploadedStill:
        assert field == "images"
        return UploadedStill(name, limit)

    return asyncio.run(read_form(request(pieces), still, most_bytes=most_bytes))


@given(st.lists(st.integers(0, len(BODY)), max_size=12))
@settings(max_examples=60, deadline=None)
def test_a_form_is_the_same_in_pieces_of_any_size(cuts: list[int]) -> None:
    ends = sorted({0, *cuts, len(BODY)})
    pieces = [BODY[start:end] for start, end in pairwise(ends)]
    form = form_of(pieces)
    assert form.fields == {"beam_size": ["3"]}
    stills = [one for one in form.files if isinstance(one, UploadedStill)]
    assert [(one.name, bytes(one.data)) for one in stills] == [
        ("one ü.jpg", b"\r\n--cu\r\n\x00first"),
        ("", b""),
    ]


def test_limits_hold_while_a_body_comes() -> None:
    endless = [BODY[: BODY.index(b"first")]] + [b"x" * 100] * 10**4
    with pytest.raises(RequestFailed) as failed:
        form_of(endless)
    assert (failed.value.status_code, failed.value.code) == (413, "too_large")
    (large, _) = form_of([BODY], limit=5).files
    assert isinstance(large, UploadedStill) and large.failed is not None and not large.data

    file = io.BytesIO()
    film = FilmSink("film", 10, file)
    film.write(b"0123456789")
    with pytest.raises(RequestFailed):
        film.write(b"0")
    assert file.getvalue() == b"0123456789"
    with pytest.raises(RequestFailed):
        asyncio.run(read_body(request([b"12345", b"6"]), 5))


def test_a_client_that_goes_away_is_no_whole_form() -> None:
    async def gone() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    headers = [(b"content-type", b"multipart/form-data; boundary=cut")]
    broken = Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, gone)
    with pytest.raises(RequestFailed) as failed:
        asyncio.run(read_form(broken, lambda field, name: UploadedStill(name, 1), most_bytes=10))
    assert failed.value.code == "disconnected"


def test_all_bodies_together_have_their_limit_and_give_back_what_they_took() -> None:
    room = Room(100)
    with room.taken(request([], content_length="60"), 80):
        with pytest.raises(RequestFailed) as failed, room.taken(request([]), 80):
            pass  # without a length it may become the most
        assert (failed.value.status_code, failed.value.code) == (429, "queue_full")
        with room.taken(request([], content_length="40"), 80):
            pass
    with room.taken(request([], content_length="10000"), 100):
        pass


def test_a_full_disk_is_no_bug_of_ours() -> None:
    failed = as_failed(OSError(errno.ENOSPC, "No space left on device"))
    assert (failed.status_code, failed.code) == (503, "no_room")
