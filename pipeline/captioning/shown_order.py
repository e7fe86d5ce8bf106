"""The order in which people look at stills; rows lie in that of their names' bytes, img10 before img2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.records.natural_order import natural_key
from pipeline.records.row import Row
from pipeline.runtime.on_disk import OnDisk


class ShownOrder(OnDisk):
    """Where each row lies in a file, by its name's natural order; kept on disk, as there may be millions."""

    def __init__(self) -> None:
        super().__init__("CREATE TABLE rows (key BLOB, start INTEGER)")
        self._database.execute("BEGIN")
        self._last = b""
        self.is_another = False
        """Whether it is another order than that of the file."""

    def add(self, row: Row, start: int) -> None:
        """Take down the next row of the file, which begins at byte ``start``; of a film nothing."""
        if isinstance(row.frame, int):
            return
        key = natural_key(row.frame)
        self.is_another = self.is_another or key < self._last
        self._last = key
        self._database.execute("INSERT INTO rows VALUES (?, ?)", (key, start))

    def rows(self, path: Path) -> Iterator[Row]:
        """The rows of the file in this order, with positions to match; names alike stay as they lie."""
        starts = self._database.execute("SELECT start FROM rows ORDER BY key, start")
        with path.open("rb") as file:
            for position, (start,) in enumerate(starts):
                file.seek(start)
                row = Row.from_json(file.readline().decode("ascii"))
                row.position = position
                yield row
