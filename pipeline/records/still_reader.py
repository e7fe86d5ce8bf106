"""Which version of reading stills a row was made by, so that what is read better now is read again."""

from __future__ import annotations

from pathlib import PurePosixPath

STILL_READER = 2
"""Goes up when stills can be read that were set aside before. Rows from before there were numbers have 1."""

_READ_OTHERWISE = {".tif": 2, ".tiff": 2}
"""By extension, since which version pictures of a kind are others than before: 2 takes the photograph of a
TIFF that begins with its thumbnail."""


def read_alike_since(name: str) -> int:
    """The first version that gives the same picture of a still of this name as this one, if it gives one."""
    return _READ_OTHERWISE.get(PurePosixPath(name).suffix.lower(), 1)
