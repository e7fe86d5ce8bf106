"""The time, as records write it, and a clock for how long something takes."""

from __future__ import annotations

import time
from datetime import UTC, datetime

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> str:
    """The time in UTC, to the second, as ISO 8601 writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def clock_s() -> float:
    """Seconds that pass at the same pace for everybody, also while the machine sleeps."""
    return time.clock_gettime(_CLOCK)
