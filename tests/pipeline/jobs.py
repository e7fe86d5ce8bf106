"""Runs caption jobs for tests: real folders, the real command, a tiny model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from pipeline.captioning.run import CaptionRun
from pipeline.ingest.finish import finish
from pipeline.ingest.shard import run_shard
from pipeline.records.settings import CaptionSettings, Resources
from tests.rounding import ROUNDING_UNITS, units_apart

RESOURCES = Resources(device="cpu", batch_size=4, workers=2)
COLOURS = ("red", "green", "blue", "yellow", "white", "black", "orange", "purple", "cyan", "brown")

Rows = list[dict[str, Any]]


class Rounds:
    """What a test does with a drop folder; ``plan`` knows where that is."""

    def plan(self, **options: Any) -> dict[str, Any]:
        """Cut into shards what has arrived."""
        raise NotImplementedError

    def shards(self, plan: dict[str, Any]) -> None:
        """Caption all of it."""
        for url in plan["shards"]:
            run_shard(url, RESOURCES, "none")

    def round(self, **options: Any) -> dict[str, Any]:
        """All three steps, one after the other."""
        plan = self.plan(**options)
        self.shards(plan)
        finish(plan["run"])
        return plan


def write_still(path: Path, number: int) -> Path:
    """A small picture; each number has its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (48, 32), COLOURS[number % 10])
    image.paste(COLOURS[number // 10 % 10], (0, 0, 24, 16))
    image.paste(COLOURS[number // 100 % 10], (24, 16, 48, 32))
    image.save(path)
    return path


def write_stills(folder: Path, count: int, *, first: int = 0) -> Path:
    """A folder of small pictures, 000.png, 001.png, …"""
    for number in range(first, first + count):
        write_still(folder / f"{number:03}.png", number)
    return folder


def caption(source: Path, destination: Path, model: Path, *, precision: str = "fp32", **options: Any) -> int:
    """`gpucapt caption` in this process; its exit code."""
    names = ("overwrite", "retry_failed")
    run = {name: options.pop(name) for name in names if name in options}
    resources = options.pop("resources", RESOURCES)
    settings = CaptionSettings(model=str(model), precision=precision, beam_size=2, max_length=8, **options)
    return CaptionRun(str(source), str(destination), settings, resources, progress="none", **run).run()


def command(*arguments: str | Path) -> list[str]:
    """A `gpucapt` command line."""
    return [sys.executable, "-m", "pipeline.cli.main", *map(str, arguments)]


def caption_command(source: Path, destination: Path, model: Path, *more: str) -> list[str]:
    """The command line of the same job as ``caption``."""
    fixed = [
        "--precision",
        "fp32",
        "--beam-size",
        "2",
        "--max-length",
        "8",
        "--batch-size",
        "4",
        "--workers",
        "2",
        "--device",
        "cpu",
    ]
    return command("caption", source, destination, "--model", model, *fixed, *more)


def start(line: list[str], **options: Any) -> subprocess.Popen[str]:
    """Start a command with its output piped."""
    return subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), **options
    )


def run(line: list[str], **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        line, capture_output=True, text=True, env=environment(**more), timeout=300, check=False
    )


def environment(**more: str) -> dict[str, str]:
    """This process's environment without settings of ours, and with one thread a process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GPUCAPT_")}
    return {**kept, "OMP_NUM_THREADS": "1", **more}


def rows(destination: Path, key: str) -> Rows:
    """The rows of a source."""
    text = (destination / key / "captions.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def captions(destination: Path, key: str) -> dict[Any, str]:
    """Each frame's caption; fails where a frame has two rows."""
    found = rows(destination, key)
    assert len({row["frame"] for row in found}) == len(found)
    return {row["frame"]: row["caption"] for row in found}


def manifest(destination: Path, key: str) -> dict[str, Any]:
    """The manifest of a source."""
    content: dict[str, Any] = json.loads((destination / key / "manifest.json").read_text(encoding="utf-8"))
    return content


def summary(destination: Path) -> dict[str, Any]:
    """The summary of the last run."""
    path = max((destination / "runs").glob("*/summary.json"), key=lambda path: path.stat().st_mtime_ns)
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def errors(destination: Path) -> dict[str, str]:
    """What the last run set aside, with the reasons."""
    return {error["key"]: error["reason"] for error in summary(destination)["errors"]}


def assert_same_rows(found: Rows, wanted: Rows) -> None:
    """The same frames with the same captions, up to what batches of another size round."""
    rounded = ("log_prob", "confidence", "unsure")
    some, others = (
        [{name: value for name, value in row.items() if name not in rounded} for row in side]
        for side in (found, wanted)
    )
    assert some == others
    for name in rounded[:2]:
        assert units_apart(*([row[name] for row in side] for side in (found, wanted))) <= ROUNDING_UNITS


def times(folder: Path) -> dict[str, int]:
    """When each file of a folder was written, in nanoseconds."""
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()
    }


def leftovers(destination: Path) -> list[str]:
    """Files that a finished run should have removed."""
    folders = (destination / ".gpucapt" / name for name in ("parts", "claims"))
    found = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return [str(path) for path in found if not path.name.startswith(".gpucapt-tmp-")]
