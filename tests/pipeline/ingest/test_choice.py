"""What is left out of a drop folder stays in incoming, and the run says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.ingest.finish import finish
from pipeline.schemas import load_schema
from pipeline.sources.choice import Choice
from tests.pipeline.ingest.test_drop_folder import Drop, drop

pytestmark = pytest.mark.slow

__all__ = ["drop"]

TYPESCRIPT = b"export const a: number = 1;\n"
LEFT_BEHIND = [
    "#recycle/trip/old.png",
    "trip/@eaDir/a.png/THUMB_S.png",
    "trip/@eaDir/a.png/THUMB_XL.png",
]


def summary(drop: Drop, plan: dict[str, Any]) -> dict[str, Any]:
    run = plan["run"].rpartition("/")[2]
    content: dict[str, Any] = json.loads(drop.at("out").read(f"runs/{run}/summary.json"))
    return content


def test_what_a_nas_and_an_editor_leave_behind_stays(drop: Drop) -> None:
    for number, key in enumerate(["trip/a.png", "trip/b.png", *LEFT_BEHIND]):
        drop.still(key, number)
    for key in ("web/app.ts", "web/types.mts", "web/app_de.ts"):
        drop.at("incoming").write(key, TYPESCRIPT)
    drop.at("incoming").write("bad.ts", b"G\0\0\x10 no film")
    plan = drop.round()
    texts = ["web/app.ts", "web/app_de.ts", "web/types.mts"]
    assert drop.keys("incoming") == sorted([*LEFT_BEHIND, *texts], key=str.encode)
    assert drop.moved("archive") == ["trip/a.png", "trip/b.png"]
    assert drop.moved("failed") == ["bad.ts", "bad.ts.error.json"]
    found = summary(drop, plan)
    assert found["counts"]["sources"] == 2 and found["counts"]["frames"] == 2
    assert {one["reason"]: one["files"] for one in found["left_out"]} == {
        "#recycle/ (by default)": 1,
        "@eaDir/ (by default)": 2,
        "text files, no recordings (.ts, .mts, .m2ts)": 3,
    }
    import jsonschema

    jsonschema.validate(found, load_schema("summary"))
    run = plan["run"].rpartition("/")[2]
    page = drop.at("out").read(f"runs/{run}/report.html").decode()
    assert "@eaDir/ (by default)" in page
    again = drop.plan()
    assert again["shards"] == [] and "nothing to do" in finish(again["run"])


@pytest.mark.parametrize("pieces", [False, True])
def test_patterns_hold_in_every_step(drop: Drop, pieces: bool) -> None:
    for number in range(8):
        drop.still(f"cam/{number}.png", number)
    for key in ("cam/draft1.png", "cam/draft5.png", "drafts/1.png", "keep/draft9.png"):
        drop.still(key, 1)
    drop.film("raw/clip_proxy.webm")
    choice = Choice(["draft*", "*_proxy.*"], ["keep/"])
    plan = drop.round(choice=choice, **({"shard_size": 100_000, "shards": 3} if pieces else {}))
    assert [row["frame"] for row in drop.rows("cam")] == [f"{number}.png" for number in range(8)]
    assert [row["frame"] for row in drop.rows("keep")] == ["draft9.png"]
    left = ["cam/draft1.png", "cam/draft5.png", "drafts/1.png", "raw/clip_proxy.webm"]
    assert drop.keys("incoming") == left
    assert {one["reason"]: one["files"] for one in summary(drop, plan)["left_out"]} == {
        "draft* (by --exclude)": 3,
        "*_proxy.* (by --exclude)": 1,
    }
    drop.round()
    assert drop.keys("incoming") == [], "without the patterns all of it is meant"
    assert len(drop.rows("cam")) == 10 and drop.rows("raw/clip_proxy.webm")


def test_what_cannot_be_a_source_keeps_what_is_left_out(drop: Drop) -> None:
    drop.still("runs/1.png", 1)
    drop.still("runs/draft2.png", 2)
    drop.still("cam/1.png", 1)
    drop.round(choice=Choice(["draft*"]))
    assert drop.keys("incoming") == ["runs/draft2.png"]
    assert drop.moved("failed") == ["runs/1.png", "runs/1.png.error.json"]


def test_only_files_that_are_left_out_make_no_run(drop: Drop, caplog: pytest.LogCaptureFixture) -> None:
    for key in LEFT_BEHIND:
        drop.still(key)
    before = drop.keys("out")
    with caplog.at_level("INFO", "gpucapt"):
        plan = drop.plan()
    assert plan["shards"] == [] and "nothing to do" in finish(plan["run"])
    assert drop.keys("incoming") == LEFT_BEHIND and drop.keys("out") == before
    assert "3 files left out: 2 @eaDir/ (by default), 1 #recycle/ (by default)" in caplog.text


def test_a_plan_without_patterns_is_one_that_earlier_workers_read(tiny_model: Path, tmp_path: Path) -> None:
    on_disk = Drop(str(tmp_path / "root"), tiny_model, tmp_path / "scratch")
    on_disk.still("cam/1.png")
    for choice, there in ((Choice(), False), (Choice(["x"]), True)):
        plan = on_disk.plan(choice=choice)
        run = plan["run"].rpartition("/")[2]
        fields = json.loads(on_disk.at("out").read(f".gpucapt/runs/{run}/plan.json"))
        assert ("exclude" in fields and "include" in fields) == there
