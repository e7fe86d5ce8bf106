"""Batches: each picture once, never too many together."""

from __future__ import annotations

from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from pipeline.captioning.batcher import PATIENCE, Batcher
from pipeline.captioning.messages import Chunk, Work

SIZE = 4


def chunk(pictures: int) -> Chunk:
    return Chunk(cast(Work, None), 0, images=cast(Any, dict.fromkeys(range(pictures))))


@given(st.lists(st.integers(1, SIZE), max_size=60))
def test_each_picture_is_in_one_batch_and_full_chunks_stay_alone(sizes: list[int]) -> None:
    batcher, chunks = Batcher(SIZE), [chunk(size) for size in sizes]
    batches = [batch for one in chunks for batch in batcher.add(one)] + list(batcher.flush())
    slots = [(id(one), index) for batch in batches for one, index in batch]
    assert sorted(slots) == sorted((id(one), index) for one in chunks for index in one.images)
    assert all(len(batch) <= SIZE for batch in batches)
    for batch in batches:
        full = [one for one, _ in batch if len(one.images) == SIZE]
        assert not full or len({id(one) for one, _ in batch}) == 1


@given(st.lists(st.integers(1, SIZE - 1), max_size=60))
def test_rests_fill_batches(sizes: list[int]) -> None:
    batcher = Batcher(SIZE)
    batches = [batch for size in sizes for batch in batcher.add(chunk(size))] + list(batcher.flush())
    assert all(len(batch) == SIZE for batch in batches[:-1])


def test_a_rest_does_not_wait_for_the_end_of_a_long_film() -> None:
    batcher = Batcher(SIZE)
    assert list(batcher.add(chunk(1))) == []
    batches = [batch for _ in range(PATIENCE) for batch in batcher.add(chunk(SIZE))]
    assert [len(batch) for batch in batches] == [SIZE] * PATIENCE + [1]
