"""Relative links from a page at the destination to what lies elsewhere, on disk or in the same bucket."""

from __future__ import annotations

import os
from urllib.parse import quote

from pipeline.storage.local import name_from_key
from pipeline.storage.open import is_s3, local_path_of
from pipeline.storage.s3.uri import Place


def relative_link(url: str, folder: str, other_url: str, key: str) -> str | None:
    """Return the URL that leads from a page in ``folder`` under ``url`` to ``key`` under ``other_url``.

    Both keys are as storages say them. None where no relative URL can lead there: from a disk into a bucket,
    or from one bucket into another.
    """
    (root, here), (other_root, there) = _names(url, folder), _names(other_url, key)
    if root != other_root:
        return None
    pairs = enumerate(zip(here, there[:-1], strict=False))
    shared = next((at for at, (one, other) in pairs if one != other), min(len(here), len(there) - 1))
    return "../" * (len(here) - shared) + "/".join(map(_quoted, there[shared:]))


def film_links(url: str, source_key: str, films_url: str, film_key: str) -> tuple[str, ...]:
    """Return where the report of a film, in the folder ``source_key`` under ``url``, looks for the film.

    First beside itself, under the film's own name: so whoever sends both needs to know nothing else. Then
    where the film lies, or will when the job is done: ``film_key`` under ``films_url``.
    """
    name = source_key.rpartition("/")[2]
    beside = _quoted(name if is_s3(url) else name_from_key(name))
    elsewhere = relative_link(url, source_key, films_url, film_key)
    return (beside,) if elsewhere is None else (beside, elsewhere)


def _names(url: str, key: str) -> tuple[str, list[str]]:
    """In which bucket (none: on the disk) something lies, and the names that lead to it from the root."""
    parts = [part for part in key.split("/") if part]
    if is_s3(url):
        place = Place.parse(url)
        return place.bucket, [*filter(None, place.prefix.split("/")), *parts]
    path = local_path_of(url)
    # A browser takes '..' for the folder above by name, whatever symbolic links there are.
    absolute = os.path.realpath(path) if ".." in path.parts else str(path)
    return "", [*filter(None, absolute.split("/")), *map(name_from_key, parts)]


def _quoted(name: str) -> str:
    return quote(os.fsencode(name), safe="")
