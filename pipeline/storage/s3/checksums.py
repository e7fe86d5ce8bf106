"""Whether bytes are those that an object store has: by its ETag, or by a checksum that it keeps."""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

_MD5 = re.compile(r"[0-9a-f]{32}")
_OF_PARTS = re.compile(r"[0-9a-f]{32}-(\d+)")
_BLOCK = 1 << 20


class Digest(Protocol):
    """As hashlib's."""

    def update(self, data: bytes, /) -> None:
        """Take in more bytes."""

    def digest(self) -> bytes:
        """The checksum of all so far."""


class Crc32:
    """CRC-32 with hashlib's interface."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        """Take in more bytes."""
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        """The checksum of all so far, big-endian."""
        return self._value.to_bytes(4, "big")


_KEPT: Mapping[str, Callable[[], Digest]] = {
    "ChecksumSHA256": hashlib.sha256,
    "ChecksumSHA1": lambda: hashlib.sha1(usedforsecurity=False),
    "ChecksumCRC32": Crc32,
}
"""The checksums a store may keep of a whole object that the standard library can compute."""


def new_md5() -> Any:
    """MD5 as a checksum, which also machines in FIPS mode allow."""
    return hashlib.md5(usedforsecurity=False)


def content_md5(data: bytes) -> str:
    """The value of the header Content-MD5."""
    digest = new_md5()
    digest.update(data)
    return base64.b64encode(digest.digest()).decode()


def etag_of(head: Mapping[str, Any]) -> str:
    """The ETag of an answer or of a line of a listing, without quotes."""
    return str(head.get("ETag", "")).removeprefix("W/").strip('"')


def is_md5(etag: str, head: Mapping[str, Any]) -> bool:
    """Whether the ETag of an object with these headers is the MD5 of its content."""
    return _MD5.fullmatch(etag) is not None and shows_content(head)


def md5_of(head: Mapping[str, Any]) -> tuple[Digest, bytes] | None:
    """A fresh digest and its wanted value, where the ETag in these headers is the MD5 of the content."""
    etag = etag_of(head)
    return (new_md5(), bytes.fromhex(etag)) if is_md5(etag, head) else None


def shows_content(head: Mapping[str, Any]) -> bool:
    """Objects encrypted with customers' keys have ETags that say nothing about their content."""
    return head.get("ServerSideEncryption") in (None, "AES256") and not head.get("SSECustomerAlgorithm")


def _is_of_whole(head: Mapping[str, Any]) -> bool:
    """Whether the checksums in these headers are of the object's bytes.

    Those of an object that was uploaded in parts may be of the checksums of its parts: AWS says so by their
    type and by a suffix, other stores by neither.
    """
    kind = head.get("ChecksumType")
    return kind == "FULL_OBJECT" or (kind is None and _MD5.fullmatch(etag_of(head)) is not None)


def kept_checksum(head: Mapping[str, Any]) -> tuple[Digest, bytes] | None:
    """A fresh digest and its wanted value, where the store keeps a checksum of the whole object."""
    for name, make in _KEPT.items():
        value = head.get(name)
        if value and _is_of_whole(head) and "-" not in value:
            return make(), base64.b64decode(value)
    return None


def kept_value(head: Mapping[str, Any]) -> tuple[str, str] | None:
    """The name and the value of a checksum of the whole object, of whatever kind the store keeps."""
    if not _is_of_whole(head):
        return None
    kept = ((name, head[name]) for name in head if name.startswith("Checksum") and name != "ChecksumType")
    return next(((name, value) for name, value in kept if "-" not in value), None)


def parts_of(etag: str) -> int | None:
    """How many parts an object was uploaded in; None where its ETag does not say."""
    match = _OF_PARTS.fullmatch(etag)
    return int(match[1]) if match else None


def etag_of_parts(md5s: Iterable[bytes]) -> str:
    """The ETag of an object that was uploaded in parts with these MD5s."""
    whole, count = new_md5(), 0
    for one in md5s:
        whole.update(one)
        count += 1
    return f"{whole.hexdigest()}-{count}"


def matches_parts(path: Path, etag: str, sizes: Iterable[int]) -> bool:
    """Whether a file has this ETag when it is cut into parts of these sizes."""
    return etag_of_parts(_md5s(path, sizes)) == etag


def _md5s(path: Path, sizes: Iterable[int]) -> Iterator[bytes]:
    left = path.stat().st_size
    with path.open("rb") as file:
        for size in sizes:
            if left == 0:
                return
            digest, wanted = new_md5(), min(size, left)
            left -= wanted
            while wanted and (block := file.read(min(wanted, _BLOCK))):
                digest.update(block)
                wanted -= len(block)
            yield digest.digest()


def digest_of(path: Path, digest: Digest) -> bytes:
    """The checksum of a file."""
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.digest()
