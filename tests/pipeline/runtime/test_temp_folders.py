"""Temporary folders: what a killed process left is swept, and nothing else is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import StorageUnavailable
from pipeline.runtime import temp_folders
from pipeline.runtime.temp_folders import ScratchFolder

HOLD = (
    "import sys; from pathlib import Path; from pipeline.runtime.temp_folders import ScratchFolder\n"
    "with ScratchFolder(Path(sys.argv[1])) as folder:\n"
    "    (folder / 'file').touch(); print(folder, flush=True); sys.stdin.read()"
)


@pytest.fixture(autouse=True)
def _every_test_is_a_process_of_its_own() -> None:
    temp_folders._sweep.cache_clear()


@pytest.fixture
def others(tmp_path: Path) -> Iterator[list[tuple[subprocess.Popen[str], Path]]]:
    """Two processes, each with a folder in use."""
    line = [sys.executable, "-c", HOLD, str(tmp_path)]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(line, stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    yield [(one, Path(one.stdout.readline().strip())) for one in processes if one.stdout]
    for one in processes:
        one.kill()
        one.communicate()


def left_behind(parent: Path) -> Path:
    """What a killed process leaves."""
    folder = parent / "gpucapt-scratch-0123456789abcdef"
    folder.mkdir()
    (folder / "file").touch()
    folder.with_name(folder.name + ".lock").touch()
    return folder


def test_a_folder_is_there_as_long_as_it_is_used(tmp_path: Path) -> None:
    with ScratchFolder(tmp_path / "new") as folder:
        assert folder.is_dir() and folder.stat().st_mode & 0o777 == 0o700
    assert list((tmp_path / "new").iterdir()) == []


def test_what_a_killed_process_left_goes_and_what_a_living_one_uses_stays(
    tmp_path: Path, others: list[tuple[subprocess.Popen[str], Path]]
) -> None:
    (killed, its), (_, in_use) = others
    killed.kill()
    killed.wait()
    assert (its / "file").exists()
    with ScratchFolder(tmp_path):
        assert not its.exists() and (in_use / "file").exists()
    assert sorted(tmp_path.iterdir()) == [in_use, Path(f"{in_use}.lock")]


def test_another_users_folder_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = left_behind(tmp_path)
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    with ScratchFolder(tmp_path):
        assert (folder / "file").exists()


def test_what_is_no_folder_of_ours_stays(tmp_path: Path) -> None:
    """Anybody may put links and pipes into the folder for temporary files, under any name."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    (precious / "file.lock").touch()
    linked = left_behind(tmp_path)
    (linked / "file").unlink()
    linked.rmdir()
    linked.symlink_to(precious)
    (tmp_path / "gpucapt-scratch-1.lock").symlink_to(precious / "file.lock")
    (tmp_path / "gpucapt-scratch-1").symlink_to(precious)
    os.mkfifo(tmp_path / "gpucapt-scratch-2.lock")
    (tmp_path / "gpucapt-gpu-0.lock").touch()
    with ScratchFolder(tmp_path):
        pass
    assert (precious / "file").exists() and (precious / "file.lock").exists()
    assert linked.is_symlink() and (tmp_path / "gpucapt-scratch-1.lock").is_symlink()
    assert (tmp_path / "gpucapt-gpu-0.lock").exists()
    assert (tmp_path / "gpucapt-scratch-2.lock").exists()


def test_where_no_folder_can_be_made_the_setting_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageUnavailable, match="Not a directory; set TMPDIR"):
        ScratchFolder(tmp_path / "file" / "folder")


def test_all_temporary_folders_are_of_this_kind() -> None:
    """But the one for models, which tidies up behind itself."""
    makes_one = re.compile(r"TemporaryDirectory|mkdtemp|NamedTemporaryFile|mkstemp")
    house = Path(temp_folders.__file__).parents[2]
    found = {
        path.name
        for room in ("model", "pipeline")
        for path in (house / room).rglob("*.py")
        if makes_one.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"checkpoint_cache.py"}
