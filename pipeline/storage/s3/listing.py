"""Listings of a bucket, page by page: as long as they are, no more than a page of them is in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from model.errors import GpucaptError
from pipeline.errors import StorageUnavailable
from pipeline.storage.s3.client import Connection

Page = dict[str, Any]


def page_of(made: Connection, bucket: str, prefix: str, most: int, **more: Any) -> Page:
    """One page of at most so many keys. Raises what boto raises, and StorageUnavailable."""
    tries = 0

    def ask() -> Page:
        nonlocal tries
        # A page that ends with a control character is no XML on some stores: another try ends elsewhere.
        count = most - tries % min(most, 100)
        tries += 1
        page: Page = made.client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=count, **more)
        return page

    return made.persist(ask, f"s3://{bucket}/{prefix}")


def in_order(next_page: Callable[[dict[str, str]], Page], url: str) -> Iterator[dict[str, Any]]:
    """What the pages of a listing show; `next_page` is given the arguments that lead on.

    Raises GpucaptError for a store that does not sort, or whose listing does not get on.
    """
    last: str | None = None
    furthest = ""
    on: dict[str, str] = {}
    while True:
        page = next_page(on)
        items = page.get("Contents", [])
        for item in items:
            if last is not None and item["Key"] <= last:
                raise GpucaptError(f"{url}: this storage does not sort what it lists")
            last = item["Key"]
            yield item
        if not page.get("IsTruncated"):
            return
        shown = [one["Key"] for one in items[-1:]]
        shown += [one["Prefix"] for one in page.get("CommonPrefixes", [])[-1:]]
        if not page.get("NextContinuationToken") or max(shown, default="") <= furthest:
            raise StorageUnavailable(f"{url}: the listing does not get on after {furthest!r}; try later")
        furthest = max(shown)
        on = {"ContinuationToken": page["NextContinuationToken"]}
