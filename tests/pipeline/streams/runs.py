"""Runs `gpucapt caption` of a stream for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.records.frame_selection import Selection
from pipeline.records.settings import CaptionSettings, Resources
from pipeline.streams.address import parse
from pipeline.streams.run import StreamRun, StreamSettings
from tests.pipeline.jobs import command

RESOURCES = Resources(device="cpu", batch_size=4, workers=1)
FIXED = (
    "--precision",
    "fp32",
    "--beam-size",
    "1",
    "--max-length",
    "6",
    "--batch-size",
    "4",
    "--workers",
    "1",
)


def watch(
    url: str,
    destination: Path | str,
    model: Path,
    *,
    every: float = 0.2,
    name: str | None = None,
    max_frames: int | None = None,
    **stream: float,
) -> int:
    """Caption a stream in this process; the exit code."""
    settings = CaptionSettings(
        Selection(every, max_frames=max_frames),
        model=str(model),
        precision="fp32",
        beam_size=1,
        max_length=6,
        story="none",
    )
    run = StreamRun(
        parse(url, name), str(destination), settings, RESOURCES, StreamSettings(**stream), progress="none"
    )
    return run.run()


def stream_command(url: str, destination: Path, model: Path, *more: str) -> list[str]:
    """The command line of the same."""
    return command("caption", url, destination, "--model", model, "--device", "cpu", *FIXED, *more)


def segments(destination: Path) -> list[str]:
    """The keys of the segments that are done, in order."""
    found = destination.glob("*/*/manifest.json")
    keys = sorted(path.parent.relative_to(destination).as_posix() for path in found)
    return [key for key in keys if not key.startswith("runs/")]


def everything(folder: Path) -> list[tuple[str, Any]]:
    """Each file's name and content."""
    return [(str(path), path.read_bytes()) for path in folder.rglob("*") if path.is_file()]
