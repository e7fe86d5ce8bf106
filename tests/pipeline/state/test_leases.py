"""Of several workers one has a source; the claim of a worker that is gone is free."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import pipeline.state.leases
from pipeline.runtime.process_identity import Process
from pipeline.state.leases import Claim, ClaimLost, Claims, claim_key
from pipeline.storage.base import Storage
from pipeline.storage.open import open_storage
from pipeline.storage.write_guard import fenced


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path))


def change(storage: Storage, key: str, **fields: object) -> None:
    """Write a claim as another machine would have."""
    path = claim_key(key)
    storage.write(path, json.dumps({**json.loads(storage.read(path)), **fields}).encode())


def taken(claims: Claims, key: str, *, within_s: float = 20.0) -> Claim:
    """The claim, as soon as it can be had."""
    deadline = time.monotonic() + within_s
    while (claim := claims.take(key)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return claim


@pytest.fixture
def sleep(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets a whole lease go by in no time; what comes before and after may take as long as it likes."""
    clock = pipeline.state.leases.clock_s

    def sleep() -> None:
        monkeypatch.setattr(pipeline.state.leases, "clock_s", lambda: clock() + pipeline.state.leases.LEASE_S)

    return sleep


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
    storage.write(claim_key("clip.mp4"), b"[" * 100_000)
    assert Claims(storage).take("clip.mp4") is None
    taken(Claims(storage, lease_s=0.1), "clip.mp4")


@pytest.mark.parametrize("clock_s", [-1000, 0, 1000])
def test_a_claim_that_nobody_renews_is_taken_over_and_its_holder_notices(
    storage: Storage, clock_s: float
) -> None:
    """Whatever the clock of the holder's machine says."""
    holder, other = Claims(storage, lease_s=0.3), Claims(storage)
    lost = holder.take("clip.mp4")
    assert lost is not None
    change(storage, "clip.mp4", expires=time.time() + clock_s)
    started = time.monotonic()
    now_theirs = taken(other, "clip.mp4")
    assert time.monotonic() - started > 0.3, "it had its whole lease"
    for use in (lost.renew, lost.check, lost.assert_held):
        with pytest.raises(ClaimLost):
            use()
    lost.release()
    now_theirs.check()
    now_theirs.assert_held()
    assert storage.stat(claim_key("clip.mp4")) is not None


def test_a_claim_that_was_left_long_ago_is_free_at_once(storage: Storage) -> None:
    assert Claims(storage).take("clip.mp4") is not None
    change(storage, "clip.mp4", expires=time.time() - 3600)
    assert Claims(storage).take("clip.mp4") is not None


def test_a_holder_that_slept_asks_before_it_writes(storage: Storage) -> None:
    holder, other = Claims(storage, lease_s=0.2), Claims(storage)
    lost = holder.take("clip.mp4")
    assert lost is not None
    lost.check()
    taken(other, "clip.mp4")
    with pytest.raises(ClaimLost):
        lost.check()


def test_a_holder_that_slept_while_nobody_came_goes_on(storage: Storage, sleep: Callable[[], None]) -> None:
    claim = Claims(storage).take("clip.mp4")
    assert claim is not None
    sleep()
    with pytest.raises(ClaimLost):
        claim.assert_held()  # it must not write before it has asked
    claim.check()
    claim.assert_held()


def test_nothing_is_written_after_the_lease_is_over(storage: Storage, sleep: Callable[[], None]) -> None:
    """Not even by a request that has been on its way, or tried again, for so long."""
    claim = Claims(storage).take("clip.mp4")
    assert claim is not None
    with fenced(claim.assert_held):
        storage.write("clip.mp4/captions.csv", b"mine")
        sleep()
        for change in (
            lambda: storage.write("clip.mp4/captions.csv", b"late"),
            lambda: storage.create("clip.mp4/manifest.json", b"late"),
            lambda: storage.delete("clip.mp4/captions.csv"),
            lambda: storage.delete_folder("clip.mp4"),
        ):
            with pytest.raises(ClaimLost):
                change()
    assert storage.read("clip.mp4/captions.csv") == b"mine"
    assert storage.stat("clip.mp4/manifest.json") is None


def test_no_two_claims_have_the_same_content(storage: Storage) -> None:
    """ETags of S3 are digests: of two alike, neither could tell that the other was there."""
    claims = Claims(storage)
    claim = claims.take("clip.mp4")
    assert claim is not None
    said = set()
    for _ in range(50):
        claim.renew()
        said.add(storage.read(claim_key("clip.mp4")))
    assert len(said) == 50


def test_what_a_worker_gave_up_it_can_take_again_at_once(storage: Storage) -> None:
    claims = Claims(storage)
    claim = claims.take("clip.mp4")
    assert claim is not None and claims.take("clip.mp4") is None
    claim.abandon()
    assert Claims(storage).take("clip.mp4") is None
    assert claims.take("clip.mp4") is not None


def test_what_is_remembered_of_others_claims_is_bounded(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline.state.leases, "_MOST_SEEN", 3)
    first, second = Claims(storage, lease_s=0.5), Claims(storage, lease_s=0.5)
    for key in "abcde":
        assert first.take(key) is not None and second.take(key) is None
    assert len(second._seen) == 3
    taken(second, "e")
    taken(second, "a")


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
        "import sys, time; from pipeline.state.leases import Claims\n"
        "from pipeline.storage.open import open_storage\n"
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
def test_a_damaged_claim_is_free_when_a_lease_has_passed(storage: Storage, content: bytes) -> None:
    storage.write(claim_key("clip.mp4"), content)
    claims = Claims(storage, lease_s=0.3)
    assert claims.take("clip.mp4") is None
    taken(claims, "clip.mp4")
