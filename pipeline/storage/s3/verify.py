"""Whether a fetched file is what the object store has, as far as the store lets us know."""

from __future__ import annotations

from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.storage.base import Entry
from pipeline.storage.s3.checksums import (
    digest_of,
    etag_of,
    is_md5,
    kept_checksum,
    matches_parts,
    md5_of,
    parts_of,
    shows_content,
)
from pipeline.storage.s3.errors import WrongContent

if TYPE_CHECKING:
    from pipeline.storage.s3.objects import Head, S3Objects

_MOST_PARTS_ASKED = 1000


def verify_bytes(data: bytes, head: Head) -> None:
    """Raises WrongContent when this is not what the headers say that came with it."""
    wanted = md5_of(head) or kept_checksum(head)
    if wanted is not None:
        wanted[0].update(data)
        if wanted[0].digest() != wanted[1]:
            raise WrongContent()


def verify(storage: S3Objects, entry: Entry, path: Path, md5: str, head: Head) -> None:
    """Raises WrongContent when a file with this MD5 is not what the object's ETag or checksum says."""
    if is_md5(entry.etag, head):
        if md5 != entry.etag:
            raise WrongContent()
        return
    about = storage.head(entry.key, ChecksumMode="ENABLED")
    if about is None or etag_of(about) != entry.etag:
        return  # replaced since: what was fetched is the one before
    kept = kept_checksum(about)
    if kept is not None:
        if digest_of(path, kept[0]) != kept[1]:
            raise WrongContent()
        return
    size = part_size(storage, entry.key, about)
    if size is None or matches_parts(path, entry.etag, repeat(size)):
        return
    sizes = _part_sizes(storage, entry)
    if sum(sizes) == entry.size and not matches_parts(path, entry.etag, sizes):
        raise WrongContent()


def part_size(storage: S3Objects, key: str, head: Head) -> int | None:
    """The size of the parts that an object was uploaded in, if they are alike; None where nobody tells."""
    count = parts_of(etag_of(head))
    if count is None or not shows_content(head):
        return None
    first = storage.head(key, PartNumber=1) or {}
    size = first["ContentLength"] if first.get("PartsCount") == count else None
    return size if size and -(-head["ContentLength"] // size) == count else None


def _part_sizes(storage: S3Objects, entry: Entry) -> list[int]:
    """The size of each part: mostly they are alike, but they need not be."""
    count = min(parts_of(entry.etag) or 0, _MOST_PARTS_ASKED)
    heads = (storage.head(entry.key, PartNumber=number) for number in range(1, count + 1))
    return [head["ContentLength"] if head else 0 for head in heads]
