"""Telling recordings from texts with the same extension: `.ts` is MPEG's, TypeScript's and Qt's."""

from __future__ import annotations

import codecs

from model.errors import GpucaptError
from pipeline.errors import StorageUnavailable
from pipeline.storage.base import Entry, Storage

NO_RECORDING = "text files, no recordings (.ts, .mts, .m2ts)"
"""Why such a file is left out, for people."""

_SHARED_EXTENSIONS = (".ts", ".mts", ".m2ts")
_HEAD = 8192
"""Bytes: more than forty packets of a transport stream."""
_CONTROLS = bytes({*range(0x20), 0x7F} - set(b"\t\n\v\f\r"))
_CONTROL_CHARACTERS = frozenset(_CONTROLS.decode())


def is_shared(name: str) -> bool:
    """Whether files with this name's extension may be recordings or texts."""
    return name.lower().endswith(_SHARED_EXTENSIONS)


def is_known_text(storage: Storage, entry: Entry) -> bool:
    """Whether a file with such an extension is a text, by its beginning.

    One that cannot be read is not known to be one: whoever reads it next says why it cannot be used.
    """
    if not is_shared(entry.name):
        return False
    try:
        return is_text(storage.read_head(entry, _HEAD))
    except StorageUnavailable:
        raise
    except GpucaptError:
        return False


def is_text(head: bytes) -> bool:
    """Whether a file that begins with these bytes is a text, in whatever encoding.

    A text has no control characters but those that part words and lines. A transport stream is full of them,
    wherever in whichever packet a recording begins: the fourth byte of nearly every packet is one, and so are
    the tables that come every tenth of a second. What has no bytes is no text.
    """
    if not head:
        return False
    if len(head.translate(None, _CONTROLS)) == len(head):
        return True
    return _is_utf_16(head, "utf-16-le") or _is_utf_16(head, "utf-16-be")


def _is_utf_16(head: bytes, encoding: str) -> bool:
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head)  # the end may be cut off in a character
    except UnicodeDecodeError:
        return False
    # Any pair of bytes is a character of something; in code and markup many are of ASCII.
    is_mostly_foreign = sum(map(str.isascii, text)) * 4 < len(text)
    return not is_mostly_foreign and _CONTROL_CHARACTERS.isdisjoint(text)
