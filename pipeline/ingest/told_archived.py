"""Which archived inputs an earlier run has told of, so that no run is made for these alone.

``.gpucapt/archived/<digest of INCOMING>.json`` under DESTINATION says in short which ones they were when the
folder was looked at last.
"""

from __future__ import annotations

import hashlib
import json

from pipeline.storage.base import Storage
from pipeline.storage.within_reach import WithinReach


class ToldArchived:
    """What is archived in a drop folder, now and when it was looked at last."""

    def __init__(self, destination: Storage, incoming: str) -> None:
        self._destination = destination
        self._incoming = incoming
        name = hashlib.sha256(incoming.encode()).hexdigest()[:16]
        self._key = f".gpucapt/archived/{name}.json"
        self._digest = hashlib.sha256()
        self.count = 0
        """How many files are archived."""
        there = destination.stat(self._key)
        self._before = None if there is None else destination.read(self._key)

    def add(self, source_key: str, looked_through: WithinReach) -> None:
        """Take in a source whose files have been looked through."""
        if looked_through.archived:
            self.count += looked_through.archived
            self._digest.update(json.dumps([source_key, looked_through.digest]).encode())

    @property
    def is_news(self) -> bool:
        """Whether something is archived, and not just what was archived at the last look."""
        return self.count > 0 and self._before != self._content

    def keep(self) -> None:
        """Remember what there was."""
        if self.count == 0 and self._before is not None:
            self._destination.delete(self._key)
        elif self.is_news:
            self._destination.write(self._key, self._content)

    @property
    def _content(self) -> bytes:
        about = {"incoming": self._incoming, "archived": self.count, "digest": self._digest.hexdigest()}
        return (json.dumps(about, indent=2) + "\n").encode()
