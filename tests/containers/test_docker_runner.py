"""The DAG with the docker runner: real containers of the real image, from bucket to bucket."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.containers.conftest import keys, upload
from tests.dags.conftest import REPOSITORY, Airflow, airflow_environment
from tests.pipeline.jobs import caption, captions, write_stills
from tests.services.engine import Engine
from tests.services.s3 import S3Server

pytestmark = pytest.mark.slow

ODD = "{{ ds }} $(AWS_SECRET_ACCESS_KEY) `id` 'a' \"b\".png"


@pytest.fixture
def settings(engine: Engine, worker_image: str, s3_server: S3Server, tiny_model: Path) -> dict[str, str]:
    return {
        **engine.env,
        **s3_server.variables(),
        "GPUCAPT_RUNNER": "docker",
        "GPUCAPT_IMAGE": worker_image,
        "GPUCAPT_GPUS": "none",
        "GPUCAPT_SHM_SIZE": "64M",
        "GPUCAPT_DOCKER_NETWORK": "host",
        "GPUCAPT_DOCKER_MOUNTS": f"{tiny_model}:/model:ro",
        "GPUCAPT_SETTLE": "0",
        "GPUCAPT_SHARDS": "1",
        "GPUCAPT_PRECISION": "fp32",
        "GPUCAPT_MAX_LENGTH": "8",
        "GPUCAPT_WORKERS": "1",
    }


def test_the_dag_captions_a_bucket_in_containers(
    airflow: Airflow,
    settings: dict[str, str],
    engine: Engine,
    bucket: str,
    s3_server: S3Server,
    tiny_model: Path,
    tmp_path: Path,
) -> None:
    write_stills(tmp_path / "in/album", 4)
    write_stills(tmp_path / "in/{{ ds }}", 3, first=20)
    (tmp_path / "in/{{ ds }}/020.png").rename(tmp_path / "in/{{ ds }}" / ODD)
    expected = tmp_path / "expected"
    assert caption(tmp_path / "in", expected, tiny_model) == 0
    upload(s3_server, bucket, tmp_path / "in")

    conf = {"incoming": f"s3://{bucket}/in", "destination": f"s3://{bucket}/out", "model": "/model"}
    found = airflow.run({**conf, "beam_size": 2}, env=settings)
    assert found.state == "success", found.log
    assert found.tasks["caption[0]"] == "success"
    for key in ("album", "{{ ds }}"):
        body = s3_server.client.get_object(Bucket=bucket, Key=f"out/{key}/captions.csv")["Body"].read()
        rows = {row["frame"]: row["caption"] for row in csv.DictReader(io.StringIO(body.decode()))}
        assert rows == captions(expected, key)
    assert keys(s3_server, bucket, "in/") == []
    assert s3_server.secret_key not in found.log
    assert engine.client.containers.list(all=True) == []


RUN = """
    import os, sys, threading
    from types import SimpleNamespace
    sys.path.append({dags!r})
    from docker_runner import DockerContainer, taken_devices
    instance = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=0)

    def run(*arguments, **options):
        task = DockerContainer(task_id="t", command=list(arguments), **options)
        try:
            return task.execute({{"ti": instance}})
        except Exception as error:
            return [type(error).__name__, str(error)]
"""


def in_airflow(tmp_path: Path, code: str, settings: dict[str, str]) -> Any:
    """Run code in a process where Airflow can be imported; what it leaves in ``found``."""
    script = textwrap.dedent(RUN.format(dags=str(REPOSITORY / "dags"))) + textwrap.dedent(code)
    script += f"\nimport json; open({str(tmp_path / 'found')!r}, 'w').write(json.dumps(found))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=airflow_environment(tmp_path, **settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((tmp_path / "found").read_text())


def test_the_result_is_the_last_line_and_failures_are_told_apart(
    engine: Engine, settings: dict[str, str], tmp_path: Path
) -> None:
    code = """
        found = [
            run("--version"),
            run("caption", "--every=never", "a", "b"),
            run("ingest", "shard", "/nowhere/shard.jsonl"),
        ]
    """
    version, usage, broken = in_airflow(tmp_path, code, settings)
    assert version.startswith("gpucapt ")
    assert usage[0] == "AirflowFailException" and "ended with exit code 2" in usage[1]
    assert broken[0] == "AirflowException" and "/nowhere/shard.jsonl" in broken[1]
    assert engine.client.containers.list(all=True) == []


WAITS = ["ingest", "plan", "--settle=600", "--wait"]
"""A command that waits until what is arriving has settled, which is longer than any test."""

START = """
    task = DockerContainer(task_id="t", command={command!r})

    def is_running():
        there = task.container
        return there and task.cli.inspect_container(there["Id"])["State"]["Running"]

    def then():
        while not is_running():
            threading.Event().wait(0.1)
        threading.Event().wait(2)
        {then}

    threading.Thread(target=then).start()
    try:
        found = task.execute({{"ti": instance}})
    except Exception as error:
        found = str(error)
"""


def test_a_killed_task_takes_its_container_along(
    engine: Engine, settings: dict[str, str], bucket: str, s3_server: S3Server, tmp_path: Path
) -> None:
    s3_server.client.put_object(Bucket=bucket, Key="in/new.png", Body=b"-")
    command = [*WAITS, f"s3://{bucket}/in", f"s3://{bucket}/out"]
    in_airflow(tmp_path, START.format(command=command, then="task.on_kill()"), settings)
    assert engine.client.containers.list(all=True) == []


def test_what_a_task_left_behind_whose_process_was_killed_is_removed_by_the_next_try(
    engine: Engine, settings: dict[str, str], bucket: str, s3_server: S3Server, tmp_path: Path
) -> None:
    s3_server.client.put_object(Bucket=bucket, Key="in/new.png", Body=b"-")
    command = [*WAITS, f"s3://{bucket}/in", f"s3://{bucket}/out"]
    with pytest.raises(AssertionError):
        in_airflow(tmp_path, START.format(command=command, then="os.kill(os.getpid(), 9)"), settings)
    (left,) = engine.client.containers.list()
    assert left.labels["gpucapt.task"] == "d/r/t/0"
    found = in_airflow(tmp_path, 'found = run("--version")', settings)
    assert found.startswith("gpucapt ")
    assert engine.client.containers.list(all=True) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be two users")
def test_tasks_of_two_users_wait_for_each_other(tmp_path: Path) -> None:
    code = """
        from docker_runner import locked
        os.umask(0o077)
        mine = locked("0")
        if (child := os.fork()) == 0:
            os.setuid(65534)
            os._exit(0 if locked("0") == -1 and locked("1") >= 0 else 1)
        theirs = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        found = [mine >= 0, theirs, locked("1") >= 0]
    """
    with tempfile.TemporaryDirectory() as shared:
        Path(shared).chmod(0o1777)
        assert in_airflow(tmp_path, code, {"TMPDIR": shared}) == [True, 0, True]


def test_a_gpu_is_not_shared_for_want_of_locks(tmp_path: Path) -> None:
    code = """
        import fcntl
        from docker_runner import locked
        def refused(*_):
            raise OSError(37, "No locks available")
        fcntl.flock = refused
        try:
            found = locked("0")
        except ValueError as error:
            found = str(error)
    """
    found = in_airflow(tmp_path, code, {})
    assert "cannot be locked (No locks available)" in found and "set TMPDIR to a folder on a local" in found


def test_a_gpu_is_one_tasks_at_a_time(tmp_path: Path) -> None:
    code = """
        import queue
        from docker_runner import gpu_request

        def hold(said, all_of_them=False):
            gpus = ["0", "GPU-1"]
            with taken_devices(gpus, all_of_them=all_of_them, log=lambda *told: said.put("waits")) as taken:
                said.put(taken)
                go.wait()

        def begin(**options):
            said = queue.Queue()
            threading.Thread(target=hold, args=(said,), kwargs=options).start()
            return said

        go = threading.Event()
        first, second = begin().get(timeout=60), begin().get(timeout=60)
        third, training = begin(), begin(all_of_them=True)
        waits = third.get(timeout=60)
        early = training.empty()
        go.set()
        later = third.get(timeout=60), training.get(timeout=60)
        requests = [gpu_request(["3"], every=False), gpu_request(["0"], every=True)]
        found = [sorted([first, second]), waits, early, later, requests]
    """
    had, waits, early, later, requests = in_airflow(tmp_path, code, {"TMPDIR": str(tmp_path)})
    assert had == [["0"], ["GPU-1"]]
    assert waits == "waits" and early
    assert later[0] in had and later[1] == ["0", "GPU-1"]
    assert requests == [
        {"Driver": "", "Count": 0, "DeviceIDs": ["3"], "Capabilities": [["gpu"]], "Options": {}},
        {"Driver": "", "Count": -1, "DeviceIDs": [], "Capabilities": [["gpu"]], "Options": {}},
    ]
