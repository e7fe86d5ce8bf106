"""Frames that a camera's uploader puts into a bucket under random names, as they come."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

from pipeline.captioning.run import CaptionRun
from pipeline.records.settings import CaptionSettings
from pipeline.storage.base import Storage
from pipeline.storage.open import open_storage
from tests.model.tiny import make_tiny_checkpoint
from tests.pipeline.jobs import RESOURCES, write_still


def put_frames(storage: Storage, folder: Path, count: int, seed: int) -> list[str]:
    """So many frames, as `frame_<uuid>.jpg`; their names."""
    names = []
    for number in range(count):
        name = f"frame_{uuid.uuid5(uuid.NAMESPACE_OID, f'{seed} {number}')}.jpg"
        path = write_still(folder / name, number + 31 * seed)
        storage.upload(path, f"s3kat/{name}")
        names.append(name)
    return names


def test_a_bucket_folder_of_them_is_one_source_that_grows(tmp_path: Path, bucket: str) -> None:
    model = make_tiny_checkpoint(tmp_path / "model")
    settings = CaptionSettings(model=str(model), precision="fp32", beam_size=1, max_length=6)
    frames, results = open_storage(f"s3://{bucket}/in"), open_storage(f"s3://{bucket}/out")
    names = put_frames(frames, tmp_path / "first", 7, seed=0)

    def caption() -> dict[str, dict[str, object]]:
        run = CaptionRun(f"s3://{bucket}/in", f"s3://{bucket}/out", settings, RESOURCES, progress="none")
        assert run.run() == 0
        lines = results.read("s3kat/captions.jsonl").decode().splitlines()
        rows = [json.loads(line) for line in lines]
        assert [row["frame"] for row in rows] == sorted(names)  # whatever came first
        assert all(row["timestamp_s"] is None and row["source"] == "s3kat" for row in rows)
        return {row["frame"]: row for row in rows}

    before = caption()
    names += put_frames(frames, tmp_path / "second", 3, seed=1)
    after = caption()
    assert len(after) == 10
    assert {name: after[name] for name in before} == before  # no frame was captioned twice
    report = results.read("s3kat/report.html").decode()
    assert all(name in report for name in names)
    table = results.read("s3kat/captions.csv").decode().splitlines()
    assert [line.split(",")[1] for line in table[1:]] == sorted(names)
