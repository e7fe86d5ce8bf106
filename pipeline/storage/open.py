"""Which storage a path or URL names, and how two of them lie to each other."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote

from model.errors import GpucaptError
from pipeline.storage.base import Storage
from pipeline.storage.local import LocalStorage, key_from_name
from pipeline.storage.s3.uri import SCHEME, Place


def open_storage(url: str) -> Storage:
    """The storage at a folder's path or URL. The folder need not exist: it is made by the first write."""
    if is_s3(url):
        return _s3_storage(Place.parse(url))
    return LocalStorage(local_path_of(url))


def open_object(url: str) -> tuple[Storage, str]:
    """The storage that holds one object, and the object's key in it."""
    if is_s3(url):
        place = Place.parse(url)
        folder, _, name = place.prefix.removesuffix("/").rpartition("/")
        return _s3_storage(Place(place.bucket, f"{folder}/" if folder else "")), name
    path = local_path_of(url)
    if path.name == "..":
        path = _resolved(path)
    return LocalStorage(path.parent), key_from_name(path.name)


def is_s3(url: str) -> bool:
    """Whether a path or URL names a place in an object store."""
    return url.startswith(SCHEME)


def _s3_storage(place: Place) -> Storage:
    from pipeline.storage.s3.storage import S3Storage

    return S3Storage(place)


def local_path_of(url: str) -> Path:
    """The path that a plain path or file:// URL names. Raises GpucaptError for other kinds of storage."""
    if not url:
        raise GpucaptError("an empty path names no folder; use . for the current one")
    if "\0" in url:
        raise GpucaptError(f"{url!r} is not a path: it has a NUL byte in it")
    if url.startswith("s3:/") and not is_s3(url):
        raise GpucaptError(f"{url}: a slash is missing; did you mean s3://{url.removeprefix('s3:/')}?")
    scheme, found, _ = url.partition("://")
    if not found or "/" in scheme:
        return Path(url).absolute()
    if scheme == "file":
        machine, _, path = url[len("file://") :].partition("/")
        if machine not in ("", "localhost"):
            raise GpucaptError(f"{url} names a file on the machine {machine}; use file:///path")
        return Path("/" + unquote(path, errors="surrogateescape"))
    url = re.sub(r"(?<=://)[^/]*@", "", url)  # without a password
    raise GpucaptError(f"{url}: {scheme}:// is not a storage this knows; give a folder or s3://bucket/prefix")


def _resolved(path: Path) -> Path:
    """The real path; of a link that leads back to itself (nothing can be there) the link."""
    return Path(os.path.realpath(path))


def is_inside(inner: str, outer: str) -> bool:
    """Whether one location is the other or lies below it, symbolic links and '..' resolved."""
    if is_s3(inner) or is_s3(outer):
        return is_s3(inner) and is_s3(outer) and Place.parse(inner).is_inside(Place.parse(outer))
    below, above = _resolved(local_path_of(inner)), _resolved(local_path_of(outer))
    if below.is_relative_to(above):
        return True
    # The same folder can also be met under two real names: bind mounts, file systems that ignore case.
    return above.exists() and any(up.exists() and up.samefile(above) for up in (below, *below.parents))


def refuse_overlap(source: str, destination: str) -> None:
    """Raises GpucaptError when results would lie among the sources, or sources among the results."""
    if is_inside(source, destination) or is_inside(destination, source):
        raise GpucaptError(
            f"SOURCE {source} and DESTINATION {destination} overlap; choose a destination outside the source"
        )


def location(url: str) -> str:
    """A file or folder by its whole path or URL."""
    storage, key = open_object(url)
    return f"{storage.url.rstrip('/')}/{key}"
