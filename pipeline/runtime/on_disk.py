"""Tables on disk, for what may be more than memory holds."""

from __future__ import annotations

import sqlite3
from types import TracebackType
from typing import Self


class OnDisk:
    """Tables that this process keeps on disk, in a file that the system removes whatever happens to it."""

    def __init__(self, tables: str) -> None:
        # No name: SQLite makes a file that is gone as soon as it is open.
        self._database = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._database.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {tables}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()
