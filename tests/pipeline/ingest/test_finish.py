"""The drop folder: what lands in it is captioned, then moved away; any step may be killed and run again."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from model.errors import GpucaptError
from pipeline.cli.main import app
from pipeline.errors import WrongUsage
from pipeline.ingest.finish import finish
from pipeline.ingest.plan import Planning
from pipeline.ingest.shard import run_shard
from pipeline.records.settings import CaptionSettings
from tests.media import write_video
from tests.pipeline.jobs import (
    RESOURCES,
    Rounds,
    captions,
    command,
    leftovers,
    manifest,
    rows,
    run,
    times,
    write_still,
    write_stills,
)

pytestmark = pytest.mark.slow


class Drop(Rounds):
    """A drop folder with what is beside it."""

    def __init__(self, root: Path, model: Path) -> None:
        self.root, self.incoming, self.out = root, root / "incoming", root / "out"
        self.archive, self.failed = root / "archive", root / "failed"
        self.settings = CaptionSettings(model=str(model), precision="fp32", beam_size=2, max_length=8)
        self.incoming.mkdir()

    def plan(self, **options: Any) -> dict[str, Any]:
        options = {"settle_s": 0.0, "settings": self.settings, **options}
        return Planning(str(self.incoming), str(self.out), **options).run()

    def summary(self, plan: dict[str, Any]) -> dict[str, Any]:
        path = self.out / "runs" / plan["run"].rpartition("/")[2] / "summary.json"
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content


@pytest.fixture
def drop(tmp_path: Path, tiny_model: Path) -> Drop:
    return Drop(tmp_path, tiny_model)


def files(folder: Path) -> set[str]:
    """The files below a folder, without the name of the run."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(Path(*path.parts[1:])) for path in found}


def in_incoming(drop: Drop) -> set[str]:
    return {str(path.relative_to(drop.incoming)) for path in drop.incoming.rglob("*") if path.is_file()}


def test_what_arrives_is_captioned_and_moved_away(drop: Drop) -> None:
    write_video(drop.incoming / "trip/clip.webm", frames_each=5)
    write_stills(drop.incoming / "trip/album", 3)
    (drop.incoming / "trip/album/torn.jpg").write_bytes(b"\xff\xd8 torn")
    (drop.incoming / "empty.mp4").touch()
    plan = drop.round()
    assert len(rows(drop.out, "trip/clip.webm")) == 2
    assert captions(drop.out, "trip/album").keys() == {"000.png", "001.png", "002.png"}
    assert in_incoming(drop) == set()
    assert files(drop.archive) == {"trip/clip.webm", *(f"trip/album/{n:03}.png" for n in range(3))}
    bad = {"trip/album/torn.jpg", "empty.mp4"}
    assert files(drop.failed) == bad | {f"{key}.error.json" for key in bad}
    [why] = drop.failed.rglob("empty.mp4.error.json")
    reason = json.loads(why.read_text())
    assert reason["key"] == "empty.mp4" and "empty" in reason["reason"]
    summary = drop.summary(plan)
    assert summary["counts"] == {
        **{"sources": 3, "captioned": 2, "already_done": 0, "set_aside": 1, "left": 0, "damaged": 0},
        **{"frames": 5, "errors": 2},
    }
    [table] = (drop.out / "runs").glob("*/captions.csv")
    assert len(table.read_text().splitlines()) == 6


def test_nothing_to_do_is_success_and_writes_nothing(drop: Drop) -> None:
    plan = drop.plan()
    assert plan["shards"] == []
    assert "nothing to do" in finish(plan["run"])
    assert not drop.out.exists() or times(drop.out) == {}


@pytest.mark.slow
def test_the_steps_as_command_lines(drop: Drop, tiny_model: Path) -> None:
    write_stills(drop.incoming / "album", 2)
    env = {"GPUCAPT_MODEL": str(tiny_model), "GPUCAPT_SETTLE": "0", "GPUCAPT_PROGRESS": "none"}
    planned = run(command("ingest", "plan", "--beam-size=1", "--", drop.incoming, drop.out), **env)
    assert planned.returncode == 0, planned.stderr
    plan = json.loads(planned.stdout.splitlines()[-1])
    for url in plan["shards"]:
        shard = run(command("ingest", "shard", "--", url), **env)
        assert shard.returncode == 0, shard.stderr
    for _ in range(2):
        done = run(command("ingest", "finish", "--", plan["run"]), **env)
        assert done.returncode == 0, done.stderr
    assert files(drop.archive) == {"album/000.png", "album/001.png"}
    assert manifest(drop.out, "album")["settings"]["beam_size"] == 1
    again = run(command("ingest", "plan", "--", drop.incoming, drop.out), **env)
    assert json.loads(again.stdout)["shards"] == []


def test_stills_that_arrive_one_by_one_end_in_one_output(drop: Drop) -> None:
    for number in range(3):
        write_still(drop.incoming / f"cam/{number:03}.png", number)
        drop.round()
        assert captions(drop.out, "cam").keys() == {f"{n:03}.png" for n in range(number + 1)}
    write_still(drop.incoming / "cam/001.png", 99)
    before = captions(drop.out, "cam")
    drop.round()
    after = captions(drop.out, "cam")
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} <= {"001.png"}


def test_a_key_sent_again_is_captioned_again_and_overwrites_nothing(drop: Drop) -> None:
    write_video(drop.incoming / "clip.webm", ("cat",), frames_each=20)
    drop.round()
    [first] = drop.archive.rglob("clip.webm")
    content = first.read_bytes()
    write_video(drop.incoming / "clip.webm", ("coffee",), frames_each=50)
    drop.round()
    assert len(rows(drop.out, "clip.webm")) == 5
    assert first.read_bytes() == content
    assert len(list(drop.archive.rglob("clip.webm"))) == 2


def test_files_that_are_still_being_written_wait_for_the_next_round(drop: Drop) -> None:
    write_stills(drop.incoming / "album", 2)
    write_stills(drop.incoming / "later", 1)
    old = time.time() - 60
    os.utime(drop.incoming / "album/000.png", (old, old))
    plan = drop.round(settle_s=10.0)
    assert captions(drop.out, "album").keys() == {"000.png"}
    assert in_incoming(drop) == {"album/001.png", "later/000.png"}
    assert drop.summary(plan)["counts"]["sources"] == 1


def test_a_film_that_grew_since_the_plan_is_left_for_the_next_round(drop: Drop) -> None:
    film = write_video(drop.incoming / "clip.webm", frames_each=5)
    plan = drop.plan()
    write_video(film, frames_each=10)
    drop.shards(plan)
    finish(plan["run"])
    assert in_incoming(drop) == {"clip.webm"}
    assert drop.summary(plan)["counts"]["left"] == 1
    drop.round()
    assert len(rows(drop.out, "clip.webm")) == 3 and in_incoming(drop) == set()


def test_what_is_replaced_while_it_is_captioned_stays(drop: Drop) -> None:
    film = write_video(drop.incoming / "clip.webm", frames_each=5)
    plan = drop.plan()
    drop.shards(plan)
    write_video(film, frames_each=10)
    finish(plan["run"])
    assert in_incoming(drop) == {"clip.webm"}, "the new film is not archived unseen"


def test_finish_goes_on_where_it_was_killed_and_does_nothing_twice(drop: Drop) -> None:
    write_stills(drop.incoming / "album", 3)
    plan = drop.plan()
    drop.shards(plan)
    archived = drop.archive / plan["run"].rpartition("/")[2] / "album"
    archived.mkdir(parents=True)
    shutil.copy2(drop.incoming / "album/000.png", archived)  # copied, but not yet deleted
    (drop.incoming / "album/001.png").rename(archived / "001.png")  # moved
    finish(plan["run"])
    assert files(drop.archive) == {f"album/{n:03}.png" for n in range(3)}
    assert in_incoming(drop) == set()
    before = times(drop.root)
    write_stills(drop.incoming / "album", 1)
    assert "finished before" in finish(plan["run"])
    assert in_incoming(drop) == {"album/000.png"}
    (drop.incoming / "album/000.png").unlink()
    assert times(drop.root) == before


def test_a_shard_that_ended_before_it_was_recorded_is_the_same_the_second_time(drop: Drop) -> None:
    write_stills(drop.incoming / "album", 3)
    (drop.incoming / "album/bad.png").write_text("bad")
    (drop.incoming / "bad.mp4").write_text("bad")
    plan = drop.plan()
    drop.shards(plan)
    [recorded] = drop.out.rglob("outcomes/00000.jsonl")
    first = recorded.read_text()
    recorded.unlink()
    outputs = times(drop.out / "album")
    drop.shards(plan)
    assert sorted(recorded.read_text().splitlines()) == sorted(first.splitlines())
    assert times(drop.out / "album") == outputs
    finish(plan["run"])
    assert drop.summary(plan)["counts"]["frames"] == 3
    assert leftovers(drop.out) == []


def test_the_inputs_of_a_shard_that_never_ended_stay_for_the_next_round(drop: Drop) -> None:
    for name in "ab":
        write_stills(drop.incoming / name, 2)
    plan = drop.plan(shards=2)
    run_shard(plan["shards"][0], RESOURCES, "none")
    finish(plan["run"])
    assert in_incoming(drop) == {"b/000.png", "b/001.png"}
    drop.round()
    assert in_incoming(drop) == set()


def test_shards_are_balanced_and_never_more_than_airflow_maps(drop: Drop) -> None:
    for number in range(40):
        (drop.incoming / f"{number:02}").mkdir()
        (drop.incoming / f"{number:02}/still.png").write_bytes(bytes(1 + 400_000 * (number % 3)))
    assert len(drop.plan()["shards"]) == 1
    plan = drop.plan(shards=4)
    sizes = [len(Path(url).read_text().splitlines()) for url in plan["shards"]]
    assert sum(sizes) == 40 and len(sizes) == 4 and max(sizes) - min(sizes) <= 2
    keys = [json.loads(line)["key"] for url in plan["shards"] for line in Path(url).read_text().splitlines()]
    assert keys == sorted(keys)
    assert len(drop.plan(shards=1000)["shards"]) == 40, "no shard is empty"


def test_many_sources_make_larger_shards_rather_than_more(drop: Drop) -> None:
    for number in range(30):
        (drop.incoming / f"{number:02}.mp4").write_bytes(b"x")
    assert len(drop.plan(shard_size=1, most_shards=8)["shards"]) == 8


def test_what_cannot_be_a_source_is_moved_away_with_its_reason(drop: Drop) -> None:
    write_still(drop.incoming / "runs/still.png", 1)
    plan = drop.round()
    assert in_incoming(drop) == set()
    assert files(drop.failed) == {"runs/still.png", "runs/still.png.error.json"}
    assert drop.summary(plan)["counts"]["set_aside"] == 1


def test_mistakes_are_told_in_one_line(drop: Drop, tmp_path: Path) -> None:
    settings = drop.settings
    with pytest.raises(GpucaptError, match="does not exist"):
        Planning(str(tmp_path / "missing"), str(drop.out), settings).run()
    with pytest.raises(GpucaptError, match="overlap"):
        Planning(str(drop.incoming), str(tmp_path), settings).run()
    with pytest.raises(GpucaptError, match="overlap"):
        drop.plan(archive=str(drop.incoming / "archive"))
    with pytest.raises(GpucaptError, match="names no run"):
        finish(str(tmp_path / "elsewhere"))
    for folder, name in ((drop.out, "none"), (tmp_path / "nowhere", "20260101T000000Z-012345")):
        with pytest.raises(GpucaptError, match="never was planned"):
            finish(f"{folder}/.gpucapt/runs/{name}")
    with pytest.raises(GpucaptError, match="names no shard"):
        run_shard(f"{drop.out}/.gpucapt/runs/none", RESOURCES)


@pytest.mark.parametrize("option", ["--archive", "--failed"])
def test_a_place_for_inputs_that_overlaps_incoming_is_wrong_usage(drop: Drop, option: str) -> None:
    words = ["ingest", "plan", str(drop.incoming), str(drop.out), option, str(drop.incoming / "old")]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, WrongUsage)
    assert "overlap" in str(result.exception)


DAMAGE = [
    b"garbage",
    b"{}\n",
    b"[]\n",
    b"7\n",
    b"\xff\xfe\n",
    b"[" * 100_000,
    b'{"outcome": {"key": 7}}\n',
    b'{"outcome": {"key": "album", "status": "lost"}}\n',
    b'{"key": 1, "kind": "stills", "path": "album", "entry": null}\n',
    b'{"key": "clip.mp4", "kind": "video", "path": "clip.mp4", "entry": null}\n',
]


@pytest.mark.parametrize("damage", DAMAGE, ids=range(len(DAMAGE)))
def test_a_damaged_shard_is_one_line(drop: Drop, damage: bytes) -> None:
    write_stills(drop.incoming / "album", 1)
    [url] = drop.plan()["shards"]
    Path(url).write_bytes(damage)
    with pytest.raises(GpucaptError, match=r"shards/00000\.jsonl is damaged; plan again"):
        run_shard(url, RESOURCES, "none")


@pytest.mark.parametrize("damage", DAMAGE, ids=range(len(DAMAGE)))
def test_damaged_outcomes_are_one_line_and_move_nothing(drop: Drop, damage: bytes) -> None:
    write_stills(drop.incoming / "album", 1)
    (drop.incoming / "bad.mp4").write_text("bad")
    plan = drop.plan()
    recorded = drop.out / ".gpucapt/runs" / plan["run"].rpartition("/")[2] / "outcomes/00000.jsonl"
    recorded.parent.mkdir(exist_ok=True)
    recorded.write_bytes(b'{"model": {"name": "tiny", "version": "1"}}\n' + damage)
    with pytest.raises(GpucaptError, match=r"outcomes/00000\.jsonl is damaged; plan again"):
        finish(plan["run"])
    assert in_incoming(drop) == {"album/000.png", "bad.mp4"}
