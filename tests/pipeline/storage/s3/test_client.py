"""What goes wrong on the way to an object store passes unseen, or is told in one line."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest

import pipeline.storage.s3.multipart
from pipeline.errors import BadInput, StorageUnavailable
from pipeline.storage.base import Entry, Storage
from pipeline.storage.open import open_storage
from pipeline.storage.s3.checksums import matches_parts, parts_of
from pipeline.storage.s3.client import connection
from pipeline.storage.s3.multipart import abort_all, upload_in_parts
from tests.services.faults import Kind, Network, faulty_network
from tests.services.s3 import S3Server

PIECE = 64 << 10
PART = 5 << 20


@pytest.fixture
def network(s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    """A bad network between this process and the server, which reads in small pieces."""
    with faulty_network(s3_server.endpoint) as network:
        monkeypatch.setenv("AWS_ENDPOINT_URL", network.endpoint)
        monkeypatch.setenv("GPUCAPT_S3_PIECE_SIZE", str(PIECE))
        monkeypatch.setenv("GPUCAPT_S3_PART_SIZE", str(PART))
        monkeypatch.setenv("GPUCAPT_S3_DEADLINE", "20")
        yield network


@pytest.fixture
def storage(network: Network, bucket: str) -> Storage:
    return open_storage(f"s3://{bucket}/in")


def anew(storage: Storage, monkeypatch: pytest.MonkeyPatch, **settings: str) -> Storage:
    """The same storage with other settings, as another process would have it, connected already."""
    for name, value in settings.items():
        monkeypatch.setenv(f"GPUCAPT_S3_{name.upper()}", value)
    opened = open_storage(storage.url)
    opened.exists()
    return opened


def stat(storage: Storage, key: str) -> Entry:
    entry = storage.stat(key)
    assert entry is not None
    return entry


def uploads(server: S3Server, bucket: str) -> list[Any]:
    """The uploads in parts that were neither finished nor taken back."""
    found: list[Any] = server.client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    return found


BREAKING: list[Kind] = ["truncate", "reset", "slow down", "break", "lose the answer", "damage"]


@pytest.mark.parametrize("kind", BREAKING)
def test_a_film_comes_whole_over_a_bad_network(
    storage: Storage, network: Network, tmp_path: Path, kind: Kind
) -> None:
    film = os.urandom(10 * PIECE + 17)
    storage.write("clip.mp4", film)
    entry = stat(storage, "clip.mp4")
    network.fail(kind, times=4, method="GET")
    storage.download(entry, tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == film
    assert network.is_spent


@pytest.mark.parametrize("kind", BREAKING)
def test_a_still_comes_whole_over_a_bad_network(storage: Storage, network: Network, kind: Kind) -> None:
    still = os.urandom(5000)
    storage.write("a.jpg", still)
    network.fail(kind, times=2, method="GET")
    assert storage.read("a.jpg") == still
    assert network.is_spent


def test_a_store_that_never_answers_is_asked_again(
    storage: Storage, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write("a", b"-")
    storage = anew(storage, monkeypatch, read_timeout="0.5")
    network.fail("hang", method="GET")
    assert storage.read("a") == b"-"
    assert network.is_spent


@pytest.mark.parametrize("kind", ["slow down", "break", "lose the answer", "reset"])
def test_everything_else_is_patient_too(storage: Storage, network: Network, kind: Kind) -> None:
    network.fail(kind, times=2, method="PUT")
    storage.write("a/x", b"-")
    network.fail(kind, method="GET")
    assert [entry.key for entry in storage.list()] == ["a/x"]
    network.fail(kind, method="HEAD")
    assert stat(storage, "a/x").size == 1
    network.fail(kind, times=2, method="PUT")
    storage.move("a/x", storage, "b/x")
    assert [entry.key for entry in storage.list()] == ["b/x"]
    network.fail(kind, method="POST")
    storage.delete_folder("b")
    assert list(storage.list()) == []
    network.fail(kind, method="DELETE")
    storage.delete("b/x")
    assert network.is_spent


@pytest.mark.parametrize("answered", [False, True])
def test_what_does_not_pass_at_once_is_told_once(
    storage: Storage,
    network: Network,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    answered: bool,
) -> None:
    monkeypatch.setenv("GPUCAPT_S3_FIRST_DEADLINE", "3")
    monkeypatch.setenv("GPUCAPT_S3_DEADLINE", "3")
    storage = open_storage(storage.url)
    if answered:
        storage.exists()
    network.fail("lose the answer", times=float("inf"))
    for _ in range(2):
        with pytest.raises(StorageUnavailable):
            storage.stat("a")
    told = [record.getMessage() for record in caplog.records if "tried again for 3 s" in record.getMessage()]
    assert len(told) == 1 and told[0].startswith(f"{network.endpoint}: ")


def test_patience_ends_and_then_the_run_ends_not_the_input(
    storage: Storage, network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write("clip.mp4", b"film")
    entry = stat(storage, "clip.mp4")
    storage = anew(storage, monkeypatch, deadline="1")
    network.fail("slow down", times=float("inf"))
    calls = [
        lambda: list(storage.list()),
        lambda: storage.stat("clip.mp4"),
        lambda: storage.read("clip.mp4"),
        lambda: storage.download(entry, tmp_path / "fetched"),
        lambda: storage.write("a", b"-"),
        lambda: storage.create("a", b"-"),
    ]
    for call in calls:
        with pytest.raises(StorageUnavailable, match=r"s3://.*(SlowDown|503)") as caught:
            call()
        assert "\n" not in str(caught.value)


def test_content_that_is_wrong_each_time_is_not_taken(
    storage: Storage, network: Network, tmp_path: Path
) -> None:
    storage.write("clip.mp4", b"film")
    entry = stat(storage, "clip.mp4")
    network.fail("damage", times=float("inf"), method="GET")
    for call in (
        lambda: storage.read("clip.mp4"),
        lambda: storage.download(entry, tmp_path / "fetched"),
    ):
        with pytest.raises(StorageUnavailable, match=r"clip\.mp4.*checksum"):
            call()


def test_the_etag_of_a_film_that_was_uploaded_in_parts_tells_damage(storage: Storage, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(os.urandom(2 * PART + 1))
    storage.upload(film, "film.mp4")
    etag = stat(storage, "film.mp4").etag
    assert parts_of(etag) == 3
    assert not matches_parts(film, etag, [PART, PART - 1, 2])
    assert matches_parts(film, etag, repeat(PART))
    with film.open("r+b") as file:
        file.seek(PART)
        (byte,) = file.read(1)
        file.seek(PART)
        file.write(bytes([byte ^ 1]))
    assert not matches_parts(film, etag, repeat(PART))


# Conditions when answers get lost


def test_a_claim_is_ours_also_when_the_answer_got_lost(storage: Storage, network: Network) -> None:
    network.fail("lose the answer", method="PUT")
    made = storage.create("claim", b"ours")
    assert made is not None and made == storage.stat("claim")
    network.fail("lose the answer", method="PUT")
    renewed = storage.replace("claim", b"renewed", made.etag)
    assert renewed is not None and renewed == storage.stat("claim")
    assert storage.read("claim") == b"renewed"


def test_a_claim_that_another_took_is_not_ours_however_bad_the_network(
    storage: Storage, network: Network
) -> None:
    storage.write("claim", b"theirs")
    network.fail("reset", method="PUT")
    assert storage.create("claim", b"theirs") is None
    entry = stat(storage, "claim")
    storage.write("claim", b"renewed by them")
    network.fail("lose the answer", method="PUT")
    assert storage.replace("claim", b"ours", entry.etag) is None
    assert storage.read("claim") == b"renewed by them"


def test_a_conflict_of_conditional_writes_is_tried_again(storage: Storage, network: Network) -> None:
    network.fail("conflict", times=2, method="PUT")
    made = storage.create("claim", b"ours")
    assert made is not None
    network.fail("conflict", times=2, method="PUT")
    assert storage.replace("claim", b"more", made.etag) is not None
    assert network.is_spent


def test_threads_that_find_out_together_how_the_store_spells_conditions_all_win(bucket: str) -> None:
    storage = open_storage(f"s3://{bucket}/in")
    made = [storage.create(f"{number}", b"-") for number in range(16)]
    connection().quotes_conditions = not connection().quotes_conditions

    def replace(entry: Entry | None) -> Entry | None:
        return None if entry is None else storage.replace(entry.key, b"+", entry.etag)

    for _ in range(3):
        with ThreadPoolExecutor(len(made)) as pool:
            made = list(pool.map(replace, made))
        assert None not in made


def test_of_many_on_a_bad_network_one_wins(storage: Storage, network: Network) -> None:
    for kind in ("lose the answer", "slow down", "reset"):
        network.fail(kind, times=3, method="PUT")
    won: list[int] = []
    barrier = threading.Barrier(8)

    def create(number: int) -> None:
        barrier.wait()
        if storage.create("claim", b"%d" % number):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [b"%d" % number for number in won] == [storage.read("claim")]


# Uploads in parts


def test_a_large_upload_survives_a_bad_network(
    storage: Storage, network: Network, tmp_path: Path, s3_server: S3Server, bucket: str
) -> None:
    made = tmp_path / "rows.jsonl"
    made.write_bytes(os.urandom(2 * PART + 17))
    network.fail("slow down", times=2, method="PUT")
    network.fail("lose the answer", times=2, method="PUT")
    network.fail("lose the answer", method="POST", contains="uploadId")
    storage.upload(made, "rows.jsonl")
    assert network.is_spent
    with storage.local_path("rows.jsonl") as path:
        assert path.read_bytes() == made.read_bytes()
    assert uploads(s3_server, bucket) == []


def test_an_upload_that_is_given_up_leaves_nothing(
    storage: Storage,
    network: Network,
    tmp_path: Path,
    s3_server: S3Server,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = tmp_path / "rows.jsonl"
    made.write_bytes(os.urandom(2 * PART + 17))
    storage.write("rows.jsonl", b"old")
    storage = anew(storage, monkeypatch, deadline="1")
    network.fail("break", times=float("inf"), contains="partNumber=2")
    with pytest.raises(StorageUnavailable):
        storage.upload(made, "rows.jsonl")
    assert uploads(s3_server, bucket) == []
    assert storage.read("rows.jsonl") == b"old"


# Moves


def test_what_changes_while_it_is_moved_stays_and_leaves_no_wrong_copy(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write("clip.mp4", b"first")
    import pipeline.storage.s3.move

    copy = pipeline.storage.s3.move._copy

    def sent_again(*arguments: Any) -> None:
        storage.write("clip.mp4", b"sent again")
        copy(*arguments)

    monkeypatch.setattr(pipeline.storage.s3.move, "_copy", sent_again)
    with pytest.raises(Exception, match="changed while"):
        storage.move("clip.mp4", storage, "archive/clip.mp4")
    assert storage.read("clip.mp4") == b"sent again"
    assert storage.stat("archive/clip.mp4") is None


def test_what_is_sent_again_behind_the_copy_stays(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write("clip.mp4", b"first")
    import pipeline.storage.s3.move

    copy = pipeline.storage.s3.move._copy

    def sent_again(*arguments: Any) -> None:
        copy(*arguments)
        storage.write("clip.mp4", b"sent again")

    monkeypatch.setattr(pipeline.storage.s3.move, "_copy", sent_again)
    with pytest.raises(Exception, match="changed while"):
        storage.move("clip.mp4", storage, "archive/clip.mp4")
    assert storage.read("clip.mp4") == b"sent again"
    assert storage.read("archive/clip.mp4") == b"first"


def test_a_large_film_is_moved_in_parts(
    storage: Storage, tmp_path: Path, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(os.urandom(2 * PART + 1))
    storage.upload(film, "film.mp4")
    monkeypatch.setattr("pipeline.storage.s3.move._LARGE", PART)
    monkeypatch.setattr("pipeline.storage.s3.move._USUAL_PART", PART + 1)
    network.fail("slow down", times=2, method="PUT")
    storage.move("film.mp4", storage, "archive/film.mp4")
    assert [entry.key for entry in storage.list()] == ["archive/film.mp4"]
    with storage.local_path("archive/film.mp4") as path:
        assert path.read_bytes() == film.read_bytes()


# Keys that no folder could hold


def test_keys_that_can_be_no_files_are_told_or_left_out(
    storage: Storage, s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = ["in//a.jpg", "in/a//b.jpg", "in/../up.jpg", "in/./here.jpg", "in/a/..", "/in/x.jpg"]
    for key in [*odd, "in/", "in/folder/", "in/good.jpg", "in/folder/good.jpg"]:
        s3_server.client.put_object(Bucket=bucket, Key=key, Body=b"-")
    monkeypatch.setattr("pipeline.storage.s3.storage._PAGE", 2)
    told: list[str] = []
    found = [entry.key for entry in storage.list(unreadable=lambda key, reason: told.append(key))]
    assert found == ["folder/good.jpg", "good.jpg"]
    assert sorted(told) == sorted(["/a.jpg", "a//b.jpg", "../up.jpg", "./here.jpg", "a/.."])
    assert [entry.key for entry in storage.list()] == found
    assert [entry.key for entry in storage.list_folder("")] == ["good.jpg"]
    assert [entry.key for entry in storage.list_folder("folder")] == ["folder/good.jpg"]
    with pytest.raises(BadInput):
        storage.read("../up.jpg")


def test_giving_up_does_not_wait_long_for_a_storage_that_is_silent(
    storage: Storage, network: Network, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline.storage.s3.multipart, "_GRACE_S", 1.0)
    storage = anew(storage, monkeypatch, read_timeout="30")
    network.fail("hang", times=float("inf"), method="DELETE")
    targets = [{"Bucket": bucket, "Key": key} for key in "abc"]
    with ExitStack() as under_way:
        for target in targets:
            under_way.enter_context(upload_in_parts(connection(), target))
        began = time.monotonic()
        abort_all()
        assert time.monotonic() - began < 20
    assert sum("DELETE" in request for request in network.requests) == len(targets)
