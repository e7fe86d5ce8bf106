"""Batches: each picture once, never too many together; channels: bounded, and over when the run is."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.captioning.batcher import PATIENCE, Batcher
from pipeline.captioning.messages import Chunk, Work
from pipeline.runtime.bounded_queue import Channel, Stopped

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


def test_a_channel_holds_no_more_than_its_capacity() -> None:
    stop = threading.Event()
    channel: Channel[int] = Channel(2, stop)
    put: list[int] = []

    def produce() -> None:
        for number in range(10):
            channel.put(number)
            put.append(number)
        channel.close()

    producer = threading.Thread(target=produce)
    producer.start()
    producer.join(0.5)
    assert put == [0, 1]
    assert list(channel) == list(range(10))
    producer.join()


def test_a_run_that_ends_early_frees_who_waits_and_loses_nothing_that_was_put() -> None:
    stop = threading.Event()
    channel: Channel[int] = Channel(2, stop)
    channel.put(1)
    channel.put(2)
    threading.Timer(0.1, stop.set).start()
    with pytest.raises(Stopped):
        channel.put(3)
    taken = []
    with pytest.raises(Stopped):
        for number in channel:
            taken.append(number)
    assert taken == [1, 2]
