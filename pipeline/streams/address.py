"""What people name a stream by, and how it is spoken of: never with the user, password or query of a URL."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from pipeline.errors import WrongUsage
from pipeline.sources.discovery import RESERVED

SCHEMES = ("rtsp", "rtsps", "http", "https", "udp", "rtp", "rtmp", "rtmps", "tcp")
"""What OpenCV's FFmpeg opens."""

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class Address:
    """A stream: where it is, what its folder of results is called, and what messages call it."""

    url: str = field(repr=False)
    """A URL with all that is secret in it, or the path of a device."""
    name: str
    shown: str

    @property
    def is_device(self) -> bool:
        """Whether it is a camera of this machine."""
        return "://" not in self.url

    @property
    def scheme(self) -> str:
        """How it is reached, in lower case; "" for a device."""
        return "" if self.is_device else self.url.partition("://")[0].lower()


def is_stream(source: str) -> bool:
    """Whether SOURCE is a camera or a stream, and no folder or file."""
    if "://" in source or _scheme(source):
        return bool(_scheme(source))
    try:
        mode = Path(source).stat().st_mode
    except (OSError, ValueError):
        return source.startswith("/dev/")  # a camera that is not plugged in
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def _scheme(source: str) -> str:
    """How a stream is reached, else "". Its colon will do: as a path it would be told with its password."""
    scheme, found, _ = source.strip().partition(":")
    return scheme.lower() if found and scheme.lower() in SCHEMES else ""


def parse(source: str, name: str | None = None) -> Address:
    """The stream that SOURCE names, ``name`` being what its folder is to be called, if it was given.

    Raises WrongUsage for what is no address, or a name that can be no folder's.
    """
    if name is not None and (not _NAME.fullmatch(name) or name in RESERVED):
        raise WrongUsage(
            "the name of a stream has letters, digits, '-', '_' and '.', does not begin with a '.' and is"
            f" not 'runs'; it cannot be {name!r}"
        )
    if not _scheme(source):
        return Address(source, name or _folder(Path(source).name), source)
    parts = _split(source)
    host = parts.hostname or ""
    port = "" if parts.port is None else f":{parts.port}"
    shown_host = f"[{host}]" if ":" in host else host
    # Whoever gives a name may do so because the path is a secret, too, as a stream key of RTMP is.
    path = parts.path if name is None else "/…"
    shown = f"{parts.scheme}://{shown_host}{port}{path}"
    return Address(source, name or _folder(f"{host or parts.scheme}{port}{parts.path}"), shown)


def _split(source: str) -> SplitResult:
    """The parts of a URL. What is wrong with it is said without it, as it may hold a password."""
    scheme = _scheme(source)
    try:
        parts = urlsplit(source)
        is_whole = "@" in parts.netloc or "@" not in source
        has_port = parts.port is not None  # raises for one that is no number
        if is_whole and (parts.hostname or has_port) and not re.search(r"[\s\x00-\x1f]", source):
            return parts
    except ValueError:
        pass
    raise WrongUsage(
        f"that {scheme}:// address cannot be read; it should be {scheme}://host:port/path, with anything but"
        " letters and digits in a user or password written as %XX"
    )


def _folder(text: str) -> str:
    """A name for a folder, of what an address consists of."""
    plain = re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.")[:100].strip("-.")
    return f"stream-{plain}" if not plain or plain in RESERVED else plain
