"""Rows of stills join what is there by file name and ETag."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.records.row import MAX_ILLUSTRATED, Row
from pipeline.state.still_rows import Illustrations, join
from pipeline.storage.base import Entry

folders = st.dictionaries(st.text(min_size=1, max_size=3), st.sampled_from(["1", "2"]), max_size=12)


def by_name(folder: dict[str, str]) -> list[tuple[str, str]]:
    return sorted(folder.items(), key=lambda item: item[0].encode())


def clean(folder: dict[str, str]) -> dict[str, str]:
    return {name: etag for name, etag in folder.items() if name.isprintable() and "/" not in name}


def row(name: str, etag: str, error: str | None = None) -> Row:
    return Row(0, name, None, f"{name} {etag}", [], -1.0, etag, error=error)


def entry(name: str, etag: str) -> Entry:
    return Entry(f"album/{name}", 1, etag, 0.0)


@given(folders.map(clean), folders.map(clean), folders.map(clean), st.booleans())
def test_every_still_is_there_once_and_known_ones_are_not_captioned_again(
    there: dict[str, str], saved: dict[str, str], unfinished: dict[str, str], keep_missing: bool
) -> None:
    joined = list(
        join(
            [entry(*item) for item in by_name(there)],
            [row(*item) for item in by_name(saved)],
            [row(*item) for item in by_name(unfinished)],
            keep_missing=keep_missing,
        )
    )
    names = [str(one.frame) if isinstance(one, Row) else one.name for one in joined]
    wanted = there.keys() | saved.keys() if keep_missing else there.keys()
    assert names == sorted(wanted, key=str.encode)
    for name, one in zip(names, joined, strict=True):
        etag = there.get(name, saved.get(name))
        assert one.etag == etag
        known = etag in (saved.get(name), unfinished.get(name))
        assert isinstance(one, Row) == known


def test_a_still_that_was_bad_is_looked_at_again_only_on_demand() -> None:
    entries, saved = [entry("a.jpg", "1")], [row("a.jpg", "1", error="torn")]
    assert list(join(entries, saved)) == saved
    assert list(join(entries, saved, reuse_errors=False)) == entries


def test_a_bad_still_that_is_gone_is_forgotten_even_where_good_ones_are_kept() -> None:
    saved = [row("a.jpg", "1", error="torn"), row("b.jpg", "1")]
    assert list(join([], saved, keep_missing=True)) == saved[1:]


def test_pictures_stay_few_however_often_stills_arrive_at_the_front() -> None:
    kept: list[bool] = []
    for _ in range(5 * MAX_ILLUSTRATED):
        kept.insert(0, True)
        illustrations = Illustrations()
        for position, has_picture in enumerate(kept):
            one = Row(position, str(position), None, "", [], 0.0, thumbnail=b"jpeg" if has_picture else None)
            illustrations.keep(one)
            kept[position] = one.thumbnail is not None
    assert MAX_ILLUSTRATED <= sum(kept) <= 3 * MAX_ILLUSTRATED
