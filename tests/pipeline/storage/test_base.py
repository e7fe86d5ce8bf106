"""What every storage promises, a folder as well as an object store: each test runs on both."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pipeline.storage.base
import pipeline.storage.s3.objects
import pipeline.storage.s3.storage
from model.errors import GpucaptError
from pipeline.errors import BadInput
from pipeline.storage.base import Entry, Storage
from pipeline.storage.local import LocalStorage, key_from_name, name_from_key
from pipeline.storage.open import open_object, open_storage

MakeStorage = Callable[[str], Storage]


@pytest.fixture(params=["folder", "s3"])
def make_storage(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStorage:
    """Storages by name, all in the same empty place."""
    if request.param == "folder":
        return lambda name: LocalStorage(tmp_path / "root" / name)
    bucket = request.getfixturevalue("bucket")
    return lambda name: open_storage(f"s3://{bucket}/storages/{name}")


@pytest.fixture
def storage(make_storage: MakeStorage) -> Storage:
    return make_storage("storage")


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Listings of object stores that come in pages of a few keys."""
    monkeypatch.setattr(pipeline.storage.s3.storage, "_PAGE", 3)


def keys(storage: Storage, prefix: str = "", after: str = "") -> list[str]:
    return [entry.key for entry in storage.list(prefix, after=after)]


def stat(storage: Storage, key: str) -> Entry:
    entry = storage.stat(key)
    assert entry is not None
    return entry


# Listings


def test_keys_are_sorted_as_whole_texts_not_folder_by_folder(storage: Storage, small_pages: None) -> None:
    wanted = ["a b.jpg", "a-b/x.jpg", "a.jpg", "a/x.jpg", "a/y/z.jpg", "a0.jpg", "é.jpg", "😀/x.jpg"]
    for key in reversed(wanted):
        storage.write(key, b"-")
    assert keys(storage) == wanted
    assert wanted == sorted(wanted, key=str.encode)


NAMES = st.text(st.sampled_from("ab-./ 0é‛F\n%+"), min_size=1, max_size=8)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(names=st.sets(NAMES, max_size=9), prefix=NAMES | st.just(""), after=NAMES | st.just(""))
def test_any_listing_is_the_written_keys_in_order(
    make_storage: MakeStorage, small_pages: None, names: set[str], prefix: str, after: str
) -> None:
    storage = make_storage(secrets.token_hex(8))
    written = set()
    for name in names:
        try:
            storage.write(name, b"-")
        except GpucaptError:  # no object can be called so, or (on disk) a folder is
            continue
        written.add(name if storage.is_remote else key_from_name(name_from_key(name)))
    if any(part in ("", ".", "..") for part in prefix.split("/")[:-1]):
        return
    wanted = sorted((key for key in written if key.startswith(prefix) and key > after), key=str.encode)
    assert keys(storage, prefix, after) == wanted
    folders = {key.rpartition("/")[0] for key in written}
    for folder in folders:
        directly = [entry.key for entry in storage.list_folder(folder)]
        assert directly == sorted(
            (key for key in written if key.rpartition("/")[0] == folder), key=str.encode
        )


@pytest.mark.parametrize("name", ["two\nlines.jpg", "<script>alert(1)", "🎬 'q\" %41.jpg", " ", "a\x01b"])
def test_odd_names_are_names(storage: Storage, tmp_path: Path, name: str) -> None:
    key = f"odd/{name}"
    storage.write(key, b"x")
    assert keys(storage) == [key]
    assert [entry.key for entry in storage.list_folder("odd")] == [key]
    assert storage.read(key) == b"x"
    storage.move(key, storage, f"moved/{name}")
    assert keys(storage) == [f"moved/{name}"]
    storage.delete_folder("moved")
    assert keys(storage) == []


def test_only_the_objects_directly_in_a_folder(storage: Storage, small_pages: None) -> None:
    for key in ("b.jpg", "a/deep.jpg", "a.jpg", *(f"a/{n}/deeper.jpg" for n in range(8)), "a/z.jpg"):
        storage.write(key, b"-")
    assert [entry.key for entry in storage.list_folder("")] == ["a.jpg", "b.jpg"]
    assert [entry.key for entry in storage.list_folder("a")] == ["a/deep.jpg", "a/z.jpg"]
    assert list(storage.list_folder("none")) == []


def test_a_folder_is_listed_from_any_name_on(storage: Storage, small_pages: None) -> None:
    names = [f"{number}.jpg" for number in range(10)]
    for key in (*names, "5.jpg-/deep.jpg", "7/deep.jpg"):
        storage.write(f"album/{key}", b"-")
    for after in ("", "0.jpg", "4", "4.jpg", "5.jpg-", "8.jpg", "9.jpg"):
        found = [entry.name for entry in storage.list_folder("album", after=after)]
        assert found == [name for name in names if name > after]


# Reading and writing


def test_an_entry_tells_size_etag_and_age(storage: Storage) -> None:
    storage.write("a/x", b"12345")
    entry = stat(storage, "a/x")
    assert (entry.key, entry.name, entry.size) == ("a/x", "x", 5)
    assert abs(entry.modified - storage.now()) < 5
    assert [entry] == list(storage.list())
    storage.write("a/x", b"54321")
    assert storage.stat("a/x") != entry


def test_absent_objects(storage: Storage) -> None:
    assert storage.stat("none") is None
    assert storage.stat("none/below") is None
    assert not storage.exists()
    assert keys(storage) == []
    storage.delete("none")
    storage.delete_folder("none")
    with pytest.raises(BadInput, match="none"):
        storage.read("none")


@pytest.mark.parametrize("key", ["../out", "a/../../out", "/etc/x", "a//b", "", ".", "a/./b", "a\0b", "a/"])
def test_no_key_leads_out_of_the_root(storage: Storage, key: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: storage.write(key, b"-"),
        lambda: storage.read(key),
        lambda: storage.stat(key),
        lambda: storage.delete(key),
        lambda: storage.delete_folder(key),
    ]
    for call in calls:
        with pytest.raises(BadInput):
            call()


def test_a_name_that_is_too_long_costs_that_object_alone(storage: Storage) -> None:
    with pytest.raises(BadInput, match="too long") as caught:
        storage.write(f"{'k' * 1100}", b"-")
    assert "\n" not in str(caught.value)


def test_an_upload_replaces_and_leaves_the_file_with_its_owner(storage: Storage, tmp_path: Path) -> None:
    made = tmp_path / "made.csv"
    made.write_bytes(b"rows")
    storage.write("a/captions.csv", b"old")
    storage.upload(made, "a/captions.csv")
    assert storage.read("a/captions.csv") == b"rows"
    made.unlink()
    assert storage.read("a/captions.csv") == b"rows"


@pytest.mark.parametrize("content", [b"", b"film"])
def test_an_object_as_a_real_file(storage: Storage, tmp_path: Path, content: bytes) -> None:
    storage.write("a/clip.mp4", content)
    with storage.local_path("a/clip.mp4") as path:
        assert (path.suffix, path.read_bytes()) == (".mp4", content)
    storage.download(stat(storage, "a/clip.mp4"), tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == content


@pytest.mark.parametrize("size", [0, 1, 5, 6, 100])
def test_the_beginning_of_an_object(storage: Storage, size: int) -> None:
    for content in (b"", b"G", b"recording" * 10):
        storage.write("a.ts", content)
        assert storage.read_head(stat(storage, "a.ts"), size) == content[:size]


def test_what_changed_since_it_was_listed_is_not_read(storage: Storage, tmp_path: Path) -> None:
    storage.write("a", b"first")
    listed = stat(storage, "a")
    assert storage.read("a", etag=listed.etag) == b"first"
    storage.write("a", b"other")
    with pytest.raises(BadInput, match=r"a: .*changed"):
        storage.read("a", etag=listed.etag)
    with pytest.raises(BadInput, match=r"a: .*changed"):
        storage.download(listed, tmp_path / "fetched")
    with pytest.raises(BadInput, match=r"a: .*changed"):
        storage.read_head(listed, 3)
    storage.delete("a")
    with pytest.raises(BadInput, match="a: "):
        storage.read_head(listed, 3)
    with pytest.raises(BadInput, match="a: "):
        storage.download(listed, tmp_path / "fetched")


def test_whoever_waits_for_a_file_can_give_up(storage: Storage, tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    def give_up() -> None:
        raise Enough

    storage.write("a", b"film")
    with pytest.raises(Enough):
        storage.download(stat(storage, "a"), tmp_path / "fetched", go_on=give_up)


def test_deleting_a_folder_takes_all_below_and_nothing_beside(storage: Storage, small_pages: None) -> None:
    for key in ("a/x", "a/b/y", *(f"a/{n}" for n in range(8)), "ab/z", "a.z"):
        storage.write(key, b"-")
    storage.delete_folder("a")
    assert keys(storage) == ["a.z", "ab/z"]


# Conditions


def at_the_same_time(work: Callable[[bytes], Entry | None]) -> list[bytes]:
    """Which of eight threads win."""
    barrier = threading.Barrier(8)
    won: list[bytes] = []

    def one(name: bytes) -> None:
        barrier.wait()
        if work(name):
            won.append(name)

    threads = [threading.Thread(target=one, args=(b"%d" % number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won


def test_of_many_that_create_one_wins(storage: Storage) -> None:
    assert at_the_same_time(lambda name: storage.create("claims/x", name)) == [storage.read("claims/x")]


def test_of_many_that_replace_the_same_version_one_wins(storage: Storage) -> None:
    entry = storage.create("claim", b"first")
    assert entry is not None
    assert at_the_same_time(lambda name: storage.replace("claim", name, entry.etag)) == [
        storage.read("claim")
    ]


def test_replacing_needs_the_etag_of_what_is_there(storage: Storage) -> None:
    assert storage.replace("claim", b"-", "1") is None
    first = storage.create("claim", b"first")
    assert first is not None and first == storage.stat("claim")
    second = storage.replace("claim", b"second", first.etag)
    assert second is not None and second == storage.stat("claim")
    assert storage.replace("claim", b"third", first.etag) is None
    assert storage.create("claim", b"third") is None
    assert storage.read("claim") == b"second"
    storage.delete("claim")
    assert storage.replace("claim", b"third", second.etag) is None
    assert keys(storage) == []


def test_each_replacement_has_an_etag_of_its_own(storage: Storage) -> None:
    entry = storage.create("claim", b"0")
    etags = set()
    for number in range(50):
        assert entry is not None
        etags.add(entry.etag)
        entry = storage.replace("claim", b"%d and more" % number, entry.etag)
    assert len(etags) == 50


# Moving


def test_a_move_keeps_the_content(storage: Storage, make_storage: MakeStorage) -> None:
    other = make_storage("other")
    storage.write("a/clip.mp4", b"film")
    storage.write("a/clip.mp4.txt", b"beside")
    storage.move("a/clip.mp4", other, "run/a/clip.mp4")
    assert other.read("run/a/clip.mp4") == b"film"
    assert keys(storage) == ["a/clip.mp4.txt"]


def test_a_move_between_a_folder_and_another_storage(
    storage: Storage, tmp_path: Path, make_storage: MakeStorage
) -> None:
    folder = LocalStorage(tmp_path / "folder")
    storage.write("clip.mp4", b"film")
    storage.move("clip.mp4", folder, "run/clip.mp4")
    assert (keys(storage), folder.read("run/clip.mp4")) == ([], b"film")
    folder.move("run/clip.mp4", storage, "back.mp4")
    assert (keys(folder), storage.read("back.mp4")) == ([], b"film")


@pytest.mark.parametrize("size", [1, 6 << 20], ids=["small", "in parts"])
def test_what_changes_before_its_copy_is_there_is_not_copied(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setenv("GPUCAPT_S3_PART_SIZE", str(5 << 20))
    folder = LocalStorage(tmp_path / "folder")
    folder.write("clip.mp4", bytes(size))

    def sent_again(path: Path) -> str:
        path.write_bytes(b"n" * size)
        return "digest of the old"

    monkeypatch.setattr(pipeline.storage.base, "sha256", sent_again)
    with pytest.raises(GpucaptError, match="changed while"):
        Storage.move(folder, "clip.mp4", storage, "archive/clip.mp4")
    assert (keys(storage), folder.read("clip.mp4")) == ([], b"n" * size)


def test_moving_what_is_gone_says_so(storage: Storage) -> None:
    with pytest.raises(GpucaptError, match="gone"):
        storage.move("none", storage, "other")


# Names of storages


def test_urls_lead_to_the_same_objects(storage: Storage) -> None:
    storage.write("a/clip.mp4", b"film")
    parent, name = open_object(f"{storage.url}/a/clip.mp4")
    assert (name, parent.read(name)) == ("clip.mp4", b"film")
    assert open_storage(f"{storage.url}/a/").read("clip.mp4") == b"film"
    assert parent.url == f"{storage.url}/a"


def test_a_storage_is_there_once_something_is_in_it(storage: Storage) -> None:
    assert not storage.exists()
    storage.check_place()
    storage.write("a/b/c", b"-")
    assert storage.exists()


def test_no_secret_is_shown_with_a_storage(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = os.environ.get("AWS_SECRET_ACCESS_KEY", "none")
    shown: list[Any] = [storage, vars(storage)]
    if storage.is_remote:
        shown.append(pipeline.storage.s3.objects.connection())
    assert all(secret not in f"{one!r} {one}" for one in shown)
