"""The local runner: how it starts gpucapt, what it hands on, and that it ends what it started."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from pipeline.runtime.sizes import parse_size
from tests.dags.conftest import REPOSITORY, airflow_environment
from tests.pipeline.runtime.test_sizes import FORMS, NONE, WRITTEN

pytestmark = pytest.mark.slow

COMMAND = "run = lambda code: LocalProcess(task_id='t', arguments=['-c', code])"

MUCH = """
import sys
for n in range(5000):
    print("x" * 99, file=sys.stderr if n % 2 else sys.stdout)
print("end")
"""

WITH_A_CHILD = """
import subprocess, sys
from pathlib import Path
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
Path({pid!r}).write_text(str(child.pid))
child.wait()
"""


def in_airflow(tmp_path: Path, code: str, **settings: str) -> tuple[Any, str]:
    """Run ``code`` in a process that has the DAG folder on its path, with Python in the place of gpucapt.

    Returns what it left in ``found``, and what it logged.
    """
    script = (
        f"import json, sys\nsys.path.append({str(REPOSITORY / 'dags')!r})\n"
        f"from local_runner import LocalProcess, local_command\n{COMMAND}\n"
        f"{textwrap.dedent(code)}\n"
        f"open({str(tmp_path / 'found')!r}, 'w').write(json.dumps(found))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=airflow_environment(tmp_path, **{"GPUCAPT_COMMAND": sys.executable, **settings}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((tmp_path / "found").read_text()), done.stdout + done.stderr


def test_the_last_line_is_the_result_and_all_lines_are_logged(tmp_path: Path) -> None:
    code = """
        said = "import sys; print('one'); print('aside', file=sys.stderr); print('résumé'); print('two\\\\n')"
        found = [run(said).execute({}), run("pass").execute({})]
    """
    found, log = in_airflow(tmp_path, code)
    assert found == ["two", None]
    assert [line for line in ("one", "aside", "résumé") if line not in log] == []


def test_much_output_on_both_streams_does_not_block(tmp_path: Path) -> None:
    found, _ = in_airflow(tmp_path, f"found = run({MUCH!r}).execute({{}})")
    assert found == "end"


def test_a_task_that_is_killed_ends_what_it_started(tmp_path: Path) -> None:
    code = f"""
        import os, subprocess, threading, time
        from pathlib import Path
        pid = Path({str(tmp_path / "pid")!r})
        task = run({WITH_A_CHILD.format(pid=str(tmp_path / "pid"))!r})
        def kill():
            while not (pid.exists() and pid.read_text()):
                time.sleep(0.05)
            task.on_kill()
        threading.Thread(target=kill).start()
        try:
            task.execute({{}})
            found = "no error"
        except Exception as error:
            found = str(error)
        state = Path(f"/proc/{{pid.read_text()}}/stat")
        for _ in range(200):
            if not state.exists() or state.read_text().split()[2] == "Z":
                break
            time.sleep(0.05)
        else:
            found = "the child lives"
    """
    found, _ = in_airflow(tmp_path, code)
    assert "was killed by signal 15" in found


def test_a_connections_key_reaches_the_process_and_no_log(tmp_path: Path) -> None:
    connection = {"conn_type": "openai", "host": "http://stories.example/v1", "password": "a-secret-key"}
    settings = {"GPUCAPT_STORY_CONN_ID": "stories", "AIRFLOW_CONN_STORIES": json.dumps(connection)}
    code = """
        names = ("GPUCAPT_STORY_BASE_URL", "GPUCAPT_STORY_API_KEY")
        said = f"import os; print([os.environ[name][::-1] for name in {names}])"
        found = run(said).execute({})
    """
    found, log = in_airflow(tmp_path, code, **settings)
    assert found == str(["http://stories.example/v1"[::-1], "a-secret-key"[::-1]])
    assert "a-secret-key" not in log


def test_a_connection_that_is_not_there_is_named(tmp_path: Path) -> None:
    code = """
        try:
            run("print('told')").execute({})
        except Exception as error:
            found = str(error)
    """
    found, _ = in_airflow(tmp_path, code, GPUCAPT_STORY_CONN_ID="stories")
    assert "stories" in found


def test_gpucapt_is_found_beside_python_or_on_the_path(tmp_path: Path) -> None:
    code = """
        import shutil
        given = local_command()
        import os
        del os.environ["GPUCAPT_COMMAND"]
        beside = local_command()
        sys.executable = "/nowhere/python"
        os.environ["PATH"] = "/nowhere"
        try:
            local_command()
            missing = "found"
        except Exception as error:
            missing = str(error)
        found = [given, beside, missing]
    """
    found, _ = in_airflow(tmp_path, code, GPUCAPT_COMMAND="docker run 'my image' gpucapt")
    given, beside, missing = found
    assert given == ["docker", "run", "my image", "gpucapt"]
    assert beside == [str(Path(sys.executable).with_name("gpucapt"))]
    assert "set GPUCAPT_COMMAND" in missing


def test_a_size_means_what_it_means_to_gpucapt(tmp_path: Path) -> None:
    """The DAGs cannot import gpucapt's own reading of sizes, so theirs is compared with it."""
    units = (
        "",
        "b",
        *(
            f"{space}{prefix}{end}"
            for space, prefix, end in product(("", " "), "kMgTPE", ("", "i", "B", "iB"))
        ),
    )
    written = [*WRITTEN, *(f"{number}{unit}" for number, unit in product(("1", "7", "0.3", "1.75"), units))]
    code = f"""
        import os
        from worker_environment import bytes_in
        found = []
        for text in {[*written, *filter(None, NONE)]!r}:
            os.environ["GPUCAPT_SHM_SIZE"] = text
            try:
                found.append(bytes_in("SHM_SIZE", "8G"))
            except ValueError as error:
                found.append(str(error))
    """
    found, _ = in_airflow(tmp_path, code)
    expected: list[int | None] = []
    for text in written:
        try:
            expected.append(parse_size(text))
        except ValueError:
            expected.append(None)
    assert [size if isinstance(size, int) else None for size in found[: len(written)]] == expected
    for text, told in zip(filter(None, NONE), found[len(written) :], strict=True):
        assert told.startswith(f"GPUCAPT_SHM_SIZE is {text!r}; it must be a size such as")
        assert all(form in told for form in FORMS)
        assert len(told.splitlines()) == 1
