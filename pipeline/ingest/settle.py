"""Waiting for what is arriving to settle, so that one look at a drop folder is enough."""

from __future__ import annotations

import logging
import time

from pipeline.storage.base import Storage

COARSE_S = 1.0
"""Stores tell the time, and that of their objects, in whole seconds."""
IN_THE_FUTURE_S = 60.0
"""A file whose time lies further ahead than this says nothing about when it was written."""

_log = logging.getLogger("gpucapt")


def wait_for_arrivals(incoming: Storage, settle_s: float) -> float:
    """Sleep until every file that is there now is `settle_s` seconds old; returns how long that took.

    Waits once only: what arrives meanwhile has a later look of its own, and a steady stream of files must not
    keep those waiting that are there.
    """
    now = incoming.now()
    ages = (entry.modified for entry in incoming.list(unreadable=_passed_over))
    youngest = max((when for when in ages if now - settle_s < when <= now + IN_THE_FUTURE_S), default=None)
    if youngest is None:
        return 0.0
    seconds = max(0.0, youngest + settle_s + COARSE_S - incoming.now())
    _log.info("waiting %.1f s for what is arriving in %s to settle", seconds, incoming.url)
    time.sleep(seconds)
    return seconds


def _passed_over(key: str, reason: str) -> None:
    """Planning lists the folder again, and tells."""
