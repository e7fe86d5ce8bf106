"""Which programs work here. That one is found is not enough: a version manager's shim is, and then fails."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from functools import cache

_VERSION = {"java": "-version", "ffmpeg": "-version"}


@cache
def works(program: str) -> bool:
    """Whether the program tells its version. It is asked once a process, as tests/system-packages.sh does."""
    line = [program, _VERSION.get(program, "--version")]
    try:
        done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def why_missing(programs: Iterable[str]) -> str | None:
    """Why tests that need these programs are skipped, or None where all of them work."""
    missing = [name for name in programs if not works(name)]
    return f"not installed here: {', '.join(missing)} (see tests/system-packages.sh)" if missing else None
