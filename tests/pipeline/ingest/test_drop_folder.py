"""The drop folder's promises, each on disk and in a bucket of a real object store."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from model.errors import GpucaptError
from pipeline.errors import StorageUnavailable
from pipeline.ingest.finish import finish
from pipeline.ingest.plan import Planning
from pipeline.records.settings import CaptionSettings
from pipeline.storage.base import Storage
from pipeline.storage.open import open_storage
from tests.media import write_video
from tests.pipeline.jobs import Rounds, write_still
from tests.services.s3 import S3Server

pytestmark = pytest.mark.slow


class Drop(Rounds):
    """A drop folder with what is beside it, wherever that is."""

    def __init__(self, root: str, model: Path, scratch: Path) -> None:
        self.root, self.scratch = root, scratch
        self.settings = CaptionSettings(model=str(model), precision="fp32", beam_size=2, max_length=8)
        self.settle_s = -1.0 if root.startswith("s3:") else 0.0  # stores tell the time in whole seconds
        if not root.startswith("s3:"):
            Path(root, "incoming").mkdir(parents=True)

    def at(self, name: str) -> Storage:
        return open_storage(f"{self.root}/{name}")

    def still(self, key: str, number: int = 0) -> None:
        path = write_still(self.scratch / "still.png", number)
        self.at("incoming").write(key, path.read_bytes())

    def film(self, key: str, scene: str = "cat", *, frames: int = 20) -> None:
        path = write_video(self.scratch / f"film{Path(key).suffix}", (scene,), frames_each=frames)
        self.at("incoming").write(key, path.read_bytes())

    def plan(self, **options: Any) -> dict[str, Any]:
        options = {"settle_s": self.settle_s, **options}
        return Planning(f"{self.root}/incoming", f"{self.root}/out", self.settings, **options).run()

    def keys(self, name: str) -> list[str]:
        return [entry.key for entry in self.at(name).list()]

    def moved(self, name: str) -> list[str]:
        """What lies in archive or failed, without the name of the run."""
        return sorted(key.partition("/")[2] for key in self.keys(name))

    def rows(self, key: str) -> list[dict[str, Any]]:
        lines = self.at("out").read(f"{key}/captions.jsonl").splitlines()
        return [json.loads(line) for line in lines]

    def counts(self, plan: dict[str, Any]) -> dict[str, int]:
        run = plan["run"].rpartition("/")[2]
        found: dict[str, int] = json.loads(self.at("out").read(f"runs/{run}/summary.json"))["counts"]
        return found

    def tracks(self) -> dict[str, str]:
        """Everything outside .gpucapt with its ETag; local ones tell when they were written."""
        names = ("incoming", "archive", "failed", "out")
        found = ((name, entry) for name in names for entry in self.at(name).list())
        return {
            f"{name}/{entry.key}": f"{entry.etag} {entry.modified:.0f}"
            for name, entry in found
            if not entry.key.startswith(".gpucapt")
        }


@pytest.fixture(params=["disk", "bucket"])
def drop(request: pytest.FixtureRequest, tiny_model: Path, tmp_path: Path) -> Drop:
    on_disk = request.param == "disk"
    root = str(tmp_path / "root") if on_disk else f"s3://{request.getfixturevalue('bucket')}/some/prefix"
    return Drop(root, tiny_model, tmp_path / "scratch")


def test_good_ones_are_archived_and_bad_ones_tell_why(drop: Drop) -> None:
    drop.film("trip/clip.webm")
    drop.still("cam/a.png", 1)
    drop.still("cam/b.png", 2)
    drop.at("incoming").write("cam/torn.jpg", b"\xff\xd8 torn")
    drop.at("incoming").write("bad.mp4", b"no film")
    drop.at("incoming").write("note.txt", b"ignored")
    plan = drop.round()
    assert [row["frame"] for row in drop.rows("cam")] == ["a.png", "b.png"]
    assert len(drop.rows("trip/clip.webm")) == 2
    assert drop.keys("incoming") == ["note.txt"]
    assert drop.moved("archive") == ["cam/a.png", "cam/b.png", "trip/clip.webm"]
    bad = ["bad.mp4", "bad.mp4.error.json", "cam/torn.jpg", "cam/torn.jpg.error.json"]
    assert drop.moved("failed") == bad
    run = plan["run"].rpartition("/")[2]
    why = json.loads(drop.at("failed").read(f"{run}/cam/torn.jpg.error.json"))
    assert f"runs/{run}/report.html" in drop.keys("out")
    report = drop.at("out").read("trip/clip.webm/report.html").decode()
    assert f'"places":["clip.webm","../../../archive/{run}/trip/clip.webm"]' in report
    assert why["key"] == "cam/torn.jpg" and why["run"] == run and "torn.jpg" in why["reason"]
    assert drop.counts(plan)["errors"] == 2 and drop.counts(plan)["captioned"] == 2


def test_nothing_to_do_is_success_and_leaves_no_trace(drop: Drop) -> None:
    drop.film("clip.webm")
    drop.round()
    before = drop.tracks(), drop.keys("out")
    plan = drop.plan()
    assert plan["shards"] == [] and "nothing to do" in finish(plan["run"])
    assert (drop.tracks(), drop.keys("out")) == before


def test_frames_that_arrive_over_days_end_in_one_output(drop: Drop) -> None:
    for number in range(3):
        drop.still(f"cam/{number}.png", number)
        drop.round()
        assert [row["frame"] for row in drop.rows("cam")] == [f"{n}.png" for n in range(number + 1)]
    assert drop.moved("archive") == ["cam/0.png", "cam/1.png", "cam/2.png"]


def test_another_film_with_the_same_key_is_captioned_and_overwrites_nothing(drop: Drop) -> None:
    drop.film("clip.webm", "cat")
    drop.round()
    [first] = drop.keys("archive")
    content = drop.at("archive").read(first)
    drop.film("clip.webm", "coffee", frames=50)
    drop.round()
    assert len(drop.rows("clip.webm")) == 5
    assert drop.at("archive").read(first) == content and len(drop.keys("archive")) == 2
    for _ in range(2):
        drop.at("incoming").write("clip.webm", b"bad")
        drop.round()
    assert drop.moved("failed").count("clip.webm") == 2


def test_the_same_bytes_sent_again_are_archived_again(drop: Drop) -> None:
    drop.still("cam/0.png")
    drop.round()
    wait_for_another_second()
    drop.still("cam/0.png")
    drop.round()
    assert drop.keys("incoming") == [] and drop.moved("archive") == ["cam/0.png", "cam/0.png"]
    assert len(drop.rows("cam")) == 1


def test_what_arrives_or_changes_during_a_run_is_for_the_next_one(drop: Drop) -> None:
    drop.film("clip.webm")
    drop.still("cam/0.png", 0)
    plan = drop.plan()
    drop.shards(plan)
    wait_for_another_second()
    drop.film("clip.webm", "coffee", frames=40)
    drop.still("cam/1.png", 1)
    drop.film("new.webm")
    finish(plan["run"])
    assert drop.keys("incoming") == ["cam/1.png", "clip.webm", "new.webm"]
    drop.round()
    assert drop.keys("incoming") == []
    assert len(drop.rows("clip.webm")) == 4 and len(drop.rows("cam")) == 2 and drop.rows("new.webm")


def test_a_film_replaced_between_plan_and_shard_is_left(drop: Drop) -> None:
    drop.film("clip.webm")
    plan = drop.plan()
    drop.film("clip.webm", "coffee", frames=40)
    drop.shards(plan)
    finish(plan["run"])
    assert drop.keys("incoming") == ["clip.webm"] and drop.counts(plan)["left"] == 1


def test_young_files_are_left_alone(drop: Drop) -> None:
    drop.film("clip.webm")
    assert drop.plan(settle_s=60.0)["shards"] == []


def test_finish_that_was_killed_while_moving_goes_on(drop: Drop, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        drop.still(f"cam/{number}.png", number)
    drop.at("incoming").write("bad.mp4", b"bad")
    plan = drop.plan()
    drop.shards(plan)
    run = plan["run"].rpartition("/")[2]
    drop.at("archive").write(f"{run}/cam/0.png", b"half a pic")  # as a store with no whole writes might
    incoming = drop.at("incoming")
    incoming.move("cam/1.png", drop.at("archive"), f"{run}/cam/1.png")
    with incoming.local_path("cam/2.png") as path:  # copied, not yet deleted
        drop.at("archive").upload(path, f"{run}/cam/2.png")
    finish(plan["run"])
    assert drop.keys("incoming") == ["cam/0.png"], "another file is in its place; it is not overwritten"
    assert drop.at("archive").read(f"{run}/cam/0.png") == b"half a pic"
    assert drop.moved("failed") == ["bad.mp4", "bad.mp4.error.json"]
    drop.round()
    assert drop.keys("incoming") == [] and len(drop.rows("cam")) == 6


def test_finish_twice_moves_nothing_that_came_in_between(drop: Drop) -> None:
    drop.still("cam/0.png")
    plan = drop.plan()
    drop.shards(plan)
    finish(plan["run"])
    wait_for_another_second()
    drop.still("cam/0.png")  # the same bytes
    before = drop.tracks()
    assert "finished before" in finish(plan["run"])
    run = plan["run"].rpartition("/")[2]
    drop.at("out").delete(f"runs/{run}/summary.json")  # as if it had been killed at its end
    finish(plan["run"])
    assert drop.keys("incoming") == ["cam/0.png"]
    assert {key: drop.tracks()[key] for key in before if "archive" in key} == {
        key: before[key] for key in before if "archive" in key
    }


def test_two_plans_by_mistake_do_nothing_twice(drop: Drop) -> None:
    drop.film("clip.webm")
    drop.still("cam/0.png")
    one, other = drop.plan(), drop.plan()
    drop.shards(one)
    drop.shards(other)
    finish(one["run"])
    before = drop.tracks()
    finish(other["run"])
    after = drop.tracks()
    assert {key: after[key] for key in before} == before
    assert all("/runs/" in key for key in after.keys() - before.keys())
    assert drop.moved("archive") == ["cam/0.png", "clip.webm"]


def test_old_run_folders_are_removed_and_their_summaries_stay(drop: Drop) -> None:
    drop.still("cam/0.png")
    drop.round()
    out = drop.at("out")
    ages = {"finished": 8, "young": 6, "unfinished": 8, "ancient": 31}
    names = {}
    for name, days in ages.items():
        names[name] = f"{datetime.now(UTC) - timedelta(days=days):%Y%m%dT%H%M%SZ}-{name}"
        for key in ("plan.json", "shards/00000.jsonl"):
            out.write(f".gpucapt/runs/{names[name]}/{key}", b"{}")
        if name in ("finished", "young"):
            out.write(f"runs/{names[name]}/summary.json", b"{}")
    drop.plan()
    runs = {
        key.split("/")[2].partition("-")[2] for key in drop.keys("out") if key.startswith(".gpucapt/runs/")
    }
    assert {"young", "unfinished"} <= runs and not runs & {"finished", "ancient"}
    assert len(runs) == 3, "and the run of today"
    assert out.stat(f"runs/{names['finished']}/summary.json") is not None


@pytest.mark.parametrize("shards", [None, 1])
def test_a_large_film_in_pieces(drop: Drop, shards: int | None) -> None:
    drop.film("clip.mp4", frames=60)
    plan = drop.round(shard_size=8_000, shards=shards)
    assert len(plan["shards"]) == (shards or 2)
    assert [row["frame"] for row in drop.rows("clip.mp4")] == [0, 10, 20, 30, 40, 50]
    assert drop.moved("archive") == ["clip.mp4"]
    leftovers = [key for key in drop.keys("out") if key.startswith((".gpucapt/parts", ".gpucapt/claims"))]
    assert leftovers == []


def wait_for_another_second() -> None:
    """Object stores tell the time of an object in whole seconds."""
    time.sleep(2.0)


# What only disks have


@pytest.fixture
def on_disk(tiny_model: Path, tmp_path: Path) -> Drop:
    return Drop(str(tmp_path / "root"), tiny_model, tmp_path / "scratch")


def test_a_file_that_still_grows_is_left_whatever_its_time_says(
    on_disk: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk.film("growing.webm")
    on_disk.still("cam/0.png")
    on_disk.still("cam/1.png")
    incoming = Path(on_disk.root, "incoming")
    old = time.time() - 3600
    for path in incoming.rglob("*.*"):
        os.utime(path, (old, old))
    original = time.sleep

    def meanwhile(seconds: float) -> None:
        for name in ("growing.webm", "cam/1.png"):
            path = incoming / name
            path.write_bytes(path.read_bytes() + b"more")
            os.utime(path, (old, old))  # as programs do that keep the time of the original
        original(0)

    with monkeypatch.context() as patched:
        patched.setattr("pipeline.ingest.plan.time.sleep", meanwhile)
        plan = on_disk.plan(settle_s=10.0)
    on_disk.shards(plan)
    finish(plan["run"])
    assert on_disk.keys("incoming") == ["cam/1.png", "growing.webm"]
    assert [row["frame"] for row in on_disk.rows("cam")] == ["0.png"]


def test_a_place_that_is_taken_keeps_one_file_and_not_the_others(on_disk: Drop) -> None:
    on_disk.still("cam/0.png")
    on_disk.still("cam/1.png")
    plan = on_disk.plan()
    on_disk.shards(plan)
    taken = Path(on_disk.root, "archive", plan["run"].rpartition("/")[2], "cam/0.png/folder")
    taken.mkdir(parents=True)
    finish(plan["run"])
    assert on_disk.keys("incoming") == ["cam/0.png"] and on_disk.moved("archive") == ["cam/1.png"]


# What only buckets have


@pytest.fixture
def in_bucket(bucket: str, tiny_model: Path, tmp_path: Path) -> Drop:
    return Drop(f"s3://{bucket}", tiny_model, tmp_path / "scratch")


def test_an_empty_prefix_is_an_empty_folder_and_a_missing_bucket_is_an_error(in_bucket: Drop) -> None:
    assert in_bucket.plan()["shards"] == []
    missing = replace(
        Planning(f"{in_bucket.root}/incoming", f"{in_bucket.root}/out", in_bucket.settings),
        incoming="s3://no-such-bucket-of-ours/incoming",
    )
    with pytest.raises(GpucaptError, match="no-such-bucket-of-ours"):
        missing.run()


def test_what_consoles_put_to_show_a_folder_is_ignored(
    in_bucket: Drop, s3_server: S3Server, bucket: str
) -> None:
    for key in ("incoming/", "incoming/cam/", "incoming/empty/"):
        s3_server.client.put_object(Bucket=bucket, Key=key, Body=b"")
    assert in_bucket.plan()["shards"] == []
    in_bucket.still("cam/0.png")
    in_bucket.round()
    assert in_bucket.moved("archive") == ["cam/0.png"] and in_bucket.moved("failed") == []
    left = s3_server.client.list_objects_v2(Bucket=bucket, Prefix="incoming/")
    assert [item["Key"] for item in left["Contents"]] == ["incoming/", "incoming/cam/", "incoming/empty/"]


def test_a_storage_that_fails_is_no_fault_of_the_inputs(
    in_bucket: Drop, s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    in_bucket.still("cam/0.png")
    in_bucket.film("clip.webm")
    out = str(tmp_path / "out")
    plan = replace(
        Planning(f"{in_bucket.root}/incoming", out, in_bucket.settings, settle_s=-1.0),
        archive=str(tmp_path / "archive"),
        failed=str(tmp_path / "failed"),
    ).run()
    kept = {key: in_bucket.at("incoming").read(key) for key in ("cam/0.png", "clip.webm")}
    in_bucket.at("incoming").delete_folder("cam")
    in_bucket.at("incoming").delete("clip.webm")
    s3_server.client.delete_bucket(Bucket=bucket)
    with pytest.raises(StorageUnavailable):
        in_bucket.shards(plan)
    s3_server.make_bucket(bucket)
    for key, data in kept.items():
        in_bucket.at("incoming").write(key, data)
    finish(plan["run"])
    assert sorted(in_bucket.keys("incoming")) == sorted(kept)
    assert not (tmp_path / "failed").exists()


def test_a_film_for_which_a_worker_has_no_room_waits_for_one_that_has(
    in_bucket: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_bucket.film("clip.webm")
    plan = in_bucket.plan()
    with monkeypatch.context() as small:
        small.setattr("shutil.disk_usage", lambda path: SimpleNamespace(total=100, used=0, free=100))
        with pytest.raises(StorageUnavailable, match=r"clip\.webm.*GPUCAPT_SPOOL"):
            in_bucket.shards(plan)
        finish(plan["run"])
        assert in_bucket.keys("incoming") == ["clip.webm"] and in_bucket.moved("failed") == []
    in_bucket.round()
    assert in_bucket.moved("archive") == ["clip.webm"] and in_bucket.moved("failed") == []
