"""Removing what finished runs of the drop folder leave behind, some days later."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from pipeline.storage.base import Storage

KEEP_FINISHED = timedelta(days=7)
KEEP_UNFINISHED = timedelta(days=30)
"""What a run that never finished left behind may help to find out why."""

_FOLDER = ".gpucapt/runs/"
_PAST_ALL = "\U0010ffff"
_STAMP = "%Y%m%dT%H%M%SZ"


def remove_old_runs(destination: Storage, now: float) -> None:
    """Remove the folders of runs that are long over; their summaries and tables stay.

    The names of runs begin with the time, so that no more of them are looked at than are old.
    """
    today = datetime.fromtimestamp(now, UTC)
    for run in _runs(destination, (today - KEEP_FINISHED).strftime(_STAMP)):
        is_very_old = run < (today - KEEP_UNFINISHED).strftime(_STAMP)
        if is_very_old or destination.stat(f"runs/{run}/summary.json") is not None:
            destination.delete_folder(f"{_FOLDER}{run}")


def _runs(destination: Storage, before: str) -> Iterator[str]:
    """The runs that have a folder, sorted, up to a time."""
    after = ""
    while (first := next(destination.list(_FOLDER, after=after), None)) is not None:
        run = first.key.removeprefix(_FOLDER).partition("/")[0]
        if run >= before:
            return
        yield run
        after = f"{_FOLDER}{run}/{_PAST_ALL}"
