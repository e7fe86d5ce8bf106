"""What is special about folders: links, names that are no text, disks that fail."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import GpucaptError
from pipeline.storage.base import Storage
from pipeline.storage.local import LocalStorage, key_from_name, name_from_key
from pipeline.storage.open import is_inside, open_object, open_storage, refuse_overlap


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "root")


def keys(storage: Storage, prefix: str = "", after: str = "") -> list[str]:
    return [entry.key for entry in storage.list(prefix, after=after)]


# Listings


def test_a_listing_is_a_stream(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in "abc":
        storage.write(f"{folder}/x", b"-")
    opened: list[str] = []
    scandir = os.scandir

    def spy(path: Path) -> object:
        opened.append(Path(path).name)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", spy)
    assert next(storage.list()).key == "a/x"
    assert "b" not in opened


def test_a_listing_after_a_key_does_not_open_the_folders_before_it(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in "abc":
        storage.write(f"{folder}/x", b"-")
    opened: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (opened.append(Path(path).name), scandir(path))[1])
    assert keys(storage, after="b/x") == ["c/x"]
    assert "a" not in opened


def test_names_of_bytes_that_are_no_text_are_listed_and_lead_back_to_their_files(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    with open(raw, "wb") as file:  # noqa: PTH123 - a path of bytes
        file.write(b"latin")
    storage = LocalStorage(tmp_path)
    (entry,) = storage.list()
    entry.key.encode()  # printable, storable
    assert entry.key == "caf‛E9.jpg"
    assert storage.read(entry.key) == b"latin"
    storage.move(entry.key, storage, f"archive/{entry.key}")
    assert os.listdir(os.fsencode(tmp_path / "archive")) == [b"caf\xe9.jpg"]  # noqa: PTH208


TRICKY_BYTES = st.lists(st.sampled_from(["‛".encode(), b"E9", b"\xe9", b"\xff", b"a", "é".encode()])).map(
    b"".join
)


@settings(deadline=None)
@given(TRICKY_BYTES | st.binary(max_size=12))
def test_every_name_has_its_own_key(name: bytes) -> None:
    text = os.fsdecode(name)
    assert name_from_key(key_from_name(text)) == text
    key_from_name(text).encode()


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "x.jpg").write_bytes(b"-")
    (tmp_path / "real" / "up").symlink_to(tmp_path)
    (tmp_path / "alias").symlink_to("real")
    (tmp_path / "file.jpg").symlink_to("real/x.jpg")
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "nowhere").symlink_to("missing")
    assert keys(LocalStorage(tmp_path)) == ["alias/x.jpg", "file.jpg", "real/x.jpg"]


def test_what_is_no_file_is_not_listed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "empty").mkdir()
    storage = LocalStorage(tmp_path)
    assert keys(storage) == []
    assert storage.stat("pipe.mp4") is None
    assert storage.stat("empty") is None


def test_a_very_deep_tree_is_listed(tmp_path: Path) -> None:
    folder = tmp_path
    for _ in range(300):
        folder /= "d"
    folder.mkdir(parents=True)
    (folder / "x").write_bytes(b"-")
    assert keys(LocalStorage(tmp_path)) == ["d/" * 300 + "x"]


def test_a_folder_that_cannot_be_read_is_told_and_the_rest_is_listed(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("a/x", "locked/x", "z/x"):
        storage.write(key, b"-")
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    told: list[tuple[str, str]] = []
    found = [entry.key for entry in storage.list(unreadable=lambda *what: told.append(what))]
    assert found == ["a/x", "z/x"]
    assert [folder for folder, _ in told] == ["locked"]
    assert "Permission denied" in told[0][1]
    with pytest.raises(GpucaptError, match="locked: Permission denied"):
        keys(storage)


# Reading and writing


def test_an_entry_tells_size_etag_and_age(storage: LocalStorage) -> None:
    storage.write("a/x", b"12345")
    entry = storage.stat("a/x")
    assert entry is not None
    found = (storage.root / "a" / "x").stat()
    assert (entry.key, entry.name, entry.size) == ("a/x", "x", 5)
    assert (entry.etag, entry.modified) == (str(found.st_mtime_ns), found.st_mtime)
    assert [entry] == list(storage.list())


def test_a_write_that_fails_leaves_what_was_there(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write("a", b"old")

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:1])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(GpucaptError, match="No space left") as caught:
        storage.write("a", b"new")
    assert "\n" not in str(caught.value)
    assert storage.read("a") == b"old"
    assert list(storage.root.iterdir()) == [storage.root / "a"]


def test_an_unfinished_write_of_a_killed_process_is_not_listed(storage: LocalStorage) -> None:
    storage.write("a", b"-")
    (storage.root / ".gpucapt-tmp-0123").write_bytes(b"half")
    assert keys(storage) == ["a"]


def test_a_file_where_a_folder_is_needed_is_said_in_one_line(storage: LocalStorage) -> None:
    storage.write("clip.mp4", b"-")
    with pytest.raises(GpucaptError, match=r"clip\.mp4/captions\.csv"):
        storage.write("clip.mp4/captions.csv", b"-")


def test_an_upload_from_another_file_system_is_copied(
    storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "made.csv"
    made.write_bytes(b"rows")

    def far(source: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", far)
    storage.upload(made, "captions.csv")
    assert storage.read("captions.csv") == b"rows"


def test_deleting_a_linked_folder_leaves_what_it_points_to(storage: LocalStorage, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "x").write_bytes(b"-")
    storage.root.mkdir()
    (storage.root / "a").symlink_to(tmp_path / "precious")
    storage.delete_folder("a")
    assert keys(storage) == []
    assert (tmp_path / "precious" / "x").exists()


# Conditions


def test_replacing_leaves_no_litter_beside_the_object(storage: LocalStorage) -> None:
    entry = storage.create(".gpucapt/claims/a/claim", b"-")
    assert entry is not None
    storage.replace(".gpucapt/claims/a/claim", b"+", entry.etag)
    assert [path.name for path in (storage.root / ".gpucapt/claims/a").iterdir()] == ["claim"]


# Moving


def test_moving_a_link_moves_the_film_that_it_names(storage: LocalStorage, tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"film")
    storage.root.mkdir()
    (storage.root / "clip.mp4").symlink_to("../film.mp4")
    storage.move("clip.mp4", storage, "deep/down/clip.mp4")
    assert storage.read("deep/down/clip.mp4") == b"film"
    assert keys(storage) == ["deep/down/clip.mp4"]


def test_a_move_across_file_systems_copies_and_verifies(
    storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write("clip.mp4", b"film")

    def far(*paths: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(Path, "rename", far)
    monkeypatch.setattr(os, "link", far)
    other = LocalStorage(tmp_path / "other")
    storage.move("clip.mp4", other, "clip.mp4")
    assert (keys(storage), other.read("clip.mp4")) == ([], b"film")


def test_a_film_that_still_grows_is_not_moved_away(
    storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write("clip.mp4", b"film")
    other = LocalStorage(tmp_path / "other")
    upload = LocalStorage.upload

    def grow(self: LocalStorage, path: Path, key: str) -> None:
        upload(self, path, key)
        with path.open("ab") as file:
            file.write(b" and more")

    monkeypatch.setattr(LocalStorage, "_renamed", lambda *_: False)
    monkeypatch.setattr(LocalStorage, "upload", grow)
    with pytest.raises(GpucaptError, match="changed while"):
        storage.move("clip.mp4", other, "clip.mp4")
    assert storage.read("clip.mp4") == b"film and more"


# Names of storages


def test_paths_and_file_urls_name_the_same_folder(tmp_path: Path) -> None:
    folder = tmp_path / "50% off #1?"
    folder.mkdir()
    (folder / "x").write_bytes(b"-")
    assert keys(open_storage(str(folder))) == ["x"]
    assert keys(open_storage(folder.as_uri())) == ["x"]
    storage, key = open_object(str(folder / "x"))
    assert storage.read(key) == b"-"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("s3:///in", "no bucket"),
        ("s3://bucket/a/../b", "prefix"),
        ("gs://bucket/in", "gs://"),
        ("s3:/bucket/in", "did you mean s3://bucket/in"),
        ("file://elsewhere/in", "elsewhere"),
        ("", "empty"),
        ("a\0b", "NUL"),
    ],
)
def test_what_cannot_be_opened_is_said(url: str, why: str) -> None:
    with pytest.raises(GpucaptError, match=why) as caught:
        open_storage(url)
    assert "\n" not in str(caught.value)


def test_overlap_is_refused_however_it_is_spelt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("in")
    monkeypatch.chdir(tmp_path)
    inside = ["in", "in/", "in/deep", "in/not/yet/there", "in/../in/out", "link/out", "in/deep/..", "."]
    for destination in [*inside, str(tmp_path), (tmp_path / "in").as_uri()]:
        with pytest.raises(GpucaptError, match="overlap"):
            refuse_overlap("in", destination)
        with pytest.raises(GpucaptError, match="overlap"):
            refuse_overlap("link", destination)
    for destination in ["out", "in-out", "in/../out", "inn"]:
        refuse_overlap("in", destination)


def test_inside_goes_by_whole_names(tmp_path: Path) -> None:
    assert is_inside(f"{tmp_path}/a/b", f"{tmp_path}/a")
    assert not is_inside(f"{tmp_path}/ab", f"{tmp_path}/a")
    assert not is_inside(f"{tmp_path}/a", f"{tmp_path}/a/b")
