"""How many cores a process in a container counts on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.runtime.cpu_limits import available_cores, rationed_cores


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "250000 100000\n"}, 2.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_a_ration_is_read_as_either_kernel_tells_it(
    tmp_path: Path, files: dict[str, str], cores: float | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert rationed_cores(tmp_path) == cores


def test_never_more_than_the_process_may_run_on() -> None:
    look = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    look += "from pipeline.runtime.cpu_limits import available_cores; print(available_cores())"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
    assert 1 <= available_cores() <= len(os.sched_getaffinity(0))
