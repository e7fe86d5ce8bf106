"""The batches of an epoch: each picture once, the same when asked again, shared between processes."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.datasets.batch_sampler import EpochBatches

PICTURES = 21


def order(**options: Any) -> EpochBatches:
    return EpochBatches(**{"count": PICTURES, "batch_size": 4, "seed": 3, "shuffle": True, **options})


def test_an_epoch_has_each_picture_once_and_each_epoch_another_order() -> None:
    batches = order()
    first = list(batches)
    assert len(first) == len(batches) == 6
    assert sorted(index for batch in first for index, _ in batch) == list(range(PICTURES))
    assert list(batches) == first, "asked again, the same"
    batches.set_epoch(1)
    assert list(batches) != first
    assert list(order(seed=4)) != first


def test_going_on_brings_what_was_left_of_the_epoch_and_then_whole_ones() -> None:
    whole = order()
    whole.set_epoch(2)
    rest = order()
    rest.go_on(2, 4)
    assert list(rest) == list(whole)[4:]
    assert len(rest) == 6, "Lightning counts from the beginning of the epoch"
    rest.set_epoch(3)
    whole.set_epoch(3)
    assert list(rest) == list(whole)


@given(count=st.integers(1, 60), size=st.integers(1, 9), world=st.integers(1, 5), shuffle=st.booleans())
@settings(deadline=None)
def test_processes_share_the_batches_of_one_with_as_many_times_the_size(
    count: int, size: int, world: int, shuffle: bool
) -> None:
    parts = [
        list(EpochBatches(count, size, seed=1, shuffle=shuffle, rank=rank, world=world))
        for rank in range(world)
    ]
    seen = [index for part in parts for batch in part for index, _ in batch]
    assert set(seen) == set(range(count))
    if not shuffle:
        assert len(seen) == count, "validation counts no picture twice"
        return
    assert len(seen) < count + world
    assert len({len(part) for part in parts}) == 1, "nobody waits for a step that another does not take"
    if count % world == 0:
        alone = list(EpochBatches(count, size * world, seed=1, shuffle=True))
        together = [sorted(pick for batch in step for pick in batch) for step in zip(*parts, strict=True)]
        assert together == [sorted(batch) for batch in alone]
