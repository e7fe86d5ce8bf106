"""Remote films in a temporary folder: fetched ahead, within a limit, and nothing is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from model.errors import GpucaptError
from pipeline.errors import BadInput, StorageUnavailable
from pipeline.storage.base import Entry, nothing
from pipeline.storage.local import LocalStorage
from pipeline.storage.open import open_storage
from pipeline.storage.spool import Spool


class Slow(LocalStorage):
    """Transfers wait until they are let go, and fail as they are told to."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.begun: list[str] = []
        self.open = threading.Event()
        self.errors: list[Exception] = []

    def download(self, entry: Entry, path: Path, *, go_on: Callable[[], None] = nothing) -> None:
        self.begun.append(entry.key)
        with path.open("wb") as file:
            file.write(b"a")
        while not self.open.wait(0.01):
            go_on()
        if self.errors:
            raise self.errors.pop(0)
        super().download(entry, path)


@pytest.fixture
def storage(tmp_path: Path) -> Slow:
    """Films a, b and c of 100 bytes, and one of 1000."""
    storage = Slow(tmp_path / "storage")
    for name in "abc":
        storage.write(f"{name}.mp4", name.encode() * 100)
    storage.write("long.mp4", b"l" * 1000)
    return storage


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def film(storage: LocalStorage, name: str) -> Entry:
    entry = storage.stat(f"{name}.mp4")
    assert entry is not None
    return entry


def wait_for(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def files(folder: Path) -> list[Path]:
    """What films lie in the folder."""
    return [path for path in folder.glob("*/*") if path.is_file()]


def test_a_film_is_there_as_long_as_it_is_used(storage: Slow, folder: Path) -> None:
    storage.open.set()
    with Spool(storage, 1000, folder) as spool:
        with spool.path(film(storage, "a")) as path:
            assert path.read_bytes() == b"a" * 100 and path.suffix == ".mp4"
        assert not path.exists()
    assert list(folder.iterdir()) == []


def test_nothing_is_made_where_no_film_comes(storage: Slow, folder: Path) -> None:
    with Spool(storage, 1000, folder):
        pass
    assert not folder.exists()


def test_the_next_film_comes_while_one_is_used(storage: Slow, folder: Path) -> None:
    storage.open.set()
    with Spool(storage, 250, folder) as spool, spool.path(film(storage, "a")):
        spool.soon(film(storage, "b"))
        spool.soon(film(storage, "c"))  # for which there is no room yet
        wait_for(lambda: b"b" * 100 in [path.read_bytes() for path in files(folder)])
        assert storage.begun == ["a.mp4", "b.mp4"]
        with spool.path(film(storage, "b")) as path:
            assert path.read_bytes() == b"b" * 100
        assert storage.begun == ["a.mp4", "b.mp4"], "it was fetched once"


def test_a_film_that_several_use_is_fetched_once(storage: Slow, folder: Path) -> None:
    """Pieces of one film."""
    storage.open.set()
    with Spool(storage, 250, folder) as spool:
        spool.soon(film(storage, "a"))
        spool.soon(film(storage, "a"))
        for _ in range(2):
            with spool.path(film(storage, "a")) as path:
                assert path.read_bytes() == b"a" * 100
        assert storage.begun == ["a.mp4"] and files(folder) == []


def test_a_film_that_nobody_wants_after_all_is_given_up(storage: Slow, folder: Path) -> None:
    with Spool(storage, 1000, folder) as spool:
        spool.soon(film(storage, "a"))
        wait_for(lambda: storage.begun)
        spool.forget(film(storage, "a"))
        wait_for(lambda: files(folder) == [])


def test_a_film_larger_than_the_limit_has_it_for_itself(storage: Slow, folder: Path) -> None:
    storage.open.set()
    sizes: list[int] = []

    def use(name: str) -> None:
        with spool.path(film(storage, name)) as path:
            time.sleep(0.05)
            sizes.append(sum(one.stat().st_size for one in files(folder)))
            assert path.read_bytes() == name[:1].encode() * path.stat().st_size

    with Spool(storage, 250, folder) as spool:
        names = ["a", "long", "b", "long", "c"]
        threads = [threading.Thread(target=use, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert not any(thread.is_alive() for thread in threads)
    assert len(sizes) == 5
    assert all(size <= 250 or size == 1000 for size in sizes), sizes


def test_what_waits_for_its_turn_gives_way_to_what_has_it(storage: Slow, folder: Path) -> None:
    """Else two readers could wait for each other for ever."""
    storage.open.set()
    with Spool(storage, 250, folder) as spool:
        spool.soon(film(storage, "b"))
        spool.soon(film(storage, "c"))
        wait_for(lambda: len(storage.begun) == 2)
        with spool.path(film(storage, "a")) as path:
            assert path.read_bytes() == b"a" * 100
        for name in "bc":
            with spool.path(film(storage, name)) as path:
                assert path.read_bytes() == name.encode() * 100


def test_giving_up_ends_what_is_on_its_way(storage: Slow, folder: Path) -> None:
    over = threading.Event()

    def go_on() -> None:
        if over.is_set():
            raise KeyboardInterrupt

    with Spool(storage, 1000, folder, go_on=go_on) as spool:
        spool.soon(film(storage, "b"))
        threading.Timer(0.2, over.set).start()
        with pytest.raises(KeyboardInterrupt), spool.path(film(storage, "a")):
            raise AssertionError("it never comes")
        wait_for(lambda: files(folder) == [])
    assert list(folder.iterdir()) == []


def test_a_film_that_changed_is_bad_input_and_may_come_later_as_it_is_then(
    storage: Slow, folder: Path
) -> None:
    storage.open.set()
    listed = film(storage, "a")
    storage.write("a.mp4", b"A" * 100)
    with Spool(storage, 1000, folder) as spool:
        with pytest.raises(BadInput, match=r"a\.mp4.*changed"), spool.path(listed):
            pass
        with spool.path(film(storage, "a")) as path:
            assert path.read_bytes() == b"A" * 100
        assert len(files(folder)) == 0


def no_room() -> OSError:
    """What the kernel says of a full disk."""
    with pytest.raises(OSError) as caught, Path("/dev/full").open("wb", buffering=0) as file:
        file.write(b"x")
    return caught.value


def test_a_full_disk_is_tried_again_without_other_films(storage: Slow, folder: Path) -> None:
    storage.open.set()
    with Spool(storage, 1000, folder) as spool:
        storage.errors = [no_room()]
        with spool.path(film(storage, "a")) as path:
            assert path.read_bytes() == b"a" * 100


def test_what_one_file_is_fetched_for_lies_in_the_spool_too(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPUCAPT_SPOOL", str(tmp_path / "spool"))
    remote = open_storage(f"s3://{bucket}")
    remote.write("film.mp4", b"frames")
    with remote.local_path("film.mp4") as path:
        assert path.is_relative_to(tmp_path / "spool")
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_full_disk_ends_the_run_with_one_line(storage: Slow, folder: Path) -> None:
    storage.open.set()
    storage.errors = [no_room(), no_room()]
    with Spool(storage, 1000, folder) as spool:
        with pytest.raises(StorageUnavailable) as caught, spool.path(film(storage, "a")):
            pass
        assert f"no room in {folder} for a.mp4: it has 100 bytes, and " in str(caught.value)
        assert " are free; make room, or set GPUCAPT_SPOOL" in str(caught.value)
        assert files(folder) == []


def test_a_film_larger_than_the_disk_is_not_even_begun(
    storage: Slow, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would fill the disk that others use, too, twice."""
    storage.open.set()
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(total=900, used=100, free=800))
    with Spool(storage, None, folder) as spool:
        told = "for long.mp4: it has 1 KB, and 800 bytes are free"
        with pytest.raises(StorageUnavailable, match=told), spool.path(film(storage, "long")):
            pass
        assert storage.begun == []
        with spool.path(film(storage, "a")) as path:
            assert path.read_bytes() == b"a" * 100


def test_a_folder_that_cannot_be_made_is_told_with_its_setting(storage: Slow, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    spool = Spool(storage, 1000, tmp_path / "file")
    with spool, pytest.raises(StorageUnavailable, match="GPUCAPT_SPOOL"), spool.path(film(storage, "a")):
        pass


def test_a_wrong_size_is_told_before_anything_is_done(
    storage: Slow, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPUCAPT_SPOOL_SIZE", "plenty")
    with pytest.raises(GpucaptError, match="GPUCAPT_SPOOL_SIZE"):
        Spool(storage, None, folder)


@pytest.fixture
def other_workers(storage: Slow, folder: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Two processes, each with a film in the folder."""
    code = (
        "import sys, time; from pathlib import Path\n"
        "from pipeline.storage.spool import Spool; from pipeline.storage.open import open_storage\n"
        "storage = open_storage(sys.argv[1])\n"
        "with Spool(storage, 1000, Path(sys.argv[2])).path(storage.stat('a.mp4')):\n"
        "    print('here', flush=True); time.sleep(600)"
    )
    line = [sys.executable, "-c", code, storage.url, str(folder)]
    workers = [subprocess.Popen(line, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for worker in workers:
        assert worker.stdout is not None and worker.stdout.readline() == "here\n"
    yield workers
    for worker in workers:
        worker.kill()
        worker.communicate()


def test_what_a_killed_worker_left_is_swept_and_what_a_live_one_uses_is_not(
    storage: Slow, folder: Path, other_workers: list[subprocess.Popen[str]]
) -> None:
    storage.open.set()
    killed, _ = other_workers
    assert len(files(folder)) == 2
    killed.kill()
    killed.wait()
    with Spool(storage, 1000, folder) as spool, spool.path(film(storage, "b")):
        contents = sorted(path.read_bytes()[:1] for path in files(folder))
        assert contents == [b"a", b"b"]
    assert len(files(folder)) == 1
    assert len(list(folder.iterdir())) == 2, "its folder and its lock"


def test_a_film_in_an_object_store(bucket: str, folder: Path) -> None:
    storage = open_storage(f"s3://{bucket}/incoming")
    content = os.urandom(1 << 20)
    storage.write("trip/ünü.mp4", content)
    listed = storage.stat("trip/ünü.mp4")
    assert listed is not None
    with Spool(storage, 10 << 20, folder) as spool:
        with spool.path(listed) as path:
            assert path.read_bytes() == content
        storage.write("trip/ünü.mp4", b"another")
        with pytest.raises(BadInput, match="changed"), spool.path(listed):
            pass
