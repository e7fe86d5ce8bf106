"""Sockets that multiprocessing makes in the folder for temporary files."""

from __future__ import annotations

import multiprocessing.util
import os
import tempfile

_LONGEST_FOLDER = 75
"""In bytes. A socket's path may have 107, and multiprocessing adds /pymp-xxxxxxxx/listener-xxxxxxxx."""


def shorten_socket_paths() -> None:
    """Let multiprocessing keep its sockets in /tmp where TMPDIR would make their paths too long to be used.

    Processes that this one starts inherit the place.
    """
    ours = tempfile.gettempdir()
    if len(os.fsencode(ours)) <= _LONGEST_FOLDER or not os.access("/tmp", os.W_OK):
        return
    tempfile.tempdir = "/tmp"
    try:
        multiprocessing.util.get_temp_dir()  # is made now, kept for good and removed at the end
    finally:
        tempfile.tempdir = ours
