"""Many small objects one after the other: absent ones are passed over, whenever they go."""

from __future__ import annotations

from pathlib import Path

from pipeline.storage.base import Entry
from pipeline.storage.local import LocalStorage
from pipeline.storage.prefetch import opened_files


class Vanishing(LocalStorage):
    """Another worker removes `b` right after somebody looked for it."""

    def stat(self, key: str) -> Entry | None:
        found = super().stat(key)
        if key == "b":
            self.delete(key)
        return found


def test_what_goes_between_look_and_opening_is_passed_over(tmp_path: Path) -> None:
    storage = Vanishing(tmp_path)
    for key in "abc":
        storage.write(key, key.encode())
    assert [file.read() for file in opened_files(storage, "abcd")] == [b"a", b"c"]
