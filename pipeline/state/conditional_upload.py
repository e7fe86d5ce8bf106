"""The outputs of a source on their way to the destination: together, and only while the source is ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor, wait
from pathlib import Path

from pipeline.state.leases import Claim
from pipeline.storage.base import Entry, Storage
from pipeline.storage.write_guard import fenced

THREADS = 16
_AT_ONCE = 32 << 20
"""Bytes up to which a file is put by one request."""


def put_file(destination: Storage, claim: Claim, path: Path, key: str, there: Entry | None) -> None:
    """Put a file in the place of ``there``, which is what lay there when the claim was made sure of.

    On a remote storage it is put on the condition that nothing else has come there: a request that was on its
    way while another worker took over and finished then changes nothing. Raises ClaimLost.
    """
    claim.check()
    with fenced(claim.assert_held):
        if not destination.is_remote or path.stat().st_size > _AT_ONCE:
            destination.upload(path, key)
            return
    put_content(destination, claim, path.read_bytes(), key, there)


def put_content(destination: Storage, claim: Claim, data: bytes, key: str, there: Entry | None) -> None:
    """As ``put_file``, for what is in memory."""
    claim.check()
    with fenced(claim.assert_held):
        made = destination.create(key, data) if there is None else destination.replace(key, data, there.etag)
    if made is None:
        claim.renew()  # is it another worker's?
        with fenced(claim.assert_held):
            destination.write(key, data)


def all_done(tasks: Iterable[Callable[[], None]], pool: Executor | None) -> None:
    """Run tasks, at the same time where there is a pool; when one fails, the others are waited for."""
    if pool is None:
        for task in tasks:
            task()
        return
    futures = [pool.submit(task) for task in tasks]
    wait(futures)
    for future in futures:
        future.result()
