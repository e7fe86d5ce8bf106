"""Results of work that several threads do, in the order in which it was asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def ordered_results(submitted: Iterable[Future[T] | T], ahead: int) -> Generator[T, None, None]:
    """The results in the order of submission, with at most ``ahead`` of them submitted and not yet taken.

    What is no future is a result already.
    """
    waiting: deque[Future[T] | T] = deque()
    try:
        for one in submitted:
            waiting.append(one)
            if len(waiting) >= ahead:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())
    finally:
        for one in waiting:
            if isinstance(one, Future):
                one.cancel()


def _result(one: Future[T] | T) -> T:
    """The result, once it is there."""
    return one.result() if isinstance(one, Future) else one
