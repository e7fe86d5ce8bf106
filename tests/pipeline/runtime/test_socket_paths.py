"""Processes that are started where the path of the folder for temporary files is long."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_processes_begin_however_long_the_path_of_tmpdir_is(tmp_path: Path) -> None:
    deep = tmp_path / ("deep" * 30)
    deep.mkdir()
    code = (
        "from pipeline.datasets.hdf5_workers import workers\n"
        "with workers(2, 1000) as pool:\n"
        "    print(*pool.map(abs, [-1, 2]))"
    )
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "TMPDIR": str(deep)}
    done = subprocess.run(command, env=environment, text=True, capture_output=True, check=False)
    assert done.stdout == "1 2\n", done.stderr
