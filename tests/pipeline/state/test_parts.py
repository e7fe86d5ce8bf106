"""Parts, once written, come back in order, each row once, whatever was killed in between."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pipeline.records.row import Row
from pipeline.state.parts import Parts, find_parts, merge
from pipeline.storage.base import Storage
from pipeline.storage.open import open_storage

FINGERPRINT = f"{'a' * 16}-{'b' * 32}"


def rows(first: int, last: int) -> list[Row]:
    return [
        Row(position, position * 10, position / 2, "a dog", ["a", "dog"], -1.5)
        for position in range(first, last + 1)
    ]


def parts(folder: Path, key: str = "trip/clip.mp4") -> tuple[Parts, Storage]:
    storage = open_storage(str(folder))
    return Parts(storage, key, FINGERPRINT), storage


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12)), max_size=8))
def test_merging_gives_every_row_up_to_the_first_gap_once(ranges: list[tuple[int, int]]) -> None:
    pieces = sorted((first, first + length) for first, length in ranges)
    covered = {position for first, last in pieces for position in range(first, last + 1)}
    gap = next(position for position in range(100) if position not in covered)
    merged = list(merge((first, last, rows(first, last)) for first, last in pieces))
    assert [row.position for row in merged] == list(range(gap))


def test_a_source_goes_on_after_its_last_part(tmp_path: Path) -> None:
    found, _ = parts(tmp_path)
    assert found.resume() == 0
    found.write(rows(0, 255))
    found.write(rows(256, 300))
    assert found.resume() == 301
    assert list(found.rows()) == rows(0, 300)


def test_parts_sort_by_number_also_beyond_a_million(tmp_path: Path) -> None:
    found, _ = parts(tmp_path)
    for first in (999_998, 1_000_000, 0):
        found.write(rows(first, first + 1))
    assert found.resume() == 2  # what comes after the gap cannot be used
    assert [row.position for row in found.rows()] == [0, 1]


def test_a_damaged_part_is_done_again(tmp_path: Path) -> None:
    found, _ = parts(tmp_path)
    found.write(rows(0, 3))
    found.write(rows(4, 7))
    [path] = tmp_path.rglob("*000000000004-*.jsonl")
    path.write_text(path.read_text()[:-20])
    assert found.resume() == 4
    assert not path.exists()


def test_the_parts_of_a_folder_are_not_those_of_the_videos_in_it(tmp_path: Path) -> None:
    outer, storage = parts(tmp_path, "trip")
    inner, _ = parts(tmp_path, "trip/clip.mp4")
    outer.write(rows(0, 3))
    inner.write(rows(0, 7))
    for one in find_parts(storage, "trip"):
        one.remove()
    assert outer.resume() == 0
    assert inner.resume() == 8
