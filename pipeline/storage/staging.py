"""What commands read and write as files, wherever it lies: local paths as they are, s3:// by way of a copy.

Training and its like work on files (HDF5, checkpoints). What they read from an object store is fetched into a
temporary folder first; what they write there is sent when it is whole.
"""

from __future__ import annotations

import logging
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from model.errors import GpucaptError
from pipeline.errors import BadInput, WrongUsage, one_line
from pipeline.runtime.config import tuning
from pipeline.runtime.temp_folders import ScratchFolder
from pipeline.storage.base import Entry, Storage
from pipeline.storage.open import is_s3, local_path_of, open_object, open_storage

log = logging.getLogger("gpucapt")

_LAST = ("config.json", "dataset.json", "export.json")
"""Files that say that the rest of their folder is whole: never there without it."""
_BETWEEN_SAVES_S = 60.0
LARGEST_BYTES = 1 << 30
"""No still is larger; a film is, and would fill the memory before it is known to be none."""


def local(url: str) -> Path:
    """The path that a local argument names, as it was written. Raises GpucaptError for unknown schemes."""
    return local_path_of(url) if "://" in url else Path(url)


def _everything(key: str) -> bool:
    return True


@contextmanager
def input_file(url: str) -> Iterator[Path]:
    """One file to read. Raises GpucaptError when an object is not there; of local ones the reader tells."""
    if not is_s3(url):
        yield local(url)
        return
    storage, key = open_object(url)
    entry = storage.stat(key) if key else None
    if entry is None:
        raise GpucaptError(f"{url}: there is no such object.")
    with _scratch(url, _file_name(entry.name)) as path:
        fetch_entry(storage, entry, path, url)
        yield path


@contextmanager
def input_folder(url: str, *, wanted: Callable[[str], bool] = _everything) -> Iterator[Path]:
    """A folder to read: of one in an object store the wanted keys, fetched first."""
    if not is_s3(url):
        yield local(url)
        return
    with _scratch(url) as folder:
        _fetch_all(open_storage(url), folder, url, wanted)
        yield folder


@dataclass(slots=True)
class Output:
    """A folder to write into. ``save`` sends what is there by now, where that means anything."""

    path: Path
    url: str
    """How to name it to people."""
    storage: Storage | None = None
    """Where it is sent to; None where it is the folder itself."""
    _sent: dict[str, tuple[int, int]] = field(default_factory=dict)
    _saved_at: float = 0.0

    def holds(self, folder: str) -> bool:
        """Whether something lies in a folder of it already."""
        if self.storage is None:
            return (self.path / folder).exists()
        return next(self.storage.list(f"{folder}/"), None) is not None

    def fetch(self) -> None:
        """Fetch what is there already, to go on with it."""
        if self.storage is not None:
            _fetch_all(self.storage, self.path, self.url, _everything)
            self._sent = {key: _state(path) for key, path in self._files()}

    def save_now_and_then(self) -> None:
        """Send what has changed, unless that was done in the last minute."""
        if time.monotonic() - self._saved_at > _BETWEEN_SAVES_S:
            self.save()

    def save(self) -> None:
        """Send what has changed. What says that a folder is whole is removed first, and comes last."""
        if self.storage is None:
            return
        changed = [(key, path) for key, path in self._files() if self._sent.get(key) != _state(path)]
        changed.sort(key=lambda found: found[1].name in _LAST)
        for key, path in changed:
            if path.name in _LAST:
                self.storage.delete(key)
        for key, path in changed:
            state = _state(path)
            self.storage.upload(path, key)
            self._sent[key] = state
        self._saved_at = time.monotonic()

    def _files(self) -> Iterator[tuple[str, Path]]:
        for path in sorted(self.path.rglob("*")):
            key = path.relative_to(self.path).as_posix()
            if path.is_file() and not _is_unfinished(key):
                yield key, path


def _is_unfinished(key: str) -> bool:
    """Files that are being written, and what is quicker to make again than to fetch."""
    *folders, name = key.split("/")
    hidden = any(part.startswith(".") and part != ".training" for part in (*folders, name))
    is_cache = ".training" in folders and name.startswith("features-")
    return hidden or is_cache or name.endswith((".part", ".tmp"))


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


@contextmanager
def output_folder(url: str, *, also_when_failed: bool = False) -> Iterator[Output]:
    """A folder to write into; in an object store it is sent when the context ends well.

    Args:
        url: a path or s3:// URL.
        also_when_failed: send what there is after an error, too, so that a run can go on from it.
    """
    if not is_s3(url):
        yield Output(local(url), url)
        return
    storage = open_storage(url)
    storage.check_place()
    with _scratch(url) as folder:
        output = Output(folder, storage.url, storage)
        try:
            yield output
        except BaseException:
            if also_when_failed:
                _save_if_possible(output)
            raise
        output.save()


def _save_if_possible(output: Output) -> None:
    try:
        output.save()
    except GpucaptError as error:  # what went wrong first is what to tell
        log.warning("cannot keep what there is of %s: %s", output.url, error)


@contextmanager
def output_file(url: str) -> Iterator[Path]:
    """A file to write; in an object store it is sent when the context ends well."""
    if not is_s3(url):
        yield local(url)
        return
    storage, key = open_object(url)
    if not key:
        raise GpucaptError(f"{url} names a bucket; name an object in it")
    storage.check_place()
    with _scratch(url, _file_name(key)) as path:
        yield path
        storage.upload(path, key)


def check_output_file(url: str) -> None:
    """Raises GpucaptError where what lies there is no file: a device or a pipe must not be replaced."""
    if is_s3(url):
        return
    if not url:
        raise WrongUsage("an empty path names no file to write")
    try:
        mode = local(url).stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return  # it is new, or whoever writes it tells
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no valid path"
        raise GpucaptError(f"{one_line(url)} cannot be written: {reason}") from error
    if stat.S_ISDIR(mode):
        raise GpucaptError(f"{one_line(url)} is a folder; name a file in it")
    if not stat.S_ISREG(mode):
        raise GpucaptError(f"{one_line(url)} is a device or a pipe; name a file")


def identity(url: str) -> object:
    """Equal for two names of one file; None where there is none. Of an object its URL."""
    if is_s3(url):
        return url
    try:
        found = local(url).stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def read_file(path: Path, name: str) -> bytes:
    """A local file's content. Raises BadInput for what may never end, or is too large; and OSError."""
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise BadInput(f"{name}: this is a folder")
    if not stat.S_ISREG(found.st_mode):
        raise BadInput(f"{name}: this is a device or a pipe, not a file")
    if found.st_size > LARGEST_BYTES:
        raise BadInput(f"{name}: too large, {found.st_size / 1e9:.1f} GB")
    return path.read_bytes()


def check_output(url: str) -> None:
    """Raises GpucaptError where a folder in an object store cannot be written, before any work is done."""
    if is_s3(url):
        open_storage(url).check_place()


def reader(url: str) -> Callable[[str], bytes]:
    """Reads files below a folder by their names. It raises BadInput, or OSError for local ones."""
    if is_s3(url):
        storage = open_storage(url)
        if not storage.exists():
            raise GpucaptError(f"{url}: there is nothing there.")
        return storage.read
    folder = local(url)
    if not folder.is_dir():
        raise GpucaptError(f"{url}: there is no such folder of pictures.")
    return lambda name: read_file(folder / name, name)


@contextmanager
def _scratch(url: str, name: str = "") -> Iterator[Path]:
    """A temporary folder, or a file in one, which errors call by the URL that it stands for."""
    with ScratchFolder(tuning().spool, setting="GPUCAPT_SPOOL") as folder:
        path = folder / name
        try:
            yield path
        except GpucaptError as error:
            if str(path) not in str(error):
                raise
            raise type(error)(str(error).replace(str(path), url.rstrip("/"))) from error


def _file_name(name: str) -> str:
    """An object's name as a file's, with its extension; names may be too long for files, or odd."""
    return name if len(name.encode()) <= 200 and name.isprintable() else f"object{Path(name).suffix[:16]}"


def _fetch_all(storage: Storage, folder: Path, url: str, wanted: Callable[[str], bool]) -> None:
    found = [entry for entry in storage.list() if wanted(entry.key)]
    if found:
        size = sum(entry.size for entry in found)
        log.info("fetching %d files (%.1f MB) from %s", len(found), size / 1e6, url)
    for entry in found:
        path = folder / entry.key
        fetch_entry(storage, entry, path, url)


def fetch_entry(storage: Storage, entry: Entry, path: Path, url: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        storage.download(entry, path)
    except BadInput as error:
        raise GpucaptError(f"{url}: {error}") from error
    except OSError as error:
        raise GpucaptError(
            f"{url} cannot be kept in {one_line(str(path.parent))}: {error.strerror};"
            " set GPUCAPT_SPOOL to a folder on another disk"
        ) from error
