"""Of several workers one has a source; the claim of a worker that is gone is free."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline.claims import Claim, ClaimLost, Claims, claim_key
from pipeline.processes import Process
from pipeline.storage import Storage, open_storage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path))


def expire(storage: Storage, key: str) -> None:
    """Write a claim as if its lease had been over for a second."""
    path = claim_key(key)
    fields = json.loads(storage.read(path))
    storage.write(path, json.dumps({**fields, "expires": time.time() - 1}).encode())


def test_one_of_many_wins(storage: Storage) -> None:
    workers = [Claims(storage) for _ in range(8)]
    won: list[Claim | None] = []
    threads = [threading.Thread(target=lambda one=one: won.append(one.take("clip.mp4"))) for one in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(claim is not None for claim in won) == 1


def test_a_released_source_is_free_and_nothing_is_left_of_the_claim(storage: Storage) -> None:
    first, second = Claims(storage), Claims(storage)
    claim = first.take("trip/clip.mp4")
    assert claim is not None and second.take("trip/clip.mp4") is None
    claim.release()
    assert storage.stat(claim_key("trip/clip.mp4")) is None
    assert second.take("trip/clip.mp4") is not None


def test_a_folder_and_a_video_in_it_are_claimed_apart(storage: Storage) -> None:
    claims = Claims(storage)
    assert claims.take("trip/clip.mp4") is not None
    assert claims.take("trip") is not None


def test_a_claim_that_is_nested_too_deeply_has_a_lease_s_time(storage: Storage) -> None:
    path = Path(storage.url, claim_key("clip.mp4"))
    storage.write(claim_key("clip.mp4"), b"[" * 100_000)
    assert Claims(storage).take("clip.mp4") is None
    os.utime(path, (time.time() - 1000,) * 2)
    assert Claims(storage).take("clip.mp4") is not None


def test_an_expired_claim_is_taken_over_and_its_holder_notices(storage: Storage) -> None:
    holder, other = Claims(storage), Claims(storage)
    lost = holder.take("clip.mp4")
    assert lost is not None
    expire(storage, "clip.mp4")
    taken = other.take("clip.mp4")
    assert taken is not None
    with pytest.raises(ClaimLost):
        lost.renew()
    with pytest.raises(ClaimLost):
        lost.check()
    lost.release()
    taken.check()
    assert storage.stat(claim_key("clip.mp4")) is not None


def test_a_holder_that_slept_asks_before_it_writes(storage: Storage) -> None:
    holder, other = Claims(storage, lease_s=0.2), Claims(storage)
    lost = holder.take("clip.mp4")
    assert lost is not None
    lost.check()
    time.sleep(0.3)
    assert other.take("clip.mp4") is not None
    with pytest.raises(ClaimLost):
        lost.check()


def test_a_worker_renews_what_it_holds_for_as_long_as_it_works(storage: Storage) -> None:
    with Claims(storage, lease_s=1.0) as holder:
        claim = holder.take("clip.mp4")
        assert claim is not None
        before = storage.read(claim_key("clip.mp4"))
        deadline = time.monotonic() + 30
        while storage.read(claim_key("clip.mp4")) == before and time.monotonic() < deadline:
            time.sleep(0.05)
        assert storage.read(claim_key("clip.mp4")) != before
        assert Claims(storage).take("clip.mp4") is None
    assert storage.stat(claim_key("clip.mp4")) is None


def test_the_claim_of_a_killed_process_is_free_at_once_even_before_it_is_reaped(storage: Storage) -> None:
    code = (
        "import sys, time; from pipeline.claims import Claims; from pipeline.storage import open_storage\n"
        "Claims(open_storage(sys.argv[1])).take('clip.mp4'); print('claimed', flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, storage.url], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "claimed\n"
        assert Claims(storage).take("clip.mp4") is None
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and still in the table
        assert Claims(storage).take("clip.mp4") is not None


def test_a_process_of_another_machine_is_never_known_to_be_gone() -> None:
    here = Process.of_this()
    assert not here.is_gone()
    assert Process(here.host, here.machine, here.pid, "1").is_gone()
    assert not Process(here.host, "another boot", here.pid, "1").is_gone()
    assert not Process.from_json({}).is_gone()


@pytest.mark.parametrize("content", [b"", b"not json", b"[]", b'{"expires": "soon"}'])
def test_a_damaged_claim_is_free_when_a_lease_has_passed(
    tmp_path: Path, storage: Storage, content: bytes
) -> None:
    storage.write(claim_key("clip.mp4"), content)
    assert Claims(storage).take("clip.mp4") is None
    os.utime(tmp_path / claim_key("clip.mp4"), (time.time() - 100,) * 2)
    assert Claims(storage).take("clip.mp4") is not None
