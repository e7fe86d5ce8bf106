"""A DAG run in which gpucapt only says what a script tells it to: see scripted.py."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.dags.conftest import Airflow, DagRun


@dataclass(frozen=True)
class Scripted:
    """Runs one DAG."""

    airflow: Airflow
    dag: str
    conf: dict[str, Any]
    script: Path
    env: dict[str, str] = field(default_factory=dict)

    def run(
        self,
        says: dict[str, Any],
        conf: dict[str, Any] | None = None,
        *,
        fail: dict[str, int] | None = None,
        env: dict[str, str] | None = None,
    ) -> DagRun:
        """Run it with a gpucapt that prints these last lines, one for each command, or fails so."""
        self.script.write_text(json.dumps({"says": says, "fail": fail or {}}), encoding="utf-8")
        command = [sys.executable, str(Path(__file__).with_name("scripted.py")), str(self.script)]
        settings = {"GPUCAPT_COMMAND": shlex.join(command), **self.env, **(env or {})}
        return self.airflow.run({**self.conf, **(conf or {})}, env=settings, dag=self.dag)

    def calls(self) -> list[list[str]]:
        """The command lines that gpucapt was given, in all runs."""
        path = Path(f"{self.script}.calls")
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]
