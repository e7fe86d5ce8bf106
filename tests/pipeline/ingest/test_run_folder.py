"""The files of a run that are not as they were written: one line, and every input stays where it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model.errors import GpucaptError
from pipeline.ingest.run_folder import RunFolder, RunPlan
from pipeline.records.settings import CaptionSettings
from pipeline.storage.open import open_storage

ENTRY = {"key": "f.mp4", "size": 5, "etag": "1", "modified": 1.0}
SOURCE: dict[str, Any] = {"key": "f.mp4", "kind": "video", "path": "f.mp4", "entry": ENTRY, "piece": None}
INPUT = {"key": "f.mp4", "etag": "1", "name": "f.mp4", "error": None, "size": 5, "modified": 1.0}
OUTCOME: dict[str, Any] = {"key": "f.mp4", "status": "left", "frames": 0, "reason": None}
DONE = {"index": 0, "of": 2, "kind": "video", "fingerprint": "", "rows": 0, "ran_on": False}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(open_storage(str(tmp_path)), "r")


def write(folder: RunFolder, key: str, content: object) -> str:
    folder.destination.write(f"{folder.key}/{key}", json.dumps(content).encode())
    return f"{folder.key}/{key}"


@pytest.mark.parametrize(
    "changed",
    [
        {"entry": {**ENTRY, "modified": None}},
        {"entry": {**ENTRY, "size": "5"}},
        {"piece": {"index": 2, "of": 2}},
        {"piece": {"index": 0, "of": None}},
        {"piece": {"index": 0, "of": 2, "after": 5, "upto": 7}},
    ],
)
def test_a_shard(folder: RunFolder, changed: dict[str, Any]) -> None:
    write(folder, "shards/00000.jsonl", SOURCE)
    assert [source.key for source in folder.read_shard("00000")] == ["f.mp4"]
    write(folder, "shards/00000.jsonl", {**SOURCE, **changed})
    with pytest.raises(GpucaptError, match=r"shards/00000\.jsonl is damaged; plan again"):
        list(folder.read_shard("00000"))


@pytest.mark.parametrize(
    "line",
    [
        {"input": {**INPUT, "modified": "soon"}},
        {"input": {**INPUT, "size": None}},
        {"outcome": {**OUTCOME, "piece": {**DONE, "index": [1]}}},
        {"outcome": {**OUTCOME, "piece": {**DONE, "of": 0}}},
        {"outcome": {**OUTCOME, "piece": {**DONE, "rows": "many"}}},
        {"outcome": {**OUTCOME, "piece": {**DONE, "kind": 5}}},
    ],
)
def test_outcomes(folder: RunFolder, line: dict[str, Any]) -> None:
    key = write(folder, "outcomes/00000.jsonl", {"outcome": {**OUTCOME, "piece": DONE}})
    assert [outcome.key for outcome, _ in folder.read_outcomes(key)] == ["f.mp4"]
    write(folder, "outcomes/00000.jsonl", line)
    with pytest.raises(GpucaptError, match=r"outcomes/00000\.jsonl is damaged; plan again"):
        list(folder.read_outcomes(key))


@pytest.mark.parametrize(
    "changed",
    [{"incoming": 5}, {"planned_at": "x"}, {"planned_at": 1e300}, {"shards": "1"}, {"settle_s": None}],
)
def test_a_plan(folder: RunFolder, changed: dict[str, Any]) -> None:
    plan = RunPlan("in", "archive", "failed", 1e9, 0.0, 1, CaptionSettings())
    folder.write_plan(plan)
    assert folder.read_plan() == plan
    write(folder, "plan.json", {**plan.to_json(), **changed})
    with pytest.raises(GpucaptError, match=r"plan\.json is no plan of this version"):
        folder.read_plan()
