"""What decodes at the same time fits into the budget, and nobody waits for ever."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.media.stills.memory import Budget


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(0, 100), min_size=1, max_size=60), threads=st.integers(1, 8))
def test_it_is_never_exceeded_and_everyone_has_a_turn(sizes: list[int], threads: int) -> None:
    budget, lock, now, most = Budget(100), threading.Lock(), 0, 0

    def decode(size: int) -> int:
        nonlocal now, most
        with budget.room(size):
            with lock:
                now += size
                most = max(most, now)
            with lock:
                now -= size
        return size

    with ThreadPoolExecutor(threads) as pool:
        assert list(pool.map(decode, sizes)) == sizes
    assert most <= 100
    with budget.room(100):  # all of it came back
        pass


def test_a_large_one_is_not_kept_waiting_by_small_ones() -> None:
    budget, order, waits = Budget(100), [], threading.Event()

    def take(name: str, size: int) -> None:
        with budget.room(size):
            order.append(name)

    with budget.room(60):
        large = threading.Thread(target=take, args=("large", 100))
        large.start()
        while not budget._waiting:
            waits.wait(0.01)
        small = threading.Thread(target=take, args=("small", 10))
        small.start()
        while len(budget._waiting) < 2:
            waits.wait(0.01)
        assert order == []  # there is room for the small one, but it is not its turn
    large.join()
    small.join()
    assert order == ["large", "small"]


def test_what_can_never_fit_is_told_at_once() -> None:
    budget = Budget(100)
    with pytest.raises(ValueError, match="101"), budget.room(101):
        pass
    with budget.room(100):
        pass


def test_room_comes_back_after_an_error() -> None:
    budget = Budget(100)
    with pytest.raises(KeyError), budget.room(100):
        raise KeyError
    with budget.room(100):
        pass
