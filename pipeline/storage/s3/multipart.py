"""Large objects, piece by piece, several pieces at a time; given up means nothing is left behind."""

from __future__ import annotations

import base64
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pipeline.storage.base import nothing
from pipeline.storage.s3.checksums import Digest, etag_of_parts, new_md5
from pipeline.storage.s3.client import Connection
from pipeline.storage.s3.errors import DamagedTransfer, code_of, is_passing

A = TypeVar("A")
B = TypeVar("B")

_BLOCK = 1 << 20
_MOST_PARTS = 10_000
"""In one upload, says S3."""
_TRIES_TO_ABORT = 3
_GRACE_S = 5.0
"""How long giving up waits for a storage that does not answer: who tells a process to stop soon kills it."""

GoOn = Callable[[], None]


class GivenUp(Exception):
    """Another piece of the same transfer failed."""


def in_parallel(work: Callable[[A, GoOn], B], over: Iterable[A], *, threads: int, go_on: GoOn) -> Iterator[B]:
    """The results in order. When one fails, or the caller gives up, the others soon end, too."""
    over_early = threading.Event()

    def check() -> None:
        if over_early.is_set():
            raise GivenUp
        go_on()

    with ThreadPoolExecutor(threads, thread_name_prefix="transfer") as pool:
        waiting: deque[Future[B]] = deque()
        try:
            for one in over:
                waiting.append(pool.submit(work, one, check))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            over_early.set()
            for future in waiting:
                future.cancel()


def pieces(size: int, piece_size: int) -> Iterator[tuple[int, int]]:
    """(first byte, length) of each piece."""
    for start in range(0, size, piece_size):
        yield start, min(piece_size, size - start)


def fetch(
    made: Connection, wanted: dict[str, str], size: int, path: Path, digest: Digest, *, go_on: GoOn
) -> dict[str, Any]:
    """Fetch an object into a file by ranges; `digest` takes in its bytes. Returns headers of an answer.

    Raises ClientError when the object is not (or no longer) what `wanted` (Bucket, Key, IfMatch) asks for,
    StorageUnavailable.
    """
    what = f"s3://{wanted['Bucket']}/{wanted['Key']}"
    with path.open("w+b") as file:
        descriptor = file.fileno()

        def one(piece: tuple[int, int], check: GoOn) -> tuple[int, int, dict[str, Any]]:
            start, length = piece
            done = 0
            headers: dict[str, Any] = {}

            def attempt() -> None:
                nonlocal done, headers
                span = f"bytes={start + done}-{start + length - 1}"
                headers = made.client.get_object(**wanted, Range=span)
                with headers["Body"] as body:
                    while block := body.read(_BLOCK):
                        if done + len(block) > length:
                            raise DamagedTransfer("answers are longer than asked for")
                        os.pwrite(descriptor, block, start + done)
                        done += len(block)
                        check()
                if done < length:
                    raise DamagedTransfer("answers break off")

            made.persist(attempt, what, go_on=check)
            return start, length, headers

        headers: dict[str, Any] = {}
        tuning = made.tuning
        found = in_parallel(one, pieces(size, tuning.s3_piece_size), threads=tuning.s3_transfers, go_on=go_on)
        for start, length, headers in found:  # noqa: B007
            # Read back while the next pieces come: it is still in memory.
            for offset, count in pieces(length, _BLOCK):
                digest.update(os.pread(descriptor, count, start + offset))
    return headers


@dataclass(frozen=True, slots=True, eq=False)
class _Upload:
    """An upload in parts that is under way."""

    made: Connection
    target: dict[str, str]
    id: str

    def abort(self) -> None:
        """Take it back, if the storage lets us."""
        for _ in range(_TRIES_TO_ABORT):
            try:
                self.made.client.abort_multipart_upload(**self.target, UploadId=self.id)
            except Exception as error:
                if not is_passing(error):
                    return
                time.sleep(0.5)
            else:
                return


_open_uploads: set[_Upload] = set()


@contextmanager
def upload_in_parts(made: Connection, target: dict[str, str], **about: Any) -> Iterator[str]:
    """The id of a new upload, which is aborted when the context is left by an exception."""
    what = f"s3://{target['Bucket']}/{target['Key']}"
    answer = made.persist(lambda: made.client.create_multipart_upload(**target, **about), what)
    begun = _Upload(made, target, answer["UploadId"])
    _open_uploads.add(begun)
    try:
        yield begun.id
    except BaseException:
        _take_back([begun])
        raise
    finally:
        _open_uploads.discard(begun)


def abort_all() -> None:
    """Take back what is being uploaded when the process ends without waiting for its threads."""
    _take_back(list(_open_uploads))


def _take_back(uploads: list[_Upload]) -> None:
    """Abort them, all at the same time, and wait for it as long as there is patience."""
    until = time.monotonic() + _GRACE_S
    threads = [threading.Thread(target=begun.abort, name="abort", daemon=True) for begun in uploads]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))


def complete(made: Connection, target: dict[str, str], upload: str, etags: list[str]) -> bool:
    """Make one object of all parts; False where it probably is one: the answer got lost."""
    parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, start=1)]
    what = f"s3://{target['Bucket']}/{target['Key']}"
    tries = 0

    def ask() -> None:
        nonlocal tries
        tries += 1
        made.client.complete_multipart_upload(**target, UploadId=upload, MultipartUpload={"Parts": parts})

    try:
        made.persist(ask, what)
    except Exception as error:
        if tries == 1 or code_of(error) != "NoSuchUpload":
            raise
        return False
    return True


def send(made: Connection, target: dict[str, str], path: Path, size: int, **about: Any) -> tuple[bool, str]:
    """Upload a large file in parts; returns whether it surely is there, and the ETag it should have."""
    part_size = part_size_for(size, made.tuning.s3_part_size)
    what = f"s3://{target['Bucket']}/{target['Key']}"
    with path.open("rb") as file, upload_in_parts(made, target, **about) as upload:
        descriptor = file.fileno()

        def one(numbered: tuple[int, tuple[int, int]], check: GoOn) -> tuple[str, bytes]:
            number, (start, length) = numbered
            data = os.pread(descriptor, length, start)
            if len(data) != length:
                raise OSError(f"{path} became shorter while it was read")
            md5 = new_md5()
            md5.update(data)
            answer = made.persist(
                lambda: made.client.upload_part(
                    **target, UploadId=upload, PartNumber=number, Body=data, ContentMD5=_base64(md5.digest())
                ),
                what,
                go_on=check,
            )
            return answer["ETag"], md5.digest()

        threads = min(4, made.tuning.s3_transfers)
        sent = list(in_parallel(one, enumerate(pieces(size, part_size), 1), threads=threads, go_on=nothing))
        is_sure = complete(made, target, upload, [etag for etag, _ in sent])
    return is_sure, etag_of_parts(md5 for _, md5 in sent)


def copy_parts(
    made: Connection,
    target: dict[str, str],
    source: dict[str, Any],
    parts: list[tuple[int, int]],
    about: dict[str, Any],
) -> None:
    """Let the storage copy an object in parts, (first byte, length) each."""
    what = f"s3://{target['Bucket']}/{target['Key']}"
    with upload_in_parts(made, target, **about) as upload:

        def one(numbered: tuple[int, tuple[int, int]], check: GoOn) -> str:
            number, (start, length) = numbered
            span = f"bytes={start}-{start + length - 1}"
            answer = made.persist(
                lambda: made.client.upload_part_copy(
                    **target, **source, UploadId=upload, PartNumber=number, CopySourceRange=span
                ),
                what,
                go_on=check,
            )
            return str(answer["CopyPartResult"]["ETag"])

        threads = min(4, made.tuning.s3_transfers)
        etags = list(in_parallel(one, enumerate(parts, 1), threads=threads, go_on=nothing))
        complete(made, target, upload, etags)


def part_size_for(size: int, usual: int) -> int:
    """The usual part size, or more where the object would have too many parts."""
    least = -(-size // _MOST_PARTS)
    return max(usual, -(-least // _BLOCK) * _BLOCK)


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
