"""Listings of object stores are streams: what is listed does not add up in memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from model.errors import GpucaptError
from pipeline.errors import StorageUnavailable
from pipeline.sources.discovery import find_sources
from pipeline.storage.base import Storage
from pipeline.storage.open import open_storage
from pipeline.storage.s3.listing import in_order
from tests.services.s3 import S3Server, fill


def most_memory(work: Callable[[], object]) -> int:
    """The most bytes that Python objects took at a time."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_number_of_keys(
    s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.storage.s3.storage._PAGE", 100)
    fill(s3_server, bucket, (f"few/album/{number:06}.jpg" for number in range(250)))
    fill(s3_server, bucket, (f"many/album/{number:06}.jpg" for number in range(2500)))
    few, many = open_storage(f"s3://{bucket}/few"), open_storage(f"s3://{bucket}/many")
    assert sum(1 for _ in few.list()) == 250
    ways: list[Callable[[Storage], Iterable[object]]] = [
        lambda storage: storage.list(),
        lambda storage: storage.list_folder("album"),
        lambda storage: find_sources(storage, base_name="in"),
    ]
    for way in ways:

        def look(storage: Storage, way: Callable[[Storage], Iterable[object]] = way) -> None:
            for _ in way(storage):
                pass

        assert most_memory(lambda: look(many)) < most_memory(lambda: look(few)) + (400 << 10)


def test_a_folder_is_listed_without_what_lies_below(s3_server: S3Server, bucket: str) -> None:
    """A folder over very many others takes one page, not a walk through all of them."""
    keys = [f"in/{folder}/{number:04}.jpg" for folder in "abc" for number in range(700)]
    fill(s3_server, bucket, [*keys, "in/z.jpg"])
    storage: Any = open_storage(f"s3://{bucket}/in")
    pages: list[str] = []
    storage.made.client.meta.events.register(
        "before-call.s3.ListObjectsV2", lambda params, **rest: pages.append(params["url_path"])
    )
    assert [entry.key for entry in storage.list_folder("")] == ["z.jpg"]
    assert len(pages) == 1
    next(storage.list())
    assert len(pages) == 2


def test_a_listing_begins_where_it_is_told_to(s3_server: S3Server, bucket: str) -> None:
    fill(s3_server, bucket, [f"in/{number:04}" for number in range(2500)])
    storage: Any = open_storage(f"s3://{bucket}/in")
    found = [entry.key for entry in storage.list(after="1499")]
    assert found == [f"{number:04}" for number in range(1500, 2500)]
    assert [entry.key for entry in storage.list("24", after="2497")] == ["2498", "2499"]


# Stores that do not do as they should


def pages(*contents: list[str]) -> Iterator[dict[str, Any]]:
    for number, keys in enumerate(contents):
        yield {
            "Contents": [{"Key": key} for key in keys],
            "IsTruncated": True,
            "NextContinuationToken": f"{number}",
        }


def test_a_store_that_does_not_sort_is_refused() -> None:
    """As AWS's directory buckets: going by their order would lose what is there."""
    given = pages(["b", "a"])
    with pytest.raises(GpucaptError, match="does not sort"):
        list(in_order(lambda on: next(given), "s3://bucket"))


def test_a_listing_that_stays_where_it_is_comes_to_an_end() -> None:
    given = pages(["a", "b"], [], [])
    with pytest.raises(StorageUnavailable, match="does not get on after 'b'"):
        list(in_order(lambda on: next(given), "s3://bucket"))
