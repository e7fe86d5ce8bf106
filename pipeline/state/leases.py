"""Claims: of several workers, on one machine or on many, one works on a source at a time.

A claim is a small object, ``.gpucapt/claims/<source key>/.claim``, made on the condition that there is none.
(The name under the key is hidden, as no source's is: so the claim of a folder and those of the videos in it
never meet.) It is a lease: its holder renews it while it works. Another worker may replace it, on the
condition that it has not changed meanwhile, when its holder is known to be gone, or when it has watched the
claim for a whole lease and it did not change. (Each worker goes by its own clock: those of two machines may
differ.) A holder that finds its claim replaced, or could not renew it in time, writes nothing more for that
source.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType

from model.errors import GpucaptError
from pipeline.errors import BadInput
from pipeline.runtime.clock import clock_s
from pipeline.runtime.process_identity import Process
from pipeline.storage.base import Entry, Storage
from pipeline.storage.write_guard import fenced

LEASE_S = 60.0
CLOCKS_DIFFER_S = 1800.0
"""Two machines' clocks differ less: S3 refuses whoever is off by a quarter of an hour."""
_GRACE_S = 5.0
"""How long the end of a run waits for a storage that does not answer."""
_MOST_SEEN = 10_000
"""Many more than others hold at a time. Most are not met again, as their holders finish the work."""
_FOLDER, _NAME = ".gpucapt/claims/", "/.claim"

_log = logging.getLogger("gpucapt")


class ClaimLost(Exception):
    """Another worker has taken over, or may have: leave the source alone."""


class Claim:
    """The right to write for one source, for as long as ``check`` does not raise."""

    def __init__(self, claims: Claims, key: str, entry: Entry, until: float) -> None:
        self.key = key
        self._claims = claims
        self._entry: Entry | None = entry
        self._until = until
        self._lock = threading.Lock()

    def check(self) -> None:
        """Make sure that the claim still holds, and for a while. Raises ClaimLost otherwise."""
        with self._lock:
            if self._entry is None:
                raise ClaimLost(self.key)
            # Close to the end of the lease (the machine slept, the storage hung) only a renewal can tell.
            if clock_s() > self._until - self._claims.lease_s / 4:
                self._renew()

    def assert_held(self) -> None:
        """Raises ClaimLost unless the lease runs this moment; asks nobody and never waits."""
        if self._entry is None or clock_s() > self._until:
            raise ClaimLost(self.key)

    def renew(self) -> None:
        """Extend the lease. Raises ClaimLost when another worker has taken over."""
        with self._lock:
            if self._entry is not None:
                self._renew()

    def release(self) -> None:
        """Give the source back; what another worker has taken over, or may have, is left alone."""
        self._claims.forget(self)
        with self._lock, suppress(ClaimLost):
            if self._entry is not None and clock_s() > self._until - self._claims.lease_s / 4:
                self._renew()
            entry, self._entry = self._entry, None
            if entry is not None:
                with fenced(self._assert_in_time):
                    self._claims.storage.delete(entry.key)

    def abandon(self) -> None:
        """Hold it no longer, and leave it where it is: it runs out, unless another worker has it already."""
        self._claims.forget(self)
        self._entry = None

    def _assert_in_time(self) -> None:
        if clock_s() > self._until - self._claims.lease_s / 8:
            raise ClaimLost(self.key)

    def _renew(self) -> None:
        assert self._entry is not None
        until = clock_s() + self._claims.lease_s
        renewed = self._claims.replace(self._entry)
        self._entry, self._until = renewed, until
        if renewed is None:
            _log.warning("another worker took over %s", self.key)
            raise ClaimLost(self.key)


class Claims:
    """The claims of one worker. As a context manager it renews them, and releases what is left at the end."""

    def __init__(self, storage: Storage, *, lease_s: float = LEASE_S) -> None:
        self.storage = storage
        self.lease_s = lease_s
        self._token = secrets.token_hex(8)
        self._process = Process.of_this().to_json()
        self._written = 0
        self._held: set[Claim] = set()
        self._seen: dict[str, tuple[str, float]] = {}
        """Of others' claims, the last ones: the ETag, and since when this worker has seen it."""
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="claims", daemon=True)

    def __enter__(self) -> Claims:
        self._keeper.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._keeper.join(_GRACE_S)
        deadline = clock_s() + _GRACE_S

        def in_time() -> None:
            if clock_s() > deadline:
                raise ClaimLost

        for claim in self._all():
            with suppress(ClaimLost, GpucaptError), fenced(in_time):
                claim.release()

    def take(self, key: str) -> Claim | None:
        """Claim a source; None while another worker has it."""
        path = claim_key(key)
        while True:
            until = clock_s() + self.lease_s
            made = self.storage.create(path, self._content())
            if made is None:
                there = self.storage.stat(path)
                if there is None:  # released since
                    continue
                # Looked at before reading: if what is read is newer than this etag, replacing fails.
                if not self._is_free(there):
                    return None
                until = clock_s() + self.lease_s
                made = self.replace(there)
                if made is None:
                    return None
            claim = Claim(self, key, made, until)
            with self._lock:
                self._seen.pop(path, None)
                self._held.add(claim)
            return claim

    def replace(self, there: Entry) -> Entry | None:
        """Write a claim anew while it is as it was; None when it has changed."""
        return self.storage.replace(there.key, self._content(), there.etag)

    def forget(self, claim: Claim) -> None:
        """Renew a claim no longer."""
        with self._lock:
            self._held.discard(claim)

    def _content(self) -> bytes:
        """What a claim of this worker says; never the same twice, so that no two have the same ETag."""
        with self._lock:
            self._written += 1
            number = self._written
        expires = round(time.time() + self.lease_s, 3)
        lease = {"worker": self._token, "number": number, "lease_s": self.lease_s, "expires": expires}
        return (json.dumps({**lease, **self._process}) + "\n").encode()

    def _is_free(self, entry: Entry) -> bool:
        try:
            fields = json.loads(self.storage.read(entry.key))
            worker, lease_s = fields["worker"], float(fields["lease_s"])
            expires, process = float(fields["expires"]), Process.from_json(fields)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            # Not one of ours, or damaged: it has a lease's time all the same.
            worker, lease_s, expires, process = None, self.lease_s, entry.modified + self.lease_s, None
        except BadInput:
            return False  # released this moment: the next look will tell
        if worker == self._token:
            with self._lock:  # abandoned by this very worker
                return all(claim_key(claim.key) != entry.key for claim in self._held)
        if process is not None and process.is_gone():
            return True
        if time.time() > expires + CLOCKS_DIFFER_S:
            return True
        with self._lock:
            etag, since = self._seen.get(entry.key, ("", 0.0))
            if etag == entry.etag:
                return clock_s() > since + lease_s
            self._note(entry)
        return False

    def _note(self, entry: Entry) -> None:
        self._seen.pop(entry.key, None)  # so that what was noted last comes last
        self._seen[entry.key] = (entry.etag, clock_s())
        if len(self._seen) > _MOST_SEEN:
            del self._seen[next(iter(self._seen))]

    def _all(self) -> list[Claim]:
        with self._lock:
            return list(self._held)

    def _assert_not_over(self) -> None:
        if self._over.is_set():
            raise ClaimLost

    def _keep(self) -> None:
        while not self._over.wait(self.lease_s / 4):
            for claim in self._all():
                try:
                    with fenced(self._assert_not_over):
                        claim.renew()
                except ClaimLost:
                    if not self._over.is_set():
                        self.forget(claim)
                except GpucaptError as error:
                    # Tried again soon; when it goes on until the lease is over, the source is given up.
                    _log.warning("cannot renew the claim on %s: %s", claim.key, error)


def claim_key(source_key: str) -> str:
    """Where the claim on a source lies under DESTINATION."""
    return f"{_FOLDER}{source_key}{_NAME}"


def claimed_keys(storage: Storage) -> Iterator[str]:
    """The sources that have a claim, live or not."""
    for entry in storage.list(_FOLDER):
        if entry.key.endswith(_NAME):
            yield entry.key.removeprefix(_FOLDER).removesuffix(_NAME)
