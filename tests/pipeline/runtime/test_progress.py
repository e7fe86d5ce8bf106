"""Progress: the counts, in lines that a program can read and a name cannot break."""

from __future__ import annotations

import logging
import os
import pty
import threading
import time

import pytest

from pipeline.runtime import progress as module
from pipeline.runtime.progress import Progress, shown


def test_a_line_tells_where_things_stand_whatever_the_names() -> None:
    progress = Progress()
    progress.begin('two\nlines "quoted".mp4', 0)
    progress.captioned(12)
    progress.captioned(4)
    progress.end("a", "captioned", 16)
    progress.end("b", "set aside")
    line = progress.line()
    assert "\n" not in line
    assert line.startswith("progress sources=2 frames=16 frames_per_s=")
    assert "set_aside=1" in line and r'current="two\nlines \"quoted\".mp4"' in line


def test_lines_come_every_so_often_and_at_the_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOG_EVERY_S", 0.05)
    progress, waiting = Progress(), threading.Event()
    with caplog.at_level(logging.INFO, "gpucapt"), shown(progress, "log"):
        deadline = time.monotonic() + 30
        while len(caplog.records) < 2 and time.monotonic() < deadline:
            waiting.wait(0.02)
        progress.captioned(7)
    assert "frames=7" in caplog.records[-1].getMessage()


def test_a_person_sees_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "100")
        monkeypatch.setattr("sys.stderr", terminal)
        progress = Progress()
        progress.begin("trip/clip.mp4", 0)
        progress.captioned(7)
        with shown(progress, "auto"):
            pass
        drawn = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert "━" in drawn and "7 frames" in drawn and "trip/clip.mp4" in drawn
