"""Pictures and films as clients send them."""

from __future__ import annotations

import io
from typing import Any

import httpx
from PIL import Image

from tests.media import photograph

Error = tuple[int, str]


def picture(name: str = "cat", *, size: tuple[int, int] = (160, 120), kind: str = "JPEG") -> bytes:
    """A photograph as a file."""
    file = io.BytesIO()
    Image.fromarray(photograph(name, size=size)).save(file, kind)
    return file.getvalue()


def send(client: httpx.Client, *files: bytes | tuple[str, bytes], **fields: Any) -> httpx.Response:
    """POST /v1/captions with these pictures."""
    named = [one if isinstance(one, tuple) else (f"{n}.jpg", one) for n, one in enumerate(files)]
    data = {name: value if isinstance(value, list) else str(value).lower() for name, value in fields.items()}
    return client.post("/v1/captions", files=[("images", one) for one in named], data=data)


def error_of(response: httpx.Response) -> Error:
    """Its status and code; fails where it is no error as all are."""
    content = response.json()
    assert set(content) == {"error"}, content
    assert set(content["error"]) == {"code", "message"}
    assert "\n" not in content["error"]["message"]
    return response.status_code, content["error"]["code"]
