"""Stands before gpucapt where a shard shall be killed: ``killed_once.py FOLDER ingest plan|shard|finish …``.

The first try at the shard named 00001 loses its process while it works; all else runs as it is. Calls are
added to FOLDER/calls.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def main() -> int:
    """Run gpucapt as told, or kill it on the way."""
    folder, arguments = Path(sys.argv[1]), sys.argv[2:]
    with (folder / "calls").open("a", encoding="utf-8") as calls:
        print(json.dumps(arguments), file=calls)
    process = subprocess.Popen([str(Path(sys.executable).with_name("gpucapt")), *arguments])
    killed = folder / "killed"
    if arguments[-1].endswith("/00001.jsonl") and not killed.exists():
        killed.touch()
        _wait_until_it_works(process)
        process.kill()
        process.wait()
        os.kill(os.getpid(), signal.SIGKILL)
    return process.wait()


def _wait_until_it_works(process: subprocess.Popen[bytes]) -> None:
    """Until the model is loaded: then it is among its sources."""
    maps = Path(f"/proc/{process.pid}/maps")
    while process.poll() is None and "libtorch" not in maps.read_text():
        time.sleep(0.1)
    time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
