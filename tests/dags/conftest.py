"""Airflow for tests: its own home and database, its own process."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import distributions, version
from pathlib import Path
from typing import IO, Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class DagRun:
    """What became of a run. ``tasks`` maps ``task_id`` or ``task_id[map index]`` to a state."""

    state: str
    tasks: dict[str, str]
    log: str
    returned: dict[str, Any]
    events: dict[str, Any]
    """The extra of each asset's event."""


@dataclass
class Airflow:
    """Runs DAGs one after the other; each run is a real ``dag.test()`` on a real database."""

    home: Path
    log: Path
    requests: IO[str]
    answers: IO[str]
    read: int = field(default=0)

    def run(
        self, conf: dict[str, Any], *, env: dict[str, str] | None = None, dag: str = "caption_frames"
    ) -> DagRun:
        """Run a DAG once with this configuration, without retries unless ``env`` says so."""
        asked = {"dag_id": dag, "conf": conf, "env": {"GPUCAPT_RETRIES": "0", **(env or {})}}
        found, log = self._ask(asked)
        assert "state" in found, f"{found}\n{log}"
        tasks = {f"{task}[{index}]" if index >= 0 else task: state for task, index, state in found["tasks"]}
        return DagRun(found["state"], tasks, log, found["returned"], found["events"])

    def parse(self, **env: str) -> dict[str, Any]:
        """Parse the DAG folder: ``errors``, loaded ``modules``, ``dags`` as the scheduler gets them."""
        found, log = self._ask({"env": env})
        assert "dags" in found, f"{found}\n{log}"
        return found

    def refusals(
        self, confs: dict[str, dict[str, Any]], *, dag: str = "caption_frames"
    ) -> dict[str, str | None]:
        """Why Airflow refuses each of these run configurations; None where it does not."""
        found, log = self._ask({"dag_id": dag, "validate": confs})
        assert set(found) == set(confs), f"{found}\n{log}"
        return found

    def fire(
        self, trigger: str, kwargs: dict[str, Any], events: int, *, env: dict[str, str]
    ) -> list[dict[str, Any]]:
        """Run a trigger until it has fired so often; the payloads of its events."""
        found, log = self._ask({"trigger": trigger, "kwargs": kwargs, "events": events, "env": env})
        assert "events" in found, f"{found}\n{log}"
        fired: list[dict[str, Any]] = found["events"]
        return fired

    def _ask(self, request: dict[str, Any]) -> tuple[dict[str, Any], str]:
        print(json.dumps(request), file=self.requests, flush=True)
        found = json.loads(self.answers.readline() or '{"error": "Airflow\'s process died"}')
        log = self.log.read_text(encoding="utf-8", errors="replace")
        new, self.read = log[self.read :], len(log)
        return found, new


def airflow_environment(home: Path, **settings: str) -> dict[str, str]:
    """A clean environment for an Airflow in ``home`` that knows this repository's DAGs and nothing else."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AIRFLOW", "GPUCAPT_", "_AIRFLOW"))
    }
    return {
        **kept,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
        # Where there is no airflow.cfg, components that start at the same time would each invent a key.
        "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(bytes(32)).decode(),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "PYTHONDONTWRITEBYTECODE": "1",
        "NO_COLOR": "1",
        **settings,
    }


def make_database(home: Path) -> None:
    """Put a database into Airflow's home: a copy of an empty one, made once for these versions of it."""
    names = sorted({found.name.lower() for found in distributions()})
    versions = [
        f"{name}={version(name)}" for name in names if name.startswith(("apache-airflow", "sqlalchemy"))
    ]
    kept = REPOSITORY / "build" / "airflow" / hashlib.sha256("\n".join(versions).encode()).hexdigest()[:12]
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (kept / "empty.db").is_file():
            (kept / "airflow.db").unlink(missing_ok=True)  # of a migration that was killed
            migrate(airflow_environment(kept))
            (kept / "airflow.db").rename(kept / "empty.db")
    shutil.copyfile(kept / "empty.db", home / "airflow.db")


def migrate(env: dict[str, str]) -> None:
    """Make an empty database as operators do."""
    done = subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def airflow_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of an Airflow with an empty database."""
    home = tmp_path_factory.mktemp("airflow")
    make_database(home)
    return home


@pytest.fixture(scope="session")
def airflow(airflow_home: Path) -> Iterator[Airflow]:
    """An Airflow that parses and runs DAGs."""
    with airflow_process(airflow_home, "runs") as airflow:
        yield airflow


@contextmanager
def airflow_process(home: Path, name: str) -> Iterator[Airflow]:
    """A process that has Airflow loaded."""
    log = home / f"{name}.log"
    ours, theirs = os.pipe()
    with log.open("w") as out, os.fdopen(ours, encoding="utf-8") as answers:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("airflow_process.py")), str(theirs)],
            env=airflow_environment(home),
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            pass_fds=[theirs],
            text=True,
        )
        os.close(theirs)
        assert process.stdin is not None
        with process.stdin:
            yield Airflow(home, log, process.stdin, answers)
        process.wait(60)
