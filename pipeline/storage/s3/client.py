"""The connection to an object store: one a process, shared by all threads, patient with what passes.

Credentials, profiles, region and endpoint are boto's business: the standard AWS variables, files and roles.
Requests are tried again here rather than in boto, so that a request, a truncated body and a reset in the
middle of one all share the same patience.
"""

from __future__ import annotations

import logging
import math
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from pipeline.errors import StorageUnavailable
from pipeline.runtime.config import Tuning, tuning
from pipeline.storage.base import nothing
from pipeline.storage.s3.errors import (
    WrongContent,
    code_of,
    is_passing,
    not_s3,
    reason_of,
    refusal_as_a_whole,
    status_of,
)
from pipeline.storage.write_guard import before_change

T = TypeVar("T")

_LONGEST_PAUSE_S = 20.0
_TRIES_IF_WRONG = 3
_UNSEEN_S = 1.0
"""What passes sooner is not worth a word."""
_TOLD_AGAIN_AFTER_S = 60.0
_STEP_S = 0.5
"""How long a pause lasts before it asks whether to go on."""


_log = logging.getLogger("gpucapt")


@dataclass(slots=True)
class Connection:
    """A client of botocore and what is known about its endpoint."""

    client: Any
    tuning: Tuning
    has_answered: bool = False
    clock_offset_s: float = 0.0
    """How far the store's clock is ahead of this machine's."""
    quotes_conditions: bool = False
    """Whether the ETag of a condition is sent in quotes."""
    _told_at: float = -math.inf

    @property
    def endpoint(self) -> str:
        """Where requests go, as a URL without user and password."""
        url: str = self.client.meta.endpoint_url
        scheme, _, rest = url.partition("://")
        return f"{scheme}://{rest.rpartition('@')[2]}"

    def persist(self, call: Callable[[], T], what: str, *, go_on: Callable[[], None] = nothing) -> T:
        """The result of a call that is tried again while it fails for a passing reason.

        Raises StorageUnavailable when that goes on until the deadline; other errors as they come. ``go_on``
        is called before each try and during pauses, and raises to give up.
        """
        began = time.monotonic()
        failing_since: float | None = None
        wrong = 0
        pause = 0.1
        while True:
            go_on()
            before_change()
            try:
                result = call()
            except Exception as error:
                self.has_answered = self.has_answered or _is_an_answer(error)
                if not is_passing(error):
                    raise
                now = time.monotonic()
                failing_since = now if failing_since is None else failing_since
                pause = min(_LONGEST_PAUSE_S, 2 * pause)
                limit = self.tuning.s3_deadline if self.has_answered else self.tuning.s3_first_deadline
                wrong += isinstance(error, WrongContent)
                if now + pause - failing_since > limit or wrong == _TRIES_IF_WRONG:
                    raise self.given_up(error, what) from error
                # A first try may wait long for an answer; later ones may have moved much before they failed.
                if now + pause - (failing_since if self.has_answered else began) >= _UNSEEN_S:
                    self._tell_of_waiting(error, limit)
                _sleep(pause * random.uniform(0.5, 1.0), go_on)
            else:
                self.has_answered = True
                return result

    def given_up(self, error: Exception, what: str) -> StorageUnavailable:
        """What to tell when patience has come to its end."""
        if not self.has_answered and (status_of(error) or type(error).__name__ == "ResponseParserError"):
            return StorageUnavailable(not_s3(what, self.endpoint, reason_of(error)))
        if not self.has_answered:
            return StorageUnavailable(
                f"{what}: {self.endpoint} cannot be reached ({reason_of(error)});"
                " check AWS_ENDPOINT_URL and the network"
            )
        if isinstance(error, WrongContent):
            return StorageUnavailable(
                f"{what}: {error}, {_TRIES_IF_WRONG} times in a row; if the ETags of this storage are no MD5,"
                " set GPUCAPT_S3_VERIFY=false"
            )
        return StorageUnavailable(
            f"{what}: the storage does not work ({reason_of(error)}), tried again for"
            f" {self.tuning.s3_deadline:.0f} s; try later"
        )

    def _tell_of_waiting(self, error: Exception, limit_s: float) -> None:
        """Say why nothing seems to happen; once, though many threads wait."""
        now = time.monotonic()
        if now - self._told_at >= _TOLD_AGAIN_AFTER_S:
            self._told_at = now
            _log.warning("%s: %s; tried again for %.0f s", self.endpoint, reason_of(error), limit_s)

    def now(self) -> float:
        """The time by the store's clock, in seconds since the epoch, to about a second."""
        return time.time() + self.clock_offset_s

    def _note_date(self, parsed: Mapping[str, Any], **rest: Any) -> None:
        date = parsed.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        if date:
            try:
                self.clock_offset_s = parsedate_to_datetime(date).timestamp() - time.time()
            except ValueError:
                return


def _is_an_answer(error: Exception) -> bool:
    """Whether an error is one of an object store, or of a balancer before it, and not some web page."""
    return bool(code_of(error)) or status_of(error) in (429, 502, 503, 504)


def _sleep(seconds: float, go_on: Callable[[], None]) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        go_on()
        time.sleep(min(left, _STEP_S))


_connections: dict[object, Connection] = {}
_lock = threading.Lock()


def connection() -> Connection:
    """The connection for the environment as it is now. Raises StorageUnavailable where none can be made."""
    chosen = tuple(sorted(item for item in os.environ.items() if item[0].startswith(("AWS_", "GPUCAPT_S3_"))))
    # A client must not be used on both sides of a fork.
    known_as = (os.getpid(), chosen)
    with _lock:
        if known_as not in _connections:
            _connections[known_as] = _connect(tuning())
        return _connections[known_as]


def _connect(chosen: Tuning) -> Connection:
    import botocore.session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(
        connect_timeout=chosen.s3_connect_timeout,
        read_timeout=chosen.s3_read_timeout,
        max_pool_connections=chosen.s3_connections,
        tcp_keepalive=True,
        retries={"total_max_attempts": 1, "mode": "standard"},
        # Trailing checksums are unknown to many stores; we send Content-MD5, which all know.
        request_checksum_calculation="when_required",
        # Boto would take what some stores say of the checksums of parts for one of the whole; we compare.
        response_checksum_validation="when_required",
        user_agent_extra="gpucapt",
    )
    session = botocore.session.Session()
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_time_of)
    try:
        client = session.create_client("s3", config=config)
    except (BotoCoreError, ValueError) as error:
        known = refusal_as_a_whole(error, "s3", "")
        raise known or StorageUnavailable(f"s3: {reason_of(error)}") from error
    made = Connection(client, chosen)
    made.quotes_conditions = ".amazonaws.com" in made.endpoint
    client.meta.events.register("after-call.s3", made._note_date)
    client.meta.events.register("before-sign.s3.DeleteObjects", _add_content_md5)
    client.meta.events.register("before-call.s3.HeadBucket", _ask_once)
    client.meta.events.register("before-call.s3.GetObject", _ask_for_checksum)
    return made


def _time_of(value: Any) -> datetime:
    """A time in an answer. Listings are full of them, and boto takes long over each."""
    from botocore.utils import parse_timestamp

    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        found: datetime = parse_timestamp(value)
        return found


def _ask_for_checksum(params: dict[str, Any], **rest: Any) -> None:
    """As the parameter ChecksumMode does, with which boto would compare it, too."""
    params["headers"]["x-amz-checksum-mode"] = "ENABLED"


def _ask_once(context: dict[str, Any], **rest: Any) -> None:
    """When a request is redirected, boto asks by HeadBucket for the region of the bucket. A web server
    redirects that as well, and boto would ask for ever.
    """
    context["s3_redirect"]["redirected"] = True


def _add_content_md5(request: Any, **rest: Any) -> None:
    """Older stores refuse to delete in batches without it."""
    from pipeline.storage.s3.checksums import content_md5

    request.headers["Content-MD5"] = content_md5(request.body)
