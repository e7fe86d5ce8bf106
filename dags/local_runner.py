"""The local runner: each command line as a process of the machine that runs the task."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException

from operator_base import SECONDS_TO_STOP, Arguments, failure
from worker_environment import story_access

LONGEST_LOGGED_LINE = 4000


def local_command() -> list[str]:
    """How to start gpucapt: ``GPUCAPT_COMMAND``, else the one beside this Python, else on the path."""
    if command := os.environ.get("GPUCAPT_COMMAND"):
        return shlex.split(command)
    beside = Path(sys.executable).with_name("gpucapt")
    found = str(beside) if beside.exists() else shutil.which("gpucapt")
    if found is None:
        raise AirflowFailException(
            f"gpucapt is neither beside {sys.executable} nor on the path; "
            "install it there, or set GPUCAPT_COMMAND to how it is started"
        )
    return [found]


class LocalProcess(BaseOperator):
    """Runs ``gpucapt`` with ``arguments`` as a process of the machine that runs the task."""

    template_fields: Sequence[str] = ("arguments",)
    ui_color = "#e8f0e4"

    def __init__(self, *, arguments: Arguments, **options: Any) -> None:
        super().__init__(**options)
        self.arguments = arguments
        self._process: subprocess.Popen[str] | None = None

    def execute(self, context: Context) -> str | None:
        assert isinstance(self.arguments, Sequence), "Airflow resolves templated fields before execute"
        command = [*local_command(), *self.arguments]
        self.log.info("Running %s", shlex.join(command))
        # A group of its own, so that on_kill reaches what gpucapt starts.
        self._process = process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, **story_access()},
            start_new_session=True,
        )
        assert process.stdout is not None and process.stderr is not None
        last_said: deque[str] = deque(maxlen=1)
        errors = threading.Thread(target=self._log_lines, args=(process.stderr, last_said), daemon=True)
        errors.start()
        last_printed: deque[str] = deque(maxlen=1)
        self._log_lines(process.stdout, last_printed)
        errors.join()
        code = process.wait()
        if code != 0:
            raise failure(self.arguments, code, "".join(last_said or last_printed))
        return "".join(last_printed) or None

    def on_kill(self) -> None:
        """Airflow's way to say that the task shall end: ask, then insist. Work done stays and is resumed."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)

    def _log_lines(self, stream: IO[str], last: deque[str]) -> None:
        for line in stream:
            if text := line.rstrip():
                last.append(text)
                shortened = len(text) > LONGEST_LOGGED_LINE
                self.log.info("%s", f"{text[:LONGEST_LOGGED_LINE]}…" if shortened else text)
