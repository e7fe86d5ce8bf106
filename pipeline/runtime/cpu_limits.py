"""How many cores this process may use: of the machine, of its set of cores, of its container's ration."""

from __future__ import annotations

import os
from math import ceil
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def available_cores() -> int:
    """Cores that this process may use; a ration of 2.5 cores counts as three."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    ration = rationed_cores(_CGROUP)
    return here if ration is None else max(1, min(here, ceil(ration)))


def limit_threads() -> None:
    """Let libraries that start a thread for each core they see start only as many as a ration allows.

    More would take turns using it up. To be called before they are loaded; what is set already stays.
    """
    if rationed_cores(_CGROUP) is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(available_cores()))


def rationed_cores(cgroup: Path) -> float | None:
    """The cores' worth of time that a container may use (``docker run --cpus``); None without a limit."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu/cpu.cfs_quota_us").read_text()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text()
        except OSError:
            return None
    try:
        found = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # "max"
        return None
    return found if found > 0 else None
