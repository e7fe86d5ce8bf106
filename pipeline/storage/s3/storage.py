"""A prefix of a bucket as a storage: AWS, Ceph, and whatever else speaks S3."""

from __future__ import annotations

import builtins
import mimetypes
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from model.errors import GpucaptError
from pipeline.errors import BadInput, StorageUnavailable
from pipeline.runtime.config import tuning
from pipeline.runtime.temp_folders import ScratchFolder
from pipeline.storage.base import Entry, Storage, Unreadable, nothing
from pipeline.storage.s3.archive import may_be_archived
from pipeline.storage.s3.checksums import content_md5, etag_of, new_md5
from pipeline.storage.s3.errors import (
    DamagedTransfer,
    code_of,
    is_passing,
    may_have_written,
    status_of,
)
from pipeline.storage.s3.listing import in_order
from pipeline.storage.s3.move import move_object
from pipeline.storage.s3.multipart import fetch, send
from pipeline.storage.s3.objects import S3Objects, entry_of_head
from pipeline.storage.s3.uri import fits_xml, is_key
from pipeline.storage.s3.verify import verify, verify_bytes

_PAGE = 1000
_MARK = "gpucapt-put"
"""Metadata by which a conditional write is known again when its answer got lost."""

_TYPES = {
    ".jsonl": "application/jsonl",
    ".md": "text/markdown",
    ".srt": "application/x-subrip",
    ".vtt": "text/vtt",
}


class S3Storage(S3Objects, Storage):
    """Objects under a prefix. Threads may share one."""

    is_remote = True

    # Listings

    def exists(self) -> bool:
        first = self.page(self.place.prefix, 1)
        return not self.place.prefix or bool(first.get("Contents"))

    def check_place(self) -> None:
        self.page(self.place.prefix, 1)

    def list(
        self, prefix: str = "", *, after: str = "", unreadable: Unreadable | None = None
    ) -> Iterator[Entry]:
        start = {"StartAfter": self.place.prefix + after} if after else {}
        for key, item in self._listed(self.place.prefix + prefix, start):
            if is_key(key):
                yield _entry(key, item)
            elif not key.endswith("/") and key and unreadable is not None:
                # What ends with '/' is how consoles show folders; there is nothing in it.
                unreadable(key, f"{key!r} has empty parts, '.' or '..' in its name; rename it")

    def list_folder(self, folder: str, *, after: str = "") -> Iterator[Entry]:
        prefix = f"{self.place.full(folder)}/" if folder else self.place.prefix
        start = {"StartAfter": prefix + after} if after else {}
        for key, item in self._listed(prefix, {"Delimiter": "/", **start}):
            if is_key(key):
                yield _entry(key, item)

    def _listed(self, prefix: str, arguments: dict[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every key under the root, whatever it is, with what the listing says about it."""

        def next_page(on: dict[str, str]) -> dict[str, Any]:
            return self.page(prefix, _PAGE, **{**arguments, **on})

        for item in in_order(next_page, self.url):
            yield item["Key"].removeprefix(self.place.prefix), item

    # Reading

    def read(self, key: str, *, etag: str | None = None) -> bytes:
        wanted = self._wanted(key, etag)

        def get() -> bytes:
            head = self.made.client.get_object(**wanted)
            with head["Body"] as body:
                data: bytes = body.read()
            if len(data) != head["ContentLength"]:
                raise DamagedTransfer("answers break off")
            if self.made.tuning.s3_verify:
                verify_bytes(data, head)
            return data

        with self.told("read", key):
            return self.made.persist(get, f"{self.url}/{key}")

    def read_head(self, entry: Entry, size: int) -> bytes:
        length = min(size, entry.size)
        if length == 0:  # of nothing there are no ranges
            return b""
        wanted = {**self._wanted(entry.key, entry.etag), "Range": f"bytes=0-{length - 1}"}

        def get() -> bytes:
            with self.made.client.get_object(**wanted)["Body"] as body:
                data: bytes = body.read(length)
            if len(data) != length:
                raise DamagedTransfer("answers break off")
            return data

        with self.told("read", entry.key):
            return self.made.persist(get, f"{self.url}/{entry.key}")

    def _wanted(self, key: str, etag: str | None) -> dict[str, str]:
        wanted = {"Bucket": self.place.bucket, "Key": self.place.full(key)}
        return wanted if etag is None else {**wanted, "IfMatch": f'"{etag}"'}

    def download(self, entry: Entry, path: Path, *, go_on: Callable[[], None] = nothing) -> None:
        if entry.size == 0:  # of which there are no ranges
            path.write_bytes(self.read(entry.key, etag=entry.etag))
            return
        wanted = self._wanted(entry.key, entry.etag)

        def get() -> None:
            digest = new_md5()
            head = fetch(self.made, wanted, entry.size, path, digest, go_on=go_on)
            if path.stat().st_size != entry.size:
                raise DamagedTransfer("what comes is not as long as it should be")
            if self.made.tuning.s3_verify:
                verify(self, entry, path, digest.hexdigest(), head)

        with self.told("read", entry.key):
            self.made.persist(get, f"{self.url}/{entry.key}", go_on=go_on)

    @contextmanager
    def local_path(self, key: str) -> Iterator[Path]:
        entry = self.stat(key)
        if entry is None:
            raise BadInput(f"{key}: cannot be read: there is no such object")
        with ScratchFolder(tuning().spool, setting="GPUCAPT_SPOOL") as folder:
            suffix = PurePosixPath(entry.name).suffix
            path = folder / ("object" + (suffix if suffix.isascii() and suffix[1:].isalnum() else ""))
            self.download(entry, path)
            yield path

    # Writing

    def write(self, key: str, data: bytes) -> None:
        self._put(key, data)

    def upload(self, path: Path, key: str) -> None:
        size = path.stat().st_size
        if size <= self.made.tuning.s3_part_size:
            self._put(key, path.read_bytes())
            return
        target = {"Bucket": self.place.bucket, "Key": self.place.full(key)}
        with self.told("write", key):
            is_sure, etag = send(self.made, target, path, size, **_content_type(key))
        there = None if is_sure else self.stat(key)
        if not is_sure and (there is None or (there.size, there.etag) != (size, etag)):
            raise StorageUnavailable(f"{self.url}/{key} is not what was uploaded; try again")

    def create(self, key: str, data: bytes) -> Entry | None:
        return self._put_on_condition(key, data, IfNoneMatch="*")

    def replace(self, key: str, data: bytes, etag: str) -> Entry | None:
        made = self.made
        in_quotes = made.quotes_conditions  # as it is for this call: other threads may find out meanwhile
        answer = self._put_on_condition(key, data, IfMatch=_spelt(etag, in_quotes))
        if answer is None:
            there = self.stat(key)
            if there is not None and there.etag == etag:
                # The condition holds, but the store reads it otherwise (with quotes, or without).
                answer = self._put_on_condition(key, data, IfMatch=_spelt(etag, not in_quotes))
                if answer is not None:
                    made.quotes_conditions = not in_quotes
        return answer

    def _put(self, key: str, data: bytes, **more: Any) -> dict[str, Any]:
        with self.told("write", key):
            return self.made.persist(lambda: self._put_once(key, data, more), f"{self.url}/{key}")

    def _put_once(self, key: str, data: bytes, more: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = self.made.client.put_object(
            Bucket=self.place.bucket,
            Key=self.place.full(key),
            Body=data,
            ContentMD5=content_md5(data),
            **_content_type(key),
            **more,
        )
        return answer

    def _put_on_condition(self, key: str, data: bytes, **condition: str) -> Entry | None:
        mark = secrets.token_hex(8)
        uncertain = False

        def put() -> dict[str, Any]:
            nonlocal uncertain
            try:
                return self._put_once(key, data, {"Metadata": {_MARK: mark}, **condition})
            except Exception as error:
                uncertain = uncertain or (is_passing(error) and may_have_written(error))
                raise

        try:
            answer = self.made.persist(put, f"{self.url}/{key}")
            return Entry(key, len(data), etag_of(answer), self.made.now())
        except GpucaptError:
            raise
        except Exception as error:
            if status_of(error) not in (404, 412) or code_of(error) == "NoSuchBucket":
                raise self.explained(error, "write", key) from error
        # A try whose answer got lost may be what made the condition false for the next one.
        head = self.head(key) if uncertain else None
        if head is None or head.get("Metadata", {}).get(_MARK) != mark:
            return None
        return entry_of_head(key, head)

    # Removing

    def delete_folder(self, folder: str) -> None:
        batch: list[str] = []
        for key, item in self._listed(f"{self.place.full(folder)}/", {}):
            if not fits_xml(key):
                self._delete_raw(item["Key"])
                continue
            batch.append(item["Key"])
            if len(batch) == _PAGE:
                self._delete_batch(batch)
                batch = []
        if batch:
            self._delete_batch(batch)

    def _delete_batch(self, keys: builtins.list[str]) -> None:
        wanted = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        with self.told("delete"):
            answer = self.made.persist(
                lambda: self.made.client.delete_objects(Bucket=self.place.bucket, Delete=wanted), self.url
            )
        for one in answer.get("Errors", []):
            self._delete_raw(one["Key"])

    # Moving

    def move(self, key: str, other: Storage, other_key: str) -> None:
        if isinstance(other, S3Storage):
            move_object(self, key, other, other_key)
        else:
            super().move(key, other, other_key)


def _entry(key: str, item: dict[str, Any]) -> Entry:
    return Entry(key, item["Size"], etag_of(item), item["LastModified"].timestamp(), may_be_archived(item))


def _spelt(etag: str, in_quotes: bool) -> str:
    return f'"{etag}"' if in_quotes else etag


def _content_type(key: str) -> dict[str, str]:
    """So that a browser shows a report that is opened from the bucket."""
    suffix = PurePosixPath(key).suffix.lower()
    kind = _TYPES.get(suffix) or mimetypes.guess_type(f"x{suffix}")[0] or "application/octet-stream"
    is_text = kind.startswith("text/") or suffix in (".jsonl", ".json", ".srt")
    return {"ContentType": f"{kind}; charset=utf-8" if is_text else kind}
