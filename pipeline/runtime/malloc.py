"""How the C library's malloc deals with memory that pictures come and go in."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""As <malloc.h> of glibc numbers them."""
_KEPT = 256 << 20
_LARGEST_KEPT = 32 << 20
"""The most that every glibc takes for it."""


def keep_freed_memory() -> None:
    """Let this process use again what it freed, up to 256 MiB, rather than hand it back to the system.

    By default glibc returns a decoded picture's megabytes at once, and the kernel clears them, page by page,
    for the next: of the time that photographs of 1024 x 768 take to decode and resize, a third. A C library
    that cannot be told so stays as it is.
    """
    try:
        tell = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc
        return
    tell(_MMAP_THRESHOLD, _LARGEST_KEPT)
    tell(_TRIM_THRESHOLD, _KEPT)
