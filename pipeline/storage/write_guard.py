"""A last look before a change reaches a storage.

A worker can be stopped for minutes between looking at its claim and writing, and a request can be repeated
for minutes while a storage answers badly; meanwhile another worker may have taken over. So storages call
``before_change`` right before each try of each change, and whoever writes says what must hold then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_here = threading.local()


@contextmanager
def fenced(check: Callable[[], None]) -> Iterator[None]:
    """Let this thread change a storage only as long as ``check`` does not raise; what it raises comes out."""
    outer = getattr(_here, "check", None)
    _here.check = check
    try:
        yield
    finally:
        _here.check = outer


def before_change() -> None:
    """For storages: raises when this thread must not change anything any more."""
    check: Callable[[], None] | None = getattr(_here, "check", None)
    if check is not None:
        check()
