"""Of several who replace a file one wins: whatever disk it is on, and whoever is killed meanwhile."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import pipeline.storage.versions
from model.errors import GpucaptError
from pipeline.storage.base import Entry
from pipeline.storage.local import LocalStorage
from tests.pipeline.jobs import caption, caption_command, environment, leftovers, run, write_stills
from tests.services import no_locks

Environment = Callable[[Path, int], dict[str, str]]

WAYS = [
    pytest.param(no_locks.in_python, id="python"),
    pytest.param(no_locks.in_the_system, id="system", marks=pytest.mark.needs("cc")),
]

COUNT = """
import sys
from pathlib import Path
from pipeline.storage.local import LocalStorage
storage, won = LocalStorage(Path(sys.argv[1])), 0
while won < 50:
    there = storage.stat("claims/count")
    number = int(storage.read("claims/count"))
    won += storage.replace("claims/count", b"%d" % (number + 1), there.etag) is not None
"""


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "root")


def create(storage: LocalStorage, key: str, data: bytes) -> Entry:
    made = storage.create(key, data)
    assert made is not None
    return made


def names(storage: LocalStorage) -> list[str]:
    return [path.name for path in storage.root.rglob("*") if path.is_file()]


def let_turns_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were taken before; one that is taken from now on lasts."""
    monkeypatch.setattr(pipeline.storage.versions, "_TURN_S", 0.0)
    monkeypatch.setattr(pipeline.storage.versions, "clock_s", lambda: 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("number", no_locks.ERRORS)
def test_of_many_processes_without_locks_one_wins_each_time(
    storage: LocalStorage, tmp_path: Path, way: Environment, number: int
) -> None:
    create(storage, "claims/count", b"0")
    line = [sys.executable, "-c", COUNT, str(storage.root)]
    env = environment(**way(tmp_path, number))
    counters = [subprocess.Popen(line, env=env) for _ in range(4)]
    assert [counter.wait(300) for counter in counters] == [0] * 4
    assert storage.read("claims/count") == b"200"
    assert names(storage) == ["count"]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("number", no_locks.ERRORS)
def test_a_job_that_outlives_its_lease_needs_no_locks(
    tmp_path: Path, tiny_model: Path, way: Environment, number: int
) -> None:
    """It lasts longer than a quarter of the lease, if only to load torch; then the lease is renewed."""
    source, out = write_stills(tmp_path / "album", 200), tmp_path / "out"
    env = {**way(tmp_path, number), "GPUCAPT_LEASE": "1"}
    for said in ("captioned 1 source (200 frames)", "1 already done; nothing new"):
        done = run(caption_command(source, out, tiny_model), **env)
        assert done.returncode == 0, done.stderr
        assert said in done.stdout and "cannot" not in done.stderr
    assert leftovers(out) == []


def test_a_turn_of_a_process_that_was_killed_is_passed_over(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = create(storage, "claims/a", b"first")
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(Path, "replace", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        storage.replace("claims/a", b"of the killed one", first.etag)
    os.waitpid(child, 0)
    assert len(names(storage)) == 3  # the file, its turn, what would have been the file
    assert storage.replace("claims/a", b"second", first.etag) is None  # it may be at it this moment
    let_turns_run_out(monkeypatch)
    second = storage.replace("claims/a", b"second", first.etag)
    assert second is not None and storage.read("claims/a") == b"second"
    assert len(names(storage)) == 2  # a temporary file is never taken from whoever may be writing it
    assert storage.replace("claims/a", b"third", second.etag) is not None


def test_who_was_stopped_for_long_in_its_turn_leaves_the_file_alone(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = create(storage, "claims/a", b"first")
    times = iter([0.0, 1e6])
    with monkeypatch.context() as stopped:
        stopped.setattr(pipeline.storage.versions, "clock_s", lambda: next(times))
        assert storage.replace("claims/a", b"late", first.etag) is None
    assert storage.read("claims/a") == b"first"
    let_turns_run_out(monkeypatch)
    assert storage.replace("claims/a", b"second", first.etag) is not None
    assert names(storage) == ["a"]


def test_a_turn_of_a_version_that_is_gone_means_nothing(storage: LocalStorage) -> None:
    first = create(storage, "claims/a", b"first")
    second = storage.replace("claims/a", b"second", first.etag)
    assert second is not None
    path, new = storage.path("claims/a"), storage.path("claims/new")
    new.write_bytes(b"stale")
    assert not pipeline.storage.versions.replace_version(path, int(first.etag), new)
    assert storage.read("claims/a") == b"second" and sorted(names(storage)) == ["a", "new"]


@pytest.mark.parametrize("step_ns", [1, 10**9, 2 * 10**9])
def test_disks_that_tell_time_in_seconds_tell_versions_apart(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch, step_ns: int
) -> None:
    utime = os.utime

    def coarse(path: Path, ns: tuple[int, int]) -> None:
        utime(path, ns=(ns[0] // step_ns * step_ns, ns[1] // step_ns * step_ns))

    monkeypatch.setattr(os, "utime", coarse)
    entry = create(storage, "claims/a", b"0")
    etags = [entry.etag]
    for number in range(5):
        replaced = storage.replace("claims/a", b"%d" % number, etags[-1])
        assert replaced is not None
        etags.append(replaced.etag)
    assert len(set(etags)) == 6


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_disk_without_hard_links_is_refused_before_any_work(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """As FAT is, and what some bridges to object stores make."""

    def refused(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refused)
    source, out = write_stills(tmp_path / "album", 2), tmp_path / "out"
    with pytest.raises(GpucaptError, match=r"without hard links.*choose another destination"):
        caption(source, out, tiny_model)
    assert not any(path.is_file() for path in out.rglob("*"))
