"""A request that is still on its way when another worker has taken over changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.state.conditional_upload import put_content, put_file
from pipeline.state.leases import Claim, ClaimLost, Claims, claim_key
from pipeline.storage.base import Storage
from pipeline.storage.open import open_storage

KEY = "clip.mp4/captions.csv"


@pytest.fixture
def storage(bucket: str) -> Storage:
    return open_storage(f"s3://{bucket}/captions")


@pytest.fixture
def claim(storage: Storage) -> Claim:
    claim = Claims(storage).take("clip.mp4")
    assert claim is not None
    return claim


def take_over(storage: Storage) -> None:
    """What another worker does, of which the holder knows nothing yet."""
    storage.write(claim_key("clip.mp4"), b"another worker's claim")


@pytest.mark.parametrize("before", [None, b"earlier"])
def test_what_another_worker_wrote_stays(
    storage: Storage, claim: Claim, tmp_path: Path, before: bytes | None
) -> None:
    if before is not None:
        storage.write(KEY, before)
    there = storage.stat(KEY)
    take_over(storage)
    storage.write(KEY, b"theirs")
    (tmp_path / "captions.csv").write_bytes(b"ours")
    with pytest.raises(ClaimLost):
        put_file(storage, claim, tmp_path / "captions.csv", KEY, there)
    with pytest.raises(ClaimLost):
        put_content(storage, claim, b"ours", KEY, there)
    assert storage.read(KEY) == b"theirs"


def test_what_anybody_else_wrote_does_not(storage: Storage, claim: Claim, tmp_path: Path) -> None:
    """A file that a person has put there, while the source is ours."""
    storage.write(KEY, b"a note")
    (tmp_path / "captions.csv").write_bytes(b"ours")
    put_file(storage, claim, tmp_path / "captions.csv", KEY, None)
    assert storage.read(KEY) == b"ours"
