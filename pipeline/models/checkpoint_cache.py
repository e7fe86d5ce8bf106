"""Checkpoints that lie in an object store, kept on this machine once they were fetched."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from model.checkpoint import CONFIG, TENSORS, VOCABULARY
from model.errors import GpucaptError
from pipeline.errors import one_line
from pipeline.runtime.config import tuning
from pipeline.storage.base import Entry
from pipeline.storage.open import is_s3, open_storage
from pipeline.storage.staging import fetch_entry, local, log

_NAMES = (CONFIG, VOCABULARY, TENSORS)
_KEPT = 8
_OLD_S = 7 * 24 * 3600.0
"""Checkpoints beyond so many that nobody asked for in so long a time are removed."""


def checkpoint_folder(url: str) -> Path:
    """The directory of a checkpoint; one in an object store is fetched, unless it was before.

    Raises GpucaptError when it lacks a file. What a local directory lacks its reader tells.
    """
    if not is_s3(url):
        return local(url)
    storage = open_storage(url)
    found = [storage.stat(name) for name in _NAMES]
    entries = [entry for entry in found if entry is not None]
    if not entries:
        raise GpucaptError(f"there is no model {url}; name a checkpoint directory")
    for name, entry in zip(_NAMES, found, strict=True):
        if entry is None:
            raise GpucaptError(f"{url} is not a checkpoint: it lacks {name}")
    cache = _cache()
    name = storage.url.rpartition("/")[2] or "checkpoint"
    kept = cache / _identity(name, entries)
    folder = kept / name
    if not folder.is_dir():
        log.info("fetching the model %s", url)
        fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=cache))
        try:
            for entry in entries:
                fetch_entry(storage, entry, fresh / folder.name / entry.key, url)
            _rename(fresh, kept, url)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    os.utime(kept)
    _tidy(cache)
    return folder


def _rename(fresh: Path, kept: Path, url: str) -> None:
    try:
        fresh.rename(kept)
    except OSError as error:
        if not kept.is_dir():  # else another process was quicker
            raise GpucaptError(
                f"{url} cannot be kept in {one_line(str(kept.parent))}: {error.strerror};"
                " set GPUCAPT_CACHE to another folder"
            ) from error


def _identity(name: str, entries: list[Entry]) -> str:
    content = [[entry.key, entry.size, entry.etag] for entry in entries]
    return hashlib.sha256(json.dumps([name, *content]).encode()).hexdigest()[:32]


def _cache() -> Path:
    """Where checkpoints are kept: GPUCAPT_CACHE, the user's cache, or a folder of the user's own in /tmp."""
    chosen = tuning().cache
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "gpucapt")
    for folder in (chosen,) if chosen else (home, Path(tempfile.gettempdir(), f"gpucapt-{os.getuid()}")):
        with suppress(OSError):
            models = folder / "models"
            models.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)  # fails where it belongs to somebody else
            if os.access(models, os.W_OK):
                return models
    raise GpucaptError("there is no folder to keep models in; set GPUCAPT_CACHE to one that can be written")


def _tidy(cache: Path) -> None:
    def used(folder: Path) -> float:
        with suppress(OSError):
            return folder.stat().st_mtime
        return 0.0

    for folder in sorted(cache.iterdir(), key=used, reverse=True)[_KEPT:]:
        if used(folder) < time.time() - _OLD_S:
            shutil.rmtree(folder, ignore_errors=True)
