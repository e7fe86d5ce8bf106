"""Checksums that a store tells: what they are of is not always said, and no good object is called damaged."""

from __future__ import annotations

import base64
import hashlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import StorageUnavailable
from pipeline.storage.base import Storage
from pipeline.storage.open import open_storage
from tests.services.faults import Network, faulty_network
from tests.services.s3 import S3Server

PART = 5 << 20
FILM = bytes(range(256)) * (2 * PART // 256) + b"the last part"
PARTS = [FILM[start : start + PART] for start in range(0, len(FILM), PART)]

ENCRYPTED = {"x-amz-server-side-encryption": "aws:kms"}
"""Of these objects no ETag is an MD5."""


def crc32(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "big")


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def shown(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


CRC_OF_PARTS = shown(crc32(b"".join(map(crc32, PARTS))))
SHA_OF_PARTS = shown(sha256(b"".join(map(sha256, PARTS))))


@pytest.fixture
def network(s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    """A store that says more than the one behind it."""
    with faulty_network(s3_server.endpoint) as network:
        monkeypatch.setenv("AWS_ENDPOINT_URL", network.endpoint)
        monkeypatch.setenv("GPUCAPT_S3_PART_SIZE", str(PART))
        yield network


@pytest.fixture
def storage(network: Network, bucket: str) -> Storage:
    return open_storage(f"s3://{bucket}/in")


@pytest.fixture
def film(storage: Storage, tmp_path: Path) -> str:
    """A film that was uploaded in three parts."""
    path = tmp_path / "film.mp4"
    path.write_bytes(FILM)
    storage.upload(path, path.name)
    return path.name


def downloaded(storage: Storage, key: str, tmp_path: Path) -> bytes:
    entry = storage.stat(key)
    assert entry is not None
    storage.download(entry, tmp_path / "fetched")
    return (tmp_path / "fetched").read_bytes()


@pytest.mark.parametrize("encrypted", [{}, ENCRYPTED], ids=["plain", "encrypted"])
@pytest.mark.parametrize(
    "headers",
    [
        {"x-amz-checksum-crc32": CRC_OF_PARTS},
        {"x-amz-checksum-crc32": f"{CRC_OF_PARTS}-3"},
        {"x-amz-checksum-crc32": f"{CRC_OF_PARTS}-3", "x-amz-checksum-type": "COMPOSITE"},
        {"x-amz-checksum-crc32": CRC_OF_PARTS, "x-amz-checksum-type": "COMPOSITE"},
        {"x-amz-checksum-sha256": SHA_OF_PARTS},
        {"x-amz-checksum-crc64nvme": CRC_OF_PARTS},
    ],
    ids=lambda headers: " ".join(headers.values()),
)
def test_a_checksum_of_parts_is_none_of_the_film(
    storage: Storage,
    network: Network,
    film: str,
    tmp_path: Path,
    headers: dict[str, str],
    encrypted: dict[str, str],
) -> None:
    for method in ("HEAD", "GET"):
        network.say(method=method, contains="film.mp4", headers={**headers, **encrypted})
    assert downloaded(storage, film, tmp_path) == FILM
    assert storage.read(film) == FILM
    network.heal()
    # The copy, which is put at once, has a checksum of all of it.
    network.say(method="HEAD", contains="/in/", headers={**headers, **encrypted})
    network.say(
        method="HEAD", contains="/moved/", headers={"x-amz-checksum-crc32": shown(crc32(FILM)), **encrypted}
    )
    storage.move(film, storage, f"moved/{film}")
    assert [entry.key for entry in storage.list()] == [f"moved/{film}"]


@pytest.mark.parametrize("algorithm", [crc32, sha256])
@pytest.mark.parametrize("kind", [{}, {"x-amz-checksum-type": "FULL_OBJECT"}], ids=["untold", "told"])
def test_a_checksum_of_the_whole_tells_damage(
    storage: Storage, network: Network, tmp_path: Path, algorithm: type, kind: dict[str, str]
) -> None:
    still = os.urandom(5000)
    storage.write("a.jpg", still)
    name = f"x-amz-checksum-{algorithm.__name__}"
    network.say(contains="a.jpg", headers={name: shown(algorithm(still)), **kind, **ENCRYPTED})
    assert downloaded(storage, "a.jpg", tmp_path) == storage.read("a.jpg") == still
    network.fail("damage", times=float("inf"), method="GET")
    for read in (lambda: storage.read("a.jpg"), lambda: downloaded(storage, "a.jpg", tmp_path)):
        with pytest.raises(StorageUnavailable, match=r"a\.jpg.*checksum"):
            read()


def test_a_checksum_of_all_parts_together_tells_damage(
    storage: Storage, network: Network, film: str, tmp_path: Path
) -> None:
    told = {"x-amz-checksum-crc32": shown(crc32(FILM)), "x-amz-checksum-type": "FULL_OBJECT"}
    network.say(contains="film.mp4", headers=told)
    assert downloaded(storage, film, tmp_path) == storage.read(film) == FILM
    network.fail("damage", times=float("inf"), method="GET")
    with pytest.raises(StorageUnavailable, match=r"film\.mp4.*checksum"):
        storage.read(film)
    with pytest.raises(StorageUnavailable, match=r"film\.mp4.*checksum"):
        downloaded(storage, film, tmp_path)
