"""Inputs that are archived: told once, left where they are, captioned when they have been restored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import pipeline
from pipeline.errors import Archived
from pipeline.ingest.finish import finish
from pipeline.ingest.plan import Planning
from pipeline.records.settings import CaptionSettings
from pipeline.storage.base import Storage
from pipeline.storage.open import open_storage
from pipeline.storage.s3.storage import S3Storage
from tests.media import write_video
from tests.pipeline.archives import archive, archives
from tests.pipeline.jobs import Rounds, caption, errors, rows, summary, write_still
from tests.services.archive import Archive

__all__ = ["archive", "archives"]

pytestmark = pytest.mark.slow

WHY = "archived in storage class {}; restore it first"


class Drop(Rounds):
    """A drop folder in such a bucket."""

    def __init__(self, archive: Archive, model: Path, scratch: Path) -> None:
        self.archive, self.scratch = archive, scratch
        self.root = f"s3://{archive.bucket}"
        self.settings = CaptionSettings(model=str(model), precision="fp32", beam_size=2, max_length=8)

    def at(self, name: str) -> Storage:
        return open_storage(f"{self.root}/{name}")

    def still(self, key: str, kind: str = "STANDARD") -> None:
        path = write_still(self.scratch / "still.png", int(Path(key).stem))
        self.archive.put(f"incoming/{key}", path.read_bytes(), kind)

    def film(self, key: str, kind: str = "STANDARD", *, frames: int = 20) -> None:
        path = write_video(self.scratch / f"film{Path(key).suffix}", ("cat",), frames_each=frames)
        self.archive.put(f"incoming/{key}", path.read_bytes(), kind)

    def plan(self, **options: Any) -> dict[str, Any]:
        options = {"settle_s": -1.0, **options}
        return Planning(f"{self.root}/incoming", f"{self.root}/out", self.settings, **options).run()

    def keys(self, name: str) -> list[str]:
        return [entry.key for entry in self.at(name).list()]

    def moved(self, name: str) -> list[str]:
        return sorted(key.partition("/")[2] for key in self.keys(name))

    def summary(self, plan: dict[str, Any]) -> dict[str, Any]:
        run = plan["run"].rpartition("/")[2]
        found: dict[str, Any] = json.loads(self.at("out").read(f"runs/{run}/summary.json"))
        return found

    def left(self, plan: dict[str, Any]) -> dict[str, str]:
        return {one["key"]: one["reason"] for one in self.summary(plan)["left"]}

    def frames(self, key: str) -> list[Any]:
        lines = self.at("out").read(f"{key}/captions.jsonl").splitlines()
        return [json.loads(line)["frame"] for line in lines]


@pytest.fixture
def drop(archive: Archive, tiny_model: Path, tmp_path: Path) -> Drop:
    return Drop(archive, tiny_model, tmp_path / "scratch")


@pytest.mark.parametrize("kind", ["GLACIER", "DEEP_ARCHIVE"])
def test_an_archived_film_is_told_once_and_captioned_when_it_is_restored(drop: Drop, kind: str) -> None:
    drop.film("a.webm", kind)
    drop.film("b.webm")
    first = drop.round()
    assert drop.left(first) == {"a.webm": WHY.format(kind)}
    counts = drop.summary(first)["counts"]
    assert (counts["captioned"], counts["left"], counts["set_aside"], counts["errors"]) == (1, 1, 0, 0)
    schema = Path(pipeline.__path__[0], "schemas/summary.schema.json").read_text(encoding="utf-8")
    jsonschema.validate(drop.summary(first), json.loads(schema))
    runs = drop.keys("out/runs")
    for _ in range(2):
        again = drop.plan()
        assert again["shards"] == [] and finish(again["run"]) == "there was nothing to do"
    assert drop.keys("out/runs") == runs
    assert drop.keys("incoming") == ["a.webm"] and drop.keys("failed") == []
    drop.archive.restore("incoming/a.webm")
    last = drop.round()
    assert drop.left(last) == {} and drop.summary(last)["counts"]["captioned"] == 1
    assert drop.moved("archive") == ["a.webm", "b.webm"] and drop.keys("incoming") == []
    assert not [key for key in drop.keys("out/.gpucapt") if key.startswith("archived/")]


def test_what_is_archived_later_is_told_then(drop: Drop) -> None:
    drop.film("a.webm", "GLACIER")
    first = drop.round()  # there is nothing else to do
    assert first["shards"] == [] and list(drop.left(first)) == ["a.webm"]
    assert drop.plan()["run"].endswith("-empty")
    drop.film("b.webm", "DEEP_ARCHIVE")
    drop.archive.put("incoming/c.ts", b"whether it is a recording nobody can see", "GLACIER")
    assert list(drop.left(drop.round())) == ["a.webm", "b.webm", "c.ts"]
    assert drop.plan()["run"].endswith("-empty")
    assert drop.keys("failed") == drop.keys("archive") == []


@pytest.mark.parametrize("pieces", [False, True])
def test_archived_stills_join_their_folder_when_they_are_restored(drop: Drop, pieces: bool) -> None:
    size = {"shard_size": 2 << 20} if pieces else {}
    for number in range(4):
        drop.still(f"cam/{number}.png", "GLACIER" if number in (1, 2) else "STANDARD")
    first = drop.round(**size)
    assert drop.frames("cam") == ["0.png", "3.png"]
    assert all(reason.startswith(WHY.format("GLACIER")) for reason in drop.left(first).values())
    assert set(drop.left(first)) <= {"cam/1.png", "cam/2.png"} and drop.left(first)
    assert drop.keys("incoming") == ["cam/1.png", "cam/2.png"]
    again = drop.round(**size)  # now all that is left of the folder is archived
    if not again["run"].endswith("-empty"):
        assert drop.left(again) == {"cam": f"{WHY.format('GLACIER')} (and 1 more of this folder)"}
        assert drop.plan(**size)["run"].endswith("-empty")
    drop.archive.restore("incoming/cam/1.png")
    drop.archive.restore("incoming/cam/2.png")
    drop.round(**size)
    assert drop.frames("cam") == [f"{number}.png" for number in range(4)]
    assert drop.keys("incoming") == drop.keys("failed") == []
    assert drop.moved("archive") == [f"cam/{number}.png" for number in range(4)]


def test_a_film_that_is_cut_into_pieces_and_archived_meanwhile(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop.film("a.webm", "GLACIER", frames=60)
    drop.archive.restore("incoming/a.webm")
    plan = drop.plan(shard_size=20_000)
    assert len(plan["shards"]) > 1
    with monkeypatch.context() as expired:
        expired.setattr(S3Storage, "why_archived", lambda *_: WHY.format("GLACIER"))
        drop.shards(plan)
    finish(plan["run"])
    assert "its" in drop.left(plan)["a.webm"] and drop.keys("incoming") == ["a.webm"]
    assert drop.keys("failed") == []
    drop.round()
    assert drop.moved("archive") == ["a.webm"]


def test_what_is_archived_between_listing_and_reading_is_left(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what a store archives in ways that HEAD does not tell."""
    drop.film("a.webm", "GLACIER")
    drop.still("cam/0.png")
    drop.still("cam/1.png", "DEEP_ARCHIVE")
    with monkeypatch.context() as unknown:
        unknown.setattr(S3Storage, "why_archived", lambda *_: None)
        plan = drop.round()
    told = drop.left(plan)
    assert set(told) == {"a.webm", "cam"}
    assert told["a.webm"].endswith("archived in storage class GLACIER; restore it first")
    assert drop.keys("incoming") == ["a.webm", "cam/0.png", "cam/1.png"] and drop.keys("failed") == []
    drop.round()
    assert drop.frames("cam") == ["0.png"] and drop.keys("incoming") == ["a.webm", "cam/1.png"]


@pytest.mark.parametrize("is_bad", [False, True])
def test_what_is_archived_before_it_is_moved_stays(
    drop: Drop, monkeypatch: pytest.MonkeyPatch, is_bad: bool
) -> None:
    if is_bad:
        drop.archive.put("incoming/a.webm", b"no film")
    else:
        drop.film("a.webm")
    plan = drop.plan()
    drop.shards(plan)

    def refused(*_: Any) -> None:
        raise Archived("a.webm: archived in storage class GLACIER; restore it first")

    with monkeypatch.context() as archived:
        archived.setattr(S3Storage, "move", refused)
        finish(plan["run"])
    assert drop.keys("incoming") == ["a.webm"]
    assert drop.keys("failed") == drop.keys("archive") == []


# Without a drop folder


def test_an_archived_film_is_left_and_told_in_one_line(
    drop: Drop, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = f"{drop.root}/incoming", tmp_path / "out"
    drop.film("a.webm", "GLACIER")
    told = f"gpucapt: left a.webm: {WHY.format('GLACIER')}"
    for one in (source, f"{source}/a.webm"):
        assert caption(one, out, tiny_model) == 1  # type: ignore[arg-type]
        assert told in capsys.readouterr().err.splitlines()
    drop.film("b.webm")
    for _ in range(2):
        assert caption(source, out, tiny_model) == 0  # type: ignore[arg-type]
        assert told in capsys.readouterr().err.splitlines()
    assert errors(out) == {} and summary(out)["counts"]["left"] == 1
    drop.archive.restore("incoming/a.webm")
    assert caption(source, out, tiny_model) == 0  # type: ignore[arg-type]
    assert "left" not in capsys.readouterr().err and len(rows(out, "a.webm")) == 2


def test_rows_stay_when_a_restored_copy_has_expired(
    drop: Drop, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = f"{drop.root}/incoming", tmp_path / "out"
    drop.film("a.webm", "GLACIER")
    for number in range(3):
        drop.still(f"cam/{number}.png", "GLACIER")
    for key in ("a.webm", "cam/0.png", "cam/1.png"):
        drop.archive.restore(f"incoming/{key}")
    assert caption(source, out, tiny_model) == 0  # type: ignore[arg-type]
    assert [row["frame"] for row in rows(out, "cam")] == ["0.png", "1.png"]
    drop.still("cam/3.png")
    drop.archive.network.say(method="HEAD", contains="incoming/", headers={"x-amz-restore": ""})
    capsys.readouterr()
    assert caption(source, out, tiny_model) == 0  # type: ignore[arg-type]
    assert [row["frame"] for row in rows(out, "cam")] == ["0.png", "1.png", "3.png"]
    left = [line for line in capsys.readouterr().err.splitlines() if " left " in line]
    assert left == [f"gpucapt: left cam/2.png: {WHY.format('GLACIER')}"]
    assert len(rows(out, "a.webm")) == 2
