"""Airflow as it runs in production, small: its components as processes of their own, on SQLite."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.dags.conftest import airflow_environment, make_database

COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
DONE = ("success", "failed")


class Refused(Exception):
    """The API server refused a request. ``code`` is the HTTP status."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(f"{code}: {said}")
        self.code = code


@dataclass(frozen=True)
class Server:
    """A running Airflow, spoken to through its REST API."""

    home: Path
    url: str
    processes: dict[str, subprocess.Popen[bytes]]

    def call(self, path: str, body: dict[str, Any] | None = None, method: str | None = None) -> Any:
        """One request to the public API. Raises Refused."""
        request = urllib.request.Request(
            f"{self.url}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
            method=method,
        )
        if path != "/auth/token":
            request.add_header("Authorization", f"Bearer {self.call('/auth/token')['access_token']}")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise Refused(error.code, error.read().decode(errors="replace")) from error

    def trigger(self, dag: str, conf: dict[str, Any]) -> str:
        """Ask for a run, as the trigger form does; returns its id."""
        run = self.call(f"/api/v2/dags/{dag}/dagRuns", {"logical_date": None, "conf": conf})
        return str(run["dag_run_id"])

    def wait_for_dag(self, dag: str, seconds: float = 300) -> dict[str, Any]:
        """Wait until the DAG processor has handed the DAG over."""

        def look() -> dict[str, Any] | None:
            try:
                found: dict[str, Any] = self.call(f"/api/v2/dags/{dag}/details")
                return found
            except (Refused, OSError):
                return None

        return self.wait(look, seconds, f"the DAG {dag}")

    def wait_for_run(self, dag: str, run: str, seconds: float = 600) -> dict[str, str]:
        """Wait until a run has ended; the states of the run (under "") and of its tasks."""

        def look() -> dict[str, str] | None:
            state = self.call(f"/api/v2/dags/{dag}/dagRuns/{run}")["state"]
            if state not in DONE:
                return None
            tasks = self.call(f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"]
            return {"": state, **{task["task_id"]: task["state"] for task in tasks}}

        return self.wait(look, seconds, f"the run {run}")

    def runs(self, dag: str) -> list[dict[str, Any]]:
        """All runs of a DAG, the oldest first."""
        found: list[dict[str, Any]] = self.call(f"/api/v2/dags/{dag}/dagRuns?order_by=id&limit=100")[
            "dag_runs"
        ]
        return found

    def wait(self, look: Any, seconds: float, what: str) -> Any:
        """Look until there is something to see. Fails when a component died, or when it takes too long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if (found := look()) is not None:
                return found
            dead = [name for name, process in self.processes.items() if process.poll() is not None]
            assert not dead, f"died while waiting for {what}: {dead}\n{self.logs()}"
            time.sleep(0.5)
        raise AssertionError(f"still waiting for {what} after {seconds:.0f} s\n{self.logs()}")

    def logs(self) -> str:
        """The ends of what the components and the tasks have said."""
        paths = [self.home / f"{name}.log" for name in COMPONENTS]
        paths += sorted((self.home / "logs").rglob("attempt=*.log"))
        ends = ((path, path.read_text(errors="replace")[-3000:]) for path in paths if path.exists())
        return "\n".join(f"--- {path.name}\n{end}" for path, end in ends)


@contextmanager
def scheduler(
    home: Path, *, triggerer: bool = False, paused: bool = False, **settings: str
) -> Iterator[Server]:
    """A running Airflow with an empty database in ``home``; it is stopped at the end."""
    port, *log_ports = free_ports(3)
    url = f"http://127.0.0.1:{port}"
    env = airflow_environment(
        home,
        AIRFLOW__API__HOST="127.0.0.1",
        AIRFLOW__API__PORT=str(port),
        AIRFLOW__API__WORKERS="1",
        AIRFLOW__API__SECRET_KEY=secrets.token_hex(),
        AIRFLOW__API_AUTH__JWT_SECRET=secrets.token_hex(),
        AIRFLOW__CORE__EXECUTION_API_SERVER_URL=f"{url}/execution/",
        AIRFLOW__CORE__PARALLELISM="2",
        AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS="True",
        AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION=str(paused),
        AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES="1",
        AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT=str(log_ports[0]),
        AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT=str(log_ports[1]),
        # A busy machine is slow, not broken.
        AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT="60",
        **settings,
    )
    make_database(home)
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name in COMPONENTS if triggerer else COMPONENTS[:-1]:
            with (home / f"{name}.log").open("wb") as log:
                processes[name] = subprocess.Popen(
                    [sys.executable, "-m", "airflow", name],
                    env=env,
                    cwd=home,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        yield Server(home, url, processes)
    finally:
        stop(list(processes.values()))


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with ExitStack() as probes:
        sockets = [probes.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in sockets]


def stop(processes: list[subprocess.Popen[bytes]]) -> None:
    """End components, all at the same time, and what they have started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        until = time.monotonic() + 30
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, until - time.monotonic()))
