"""Claims: of several workers, on one machine or on many, one works on a source at a time.

A claim is a small object, ``.gpucapt/claims/<source key>/.claim``, made on the condition that there is none.
(The name under the key is hidden, as no source's is: so the claim of a folder and those of the videos in it
never meet.) It is a lease: its holder renews it while it works, and when it expires, or when its holder is
known to be gone, another worker may replace it, on the condition that it has not changed meanwhile. A holder
that finds its claim replaced writes nothing more for that source.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Iterator
from types import TracebackType

from model.errors import GpucaptError
from pipeline.processes import Process
from pipeline.storage import Entry, Storage

LEASE_S = 60.0
_FOLDER, _NAME = ".gpucapt/claims/", "/.claim"

_log = logging.getLogger("gpucapt")


class ClaimLost(Exception):
    """Another worker has taken over: leave the source alone."""


class Claim:
    """The right to write for one source, for as long as ``check`` does not raise."""

    def __init__(self, claims: Claims, key: str, entry: Entry, expires: float) -> None:
        self.key = key
        self._claims = claims
        self._entry: Entry | None = entry
        self._expires = expires
        self._lock = threading.Lock()

    def check(self) -> None:
        """Make sure that the claim still holds, and for a while. Raises ClaimLost otherwise."""
        with self._lock:
            if self._entry is None:
                raise ClaimLost(self.key)
            # Close to the end of the lease (the machine slept, the storage hung) only a renewal can tell.
            if time.time() > self._expires - self._claims.lease_s / 4:
                self._renew()

    def renew(self) -> None:
        """Extend the lease. Raises ClaimLost when another worker has taken over."""
        with self._lock:
            if self._entry is not None:
                self._renew()

    def release(self) -> None:
        """Give the source back; what another worker has taken over is left alone."""
        self._claims.forget(self)
        with self._lock:
            entry, self._entry = self._entry, None
            if entry is not None and time.time() < self._expires - self._claims.lease_s / 8:
                self._claims.storage.delete(entry.key)

    def _renew(self) -> None:
        assert self._entry is not None
        expires = time.time() + self._claims.lease_s
        renewed = self._claims.storage.replace(
            self._entry.key, self._claims.content(expires), self._entry.etag
        )
        self._entry, self._expires = renewed, expires
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
        self._held: set[Claim] = set()
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
        self._keeper.join()
        for claim in self._all():
            claim.release()

    def take(self, key: str) -> Claim | None:
        """Claim a source; None while another worker has it."""
        path = claim_key(key)
        while True:
            expires = time.time() + self.lease_s
            made = self.storage.create(path, self.content(expires))
            if made is None:
                there = self.storage.stat(path)
                if there is None:  # released since
                    continue
                # Looked at before reading: if what is read is newer than this etag, replacing fails.
                if not self._is_free(there):
                    return None
                made = self.storage.replace(path, self.content(expires), there.etag)
                if made is None:
                    return None
            claim = Claim(self, key, made, expires)
            with self._lock:
                self._held.add(claim)
            return claim

    def content(self, expires: float) -> bytes:
        """What a claim of this worker says."""
        fields = {"worker": self._token, "expires": round(expires, 3), **self._process}
        return (json.dumps(fields) + "\n").encode()

    def forget(self, claim: Claim) -> None:
        """Renew a claim no longer."""
        with self._lock:
            self._held.discard(claim)

    def _is_free(self, entry: Entry) -> bool:
        try:
            fields = json.loads(self.storage.read(entry.key))
            expires, process = float(fields["expires"]), Process.from_json(fields)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            # Not one of ours, or damaged: it has a lease's time all the same.
            return time.time() > entry.modified + self.lease_s
        except GpucaptError:
            return False  # released this moment: the next look will tell
        return time.time() > expires or process.is_gone()

    def _all(self) -> list[Claim]:
        with self._lock:
            return list(self._held)

    def _keep(self) -> None:
        while not self._over.wait(self.lease_s / 4):
            for claim in self._all():
                try:
                    claim.renew()
                except ClaimLost:
                    self.forget(claim)
                except GpucaptError as error:
                    # Tried again soon; when it goes on until the lease is over, check() gives the source up.
                    _log.warning("cannot renew the claim on %s: %s", claim.key, error)


def claim_key(source_key: str) -> str:
    """Where the claim on a source lies under DESTINATION."""
    return f"{_FOLDER}{source_key}{_NAME}"


def claimed_keys(storage: Storage) -> Iterator[str]:
    """The sources that have a claim, live or not."""
    for entry in storage.list(_FOLDER):
        if entry.key.endswith(_NAME):
            yield entry.key.removeprefix(_FOLDER).removesuffix(_NAME)
