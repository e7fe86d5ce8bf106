"""Outputs of a long film are written in the memory of a short one."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from pipeline.reports import write_outputs
from tests.pipeline.report_rows import Written, info, long_film

WRITE = r"""
import re, sys
from pathlib import Path
from pipeline.reports import write_outputs
from pipeline.stories import outline_story
from tests.pipeline.report_rows import info, long_film

rows = long_film(int(sys.argv[1]))
write_outputs(info(), rows, Path(sys.argv[2]), story=outline_story(info(), rows()))
print(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
"""


def peak_kib(count: int, directory: Path) -> int:
    """The most memory that a process of its own had while it wrote the outputs of ``count`` rows."""
    directory.mkdir()
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", WRITE, str(count), str(directory)]
    return int(subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_hundred_thousand_rows_take_no_more_memory_than_ten_thousand(tmp_path: Path) -> None:
    short, long = peak_kib(10_000, tmp_path / "short"), peak_kib(100_000, tmp_path / "long")
    assert long < short + 6 * 1024
    with (tmp_path / "long" / "captions.jsonl").open(encoding="utf-8") as file:
        assert sum(1 for _ in file) == 100_000


@pytest.mark.parametrize("count", [1, 299, 300, 301, 450, 2_000, 9_999])
def test_the_page_shows_at_most_300_frames_evenly_chosen(tmp_path: Path, count: int) -> None:
    names = write_outputs(info(), long_film(count), tmp_path, story=None)
    shown = [frame["position"] for frame in Written(tmp_path, names).page_frames]
    assert min(count, 150) <= len(shown) <= 300
    assert shown[0] == 0
    gaps = {after - before for before, after in pairwise(shown)}
    assert len(gaps) <= 1
    assert count - 1 - shown[-1] < max(gaps, default=1)
