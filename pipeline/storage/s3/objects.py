"""Single objects under a prefix of a bucket: looking at one, removing one, and what the store says of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from model.errors import GpucaptError
from pipeline.errors import Archived, BadInput, StorageUnavailable
from pipeline.storage.base import Entry
from pipeline.storage.s3.archive import ARCHIVED, may_be_archived, why_archived, why_refused
from pipeline.storage.s3.checksums import etag_of
from pipeline.storage.s3.client import Connection, connection
from pipeline.storage.s3.errors import (
    UNFIT_NAMES,
    code_of,
    not_s3,
    reason_of,
    refusal_as_a_whole,
    status_of,
)
from pipeline.storage.s3.listing import page_of
from pipeline.storage.s3.uri import Place

Head = dict[str, Any]
"""The headers of an object, as the answer to HEAD has them."""


_OF_LISTINGS = frozenset({"Name", "IsTruncated", "MaxKeys", "KeyCount"})
"""What a store says of a listing, whatever is in it."""


class S3Objects:
    """The objects under a prefix, one at a time: what listing, moving and verifying are made of."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.url = place.url
        self._kept: tuple[int, Connection] | None = None

    @property
    def made(self) -> Connection:
        """The connection that this process uses."""
        process = os.getpid()
        if self._kept is None or self._kept[0] != process:
            self._kept = process, connection()
        return self._kept[1]

    def page(self, prefix: str, most: int, **more: str) -> dict[str, Any]:
        """One page of a listing of the bucket, as the store answers it."""
        with self.told("list"):
            page = page_of(self.made, self.place.bucket, prefix, most, **more)
        self._check_that_it_is_s3(not _OF_LISTINGS.isdisjoint(page), "its listing is none")
        return page

    def _check_that_it_is_s3(self, is_so: bool, otherwise: str) -> None:
        """To boto an empty page, or one of XHTML, is an answer that says nothing."""
        if not is_so:
            raise StorageUnavailable(not_s3(self.url, self.made.endpoint, otherwise))

    def stat(self, key: str) -> Entry | None:
        """The object, or None where there is none."""
        head = self.head(key)
        return None if head is None else entry_of_head(key, head)

    def why_archived(self, entry: Entry) -> str | None:
        """Why an object cannot be read until it is restored; None where it can be, or is gone."""
        if not entry.may_be_archived:
            return None
        try:
            head = self.head(entry.key)
        except BadInput:  # reading it will tell
            return None
        return None if head is None else why_archived(head)

    def head(self, key: str, **more: Any) -> Head | None:
        """The headers of an object; None where there is none."""
        full = self.place.full(key)
        try:
            head: Head = self.made.persist(
                lambda: self.made.client.head_object(Bucket=self.place.bucket, Key=full, **more),
                f"{self.url}/{key}",
            )
            self._check_that_it_is_s3("LastModified" in head, "it does not say how old an object is")
            return head
        except GpucaptError:
            raise
        except Exception as error:
            if status_of(error) == 404:
                return None
            if status_of(error) in (400, 403) and not code_of(error):
                # Answers to HEAD have no room for a reason. A listing says so if it is us who are refused;
                # and where we may list some prefixes only, it alone tells that there is no such object.
                if full not in (item["Key"] for item in self.page(full, 1).get("Contents", [])):
                    return None
                raise BadInput(f"{key}: cannot be read: access is denied") from error
            raise self.explained(error, "read", key) from error

    def _delete_raw(self, full: str) -> None:
        """Remove an object by its whole key in the bucket; absent is fine."""
        try:
            self.made.persist(
                lambda: self.made.client.delete_object(Bucket=self.place.bucket, Key=full), self.url
            )
        except GpucaptError:
            raise
        except Exception as error:
            if code_of(error) != "NoSuchKey":  # some stores say so; for us, absent is deleted
                raise self.explained(error, "delete") from error

    def delete(self, key: str) -> None:
        """Remove an object; absent is fine."""
        self._delete_raw(self.place.full(key))

    def delete_if(self, key: str, etag: str) -> bool:
        """Remove an object that still has this etag; False when it changed. Absent is fine."""
        there = self.stat(key)
        if there is None:
            return True
        if there.etag != etag:
            return False
        full = self.place.full(key)

        def delete(**condition: str) -> None:
            self.made.persist(
                lambda: self.made.client.delete_object(Bucket=self.place.bucket, Key=full, **condition),
                f"{self.url}/{key}",
            )

        try:
            delete(IfMatch=f'"{etag}"')
        except GpucaptError:
            raise
        except Exception as error:
            if status_of(error) == 412:
                return False
            if status_of(error) == 404 and code_of(error) != "NoSuchBucket":
                return True  # by an earlier try
            if status_of(error) not in (400, 501):
                raise self.explained(error, "delete") from error
            self._delete_raw(full)  # a store that has no conditions on it
        return True

    def now(self) -> float:
        """The time by the store's clock, in seconds since the epoch."""
        return self.made.now()

    @contextmanager
    def told(self, doing: str, key: str | None = None) -> Iterator[None]:
        """Tell boto's errors as people should read them."""
        try:
            yield
        except Exception as error:
            explained = self.explained(error, doing, key)
            if explained is error:
                raise
            raise explained from error

    def explained(self, error: Exception, doing: str, key: str | None = None) -> Exception:
        """The error as people should read it: about the whole storage, or about one object of it."""
        if isinstance(error, GpucaptError):
            return error
        known = refusal_as_a_whole(error, self.url, self.made.endpoint)
        if known is not None:
            return known
        status, code = status_of(error), code_of(error)
        if status == 0:
            return error
        if code in ARCHIVED:
            return Archived(f"{key or self.url}: {why_refused(vars(error).get('response', {}))}")
        if doing == "read" and key is not None:
            return BadInput(f"{key}: cannot be read: {_why_unreadable(status, code)}")
        if doing == "write" and code in UNFIT_NAMES:
            return BadInput(f"cannot write {self.url}/{key}: the storage allows no such name")
        if status == 403:
            return StorageUnavailable(f"{self.url}: access is denied; ask for the right to {doing} there")
        if not code:
            return StorageUnavailable(not_s3(self.url, self.made.endpoint, reason_of(error)))
        return StorageUnavailable(f"{self.url}: the storage refuses to {doing}: {reason_of(error)}")


def _why_unreadable(status: int, code: str) -> str:
    if status == 404:
        return "there is no such object"
    if status in (412, 416):
        return "it changed since it was listed"
    if status == 403:
        return "access is denied"
    return f"the storage refuses ({code or status})"


def entry_of_head(key: str, head: Head) -> Entry:
    """An object as the answer to HEAD describes it."""
    modified = head["LastModified"].timestamp()
    return Entry(key, head["ContentLength"], etag_of(head), modified, may_be_archived(head))
