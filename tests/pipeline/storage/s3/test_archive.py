"""Objects that must be restored before they can be read: which ones, and what is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import Archived
from pipeline.storage.open import open_storage
from tests.pipeline.archives import archive, archives
from tests.services.archive import RESTORING, Archive

__all__ = ["archive", "archives"]

pytestmark = pytest.mark.slow


def reasons(archive: Archive) -> dict[str, str | None]:
    """Why each object is out of reach, as found by a listing and by HEAD, which must agree."""
    storage = open_storage(f"s3://{archive.bucket}")
    found = {entry.key: storage.why_archived(entry) for entry in storage.list()}
    looked_at = {key: storage.stat(key) for key in found}
    assert found == {key: storage.why_archived(entry) for key, entry in looked_at.items() if entry}
    return found


@pytest.mark.parametrize("kind", ["GLACIER", "DEEP_ARCHIVE"])
def test_an_archived_object(archive: Archive, tmp_path: Path, kind: str) -> None:
    archive.put("a.mp4", b"film", kind)
    assert reasons(archive) == {"a.mp4": f"archived in storage class {kind}; restore it first"}
    storage = open_storage(f"s3://{archive.bucket}")
    entry = storage.stat("a.mp4")
    assert entry is not None
    wanted = rf"^a\.mp4: archived( in storage class {kind})?; restore it first$"
    for use in (
        lambda: storage.read("a.mp4"),
        lambda: storage.download(entry, tmp_path / "fetched"),
        lambda: storage.move("a.mp4", storage, "archive/a.mp4"),
    ):
        with pytest.raises(Archived, match=wanted):
            use()
    assert [entry.key for entry in storage.list()] == ["a.mp4"]


@pytest.mark.parametrize("kind", ["GLACIER", "DEEP_ARCHIVE"])
def test_an_object_that_is_being_restored_and_then_is(archive: Archive, kind: str) -> None:
    archive.put("a.mp4", b"film", kind)
    archive.network.say(method="HEAD", contains="a.mp4", headers=RESTORING)
    assert reasons(archive) == {"a.mp4": f"archived in storage class {kind}; it is being restored"}
    archive.network.heal()
    archive.restore("a.mp4")
    assert reasons(archive) == {"a.mp4": None}
    assert open_storage(f"s3://{archive.bucket}").read("a.mp4") == b"film"


@pytest.mark.parametrize("tier", ["ARCHIVE_ACCESS", "DEEP_ARCHIVE_ACCESS"])
def test_intelligent_tiering_has_archives_of_its_own(archive: Archive, tier: str) -> None:
    archive.put("a.mp4", b"film", "INTELLIGENT_TIERING")
    archive.put("b.mp4", b"film", "INTELLIGENT_TIERING")
    where = f"archived in storage class INTELLIGENT_TIERING, tier {tier}"
    archive.network.say(method="HEAD", contains="a.mp4", headers={"x-amz-archive-status": tier})
    assert reasons(archive) == {"a.mp4": f"{where}; restore it first", "b.mp4": None}
    archive.network.say(method="HEAD", contains="a.mp4", headers=RESTORING)
    assert reasons(archive) == {"a.mp4": f"{where}; it is being restored", "b.mp4": None}


@pytest.mark.parametrize("kind", ["STANDARD", "STANDARD_IA", "ONEZONE_IA", "GLACIER_IR"])
def test_what_can_be_read_at_once_costs_no_look(archive: Archive, kind: str) -> None:
    archive.put("a.mp4", b"film", kind)
    storage = open_storage(f"s3://{archive.bucket}")
    before = len(archive.network.requests)
    (entry,) = storage.list()
    assert storage.why_archived(entry) is None and storage.read("a.mp4") == b"film"
    assert not any(request.startswith("HEAD") for request in archive.network.requests[before:])
