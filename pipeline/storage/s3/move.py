"""Moving an object inside an object store: copied there by the store itself, compared, then deleted."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from model.errors import GpucaptError
from pipeline.storage.s3.checksums import etag_of, is_md5, kept_value, parts_of
from pipeline.storage.s3.errors import DamagedTransfer, code_of, status_of
from pipeline.storage.s3.multipart import copy_parts, pieces
from pipeline.storage.s3.verify import part_size

if TYPE_CHECKING:
    from pipeline.storage.s3.objects import Head, S3Objects

_BLOCK = 1 << 20
_LARGE = 256 << 20
"""What is larger is copied in parts: a copy in one request may take longer than a connection lasts."""
_USUAL_PART = 128 << 20

_KEPT = (
    "ContentType",
    "ContentEncoding",
    "ContentDisposition",
    "ContentLanguage",
    "CacheControl",
    "Metadata",
)


def move_object(here: S3Objects, key: str, there: S3Objects, new_key: str) -> None:
    """Copy, verify, delete. Raises GpucaptError, and deletes nothing, when the object is gone or changes."""
    before = here.head(key, ChecksumMode="ENABLED")
    if before is None:
        raise GpucaptError(f"{here.url}/{key} is gone and cannot be moved")
    if here.place.bucket == there.place.bucket and here.place.full(key) == there.place.full(new_key):
        return
    changed = GpucaptError(f"{here.url}/{key} changed while it was moved to {there.url}/{new_key}")
    try:
        _copy(here, key, before, there, new_key)
    except Exception as error:
        if status_of(error) == 412 or (status_of(error) == 404 and code_of(error) != "NoSuchBucket"):
            raise changed from error
        raise here.explained(error, "copy", key) from error
    after = there.head(new_key, ChecksumMode="ENABLED")
    if after is None or not _is_same(here, key, before, there, new_key, after):
        # Not every store knows conditions on copies: what was copied is another object than was meant.
        there.delete(new_key)
        raise changed
    if not here.delete_if(key, etag_of(before)):
        raise changed


def _copy(here: S3Objects, key: str, before: Head, there: S3Objects, new_key: str) -> None:
    made = here.made
    source: dict[str, Any] = {
        "CopySource": {"Bucket": here.place.bucket, "Key": here.place.full(key)},
        "CopySourceIfMatch": f'"{etag_of(before)}"',
    }
    target = {"Bucket": there.place.bucket, "Key": there.place.full(new_key)}
    size = int(before["ContentLength"])
    if size <= _LARGE:
        made.persist(lambda: made.client.copy_object(**target, **source), f"{here.url}/{key}")
        return
    about = {name: before[name] for name in _KEPT if before.get(name)}
    # Parts as the original's give the copy the same ETag, which tells that they are the same.
    each = part_size(here, key, before) or max(_USUAL_PART, -(-size // 10_000))
    copy_parts(made, target, source, list(pieces(size, each)), about)


def _is_same(here: S3Objects, key: str, before: Head, there: S3Objects, new_key: str, after: Head) -> bool:
    if before["ContentLength"] != after["ContentLength"]:
        return False
    one, other = etag_of(before), etag_of(after)
    can_tell = is_md5(one, before) or parts_of(one) is not None
    if one == other and can_tell:
        return True
    if is_md5(one, before) and is_md5(other, after):
        return False
    values = kept_value(before), kept_value(after)
    if values[0] is not None and values[1] is not None and values[0][0] == values[1][0]:
        return values[0] == values[1]
    return _sha256(here, key, one) == _sha256(there, new_key, other)


def _sha256(storage: S3Objects, key: str, etag: str) -> bytes:
    """The digest of an object that is read for it; b"" when it has changed."""
    made = storage.made
    wanted = {"Bucket": storage.place.bucket, "Key": storage.place.full(key), "IfMatch": f'"{etag}"'}

    def read() -> bytes:
        digest, count = hashlib.sha256(), 0
        head = made.client.get_object(**wanted)
        with head["Body"] as body:
            while block := body.read(_BLOCK):
                digest.update(block)
                count += len(block)
        if count != head["ContentLength"]:
            raise DamagedTransfer("answers break off")
        return digest.digest()

    try:
        return made.persist(read, f"{storage.url}/{key}")
    except Exception as error:
        if status_of(error) in (404, 412):
            return b""
        raise storage.explained(error, "read", key) from error
