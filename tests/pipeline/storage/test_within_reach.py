"""What can be read of a listing comes in its order; the rest is counted and told of in one line."""

from __future__ import annotations

import time
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.storage.base import Entry
from pipeline.storage.local import LocalStorage
from pipeline.storage.within_reach import WithinReach


class Half(LocalStorage):
    """Has archived what its names say; the later it is asked for the sooner it answers."""

    asked = 0

    def why_archived(self, entry: Entry) -> str | None:
        self.asked += 1
        time.sleep(0.001 * (self.asked % 3))
        return "archived; restore it first" if "archived" in entry.name else None


KINDS = st.sampled_from(["plain", "restored", "archived"])


def listed(kinds: list[str]) -> list[Entry]:
    return [Entry(f"{n:04}-{kind}", 1, "", 0.0, kind != "plain") for n, kind in enumerate(kinds)]


@settings(deadline=None, max_examples=50)
@given(kinds=st.lists(KINDS, max_size=200))
def test_any_listing(kinds: list[str]) -> None:
    entries, storage = listed(kinds), Half(Path("/nowhere"))
    found = WithinReach(storage, entries)
    assert list(found) == [entry for entry in entries if "archived" not in entry.key]
    archived = [entry.key for entry in entries if "archived" in entry.key]
    assert found.archived == len(archived) and storage.asked == len(kinds) - kinds.count("plain")
    if not archived:
        assert found.out_of_reach is None
    else:
        more = f" (and {len(archived) - 1} more of this folder)" if archived[1:] else ""
        assert found.out_of_reach == (archived[0], f"archived; restore it first{more}")


def test_what_does_not_matter_is_not_asked_for() -> None:
    storage = Half(Path("/nowhere"))
    entries = listed(["archived", "plain", "archived"])
    found = WithinReach(storage, entries, needless=lambda entry: entry.key.startswith("0000"))
    assert [entry.key for entry in found] == ["0000-archived", "0001-plain"]
    assert storage.asked == 1


def test_the_digest_tells_sets_apart() -> None:
    def digest(kinds: list[str]) -> str:
        found = WithinReach(Half(Path("/nowhere")), listed(kinds))
        list(found)
        return found.digest

    assert digest(["archived", "plain"]) == digest(["archived", "restored"])
    assert len({digest(kinds) for kinds in ([], ["archived"], ["plain", "archived"], ["archived"] * 2)}) == 4


def test_whoever_stops_early_leaves_nothing_waiting() -> None:
    storage = Half(Path("/nowhere"))
    assert next(iter(WithinReach(storage, listed(["restored"] * 10_000)))).key == "0000-restored"
    assert storage.asked < 200
