"""Where one ``gpucapt …`` command line runs: the choice of operator, and nothing else.

A DAG asks ``runner()`` for the one that ``GPUCAPT_RUNNER`` names and builds its tasks with it; it never sees
the operator. Every runner keeps the same promises:

- ``arguments`` is what follows ``gpucapt`` on the command line, one list element an argument; no shell reads
  it. It may be a list, an XComArg, or a callable ``(context, jinja_env) -> list``, which Airflow calls when
  the task starts.
- the task's XCom is the last line that the command prints on its standard output,
- what it prints goes into the task's log while it runs,
- exit code 0 is success. 2 (wrong usage) fails for good; anything else is retried as the task's options say.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from airflow.sdk import BaseOperator, Connection, Context, XComArg
from airflow.sdk.exceptions import AirflowException, AirflowFailException

Arguments = Sequence[str] | XComArg | Callable[..., list[str]]
Gpus = Literal["none", "one", "all"]

WRONG_USAGE = 2
LONGEST_LOGGED_LINE = 4000
SECONDS_TO_STOP = 20.0


@dataclass(frozen=True, slots=True)
class Runner:
    """Builds the tasks of one kind. ``takes`` is the operator's templated field for the arguments."""

    operator: type[BaseOperator]
    takes: str
    options: Mapping[str, Any] = field(default_factory=dict)
    gpu_options: Mapping[str, Any] = field(default_factory=dict)
    """Added for a task that uses a GPU."""
    takes_gpus: bool = False
    """Whether the operator is told, as ``gpus``, how many a task gets; else it sees all of the machine's."""

    def task(
        self, task_id: str, arguments: Arguments, *, gpu: bool | Literal["all"] = False, **options: Any
    ) -> BaseOperator:
        """One task that runs ``gpucapt`` with these arguments, without a GPU, with one or with all."""
        return self.operator(task_id=task_id, **self._options(gpu, {**options, self.takes: arguments}))

    def mapped(
        self, task_id: str, arguments: XComArg, *, gpu: bool | Literal["all"] = False, **options: Any
    ) -> Any:
        """One task for each list of arguments in ``arguments``; the last argument names it in the UI."""
        named = {"map_index_template": f"{{{{ task.{self.takes}[-1].rsplit('/', 1)[-1] }}}}"}
        partial = self.operator.partial(task_id=task_id, **named, **self._options(gpu, options))
        return partial.expand(**{self.takes: arguments})

    def _options(self, gpu: bool | Literal["all"], options: Mapping[str, Any]) -> dict[str, Any]:
        gpus: Gpus = "all" if gpu == "all" else "one" if gpu else "none"
        told = {"gpus": gpus} if self.takes_gpus else {}
        limits = dict(self.gpu_options) if gpu else {}
        if gpus == "all" and "pool" in limits:
            limits["pool_slots"] = whole_number("TRAINING_GPUS", 1)
        return {**self.options, **told, **limits, **options}


def runner() -> Runner:
    """The runner that ``GPUCAPT_RUNNER`` names (default: local)."""
    name = os.environ.get("GPUCAPT_RUNNER") or "local"
    build = RUNNERS.get(name)
    if build is None:
        raise ValueError(f"GPUCAPT_RUNNER is {name!r}; it must be one of: {', '.join(RUNNERS)}")
    return build()


def local() -> Runner:
    """Processes beside the scheduler. Without a pool, one captions at a time: it takes the whole machine."""
    return Runner(LocalProcess, "arguments", gpu_options=at_a_time(1))


def docker() -> Runner:
    """Containers of the engine at ``DOCKER_HOST``. Without a pool, as many caption as there are GPUs."""
    from docker_runner import DockerContainer, devices

    return Runner(DockerContainer, "command", gpu_options=at_a_time(len(devices()) or 1), takes_gpus=True)


def kubernetes() -> Runner:
    """Pods. Without a pool, the cluster alone decides how many caption at a time."""
    from kubernetes_runner import KubernetesPod

    return Runner(KubernetesPod, "arguments", gpu_options=at_a_time(None), takes_gpus=True)


RUNNERS: dict[str, Callable[[], Runner]] = {"local": local, "docker": docker, "kubernetes": kubernetes}


def at_a_time(tasks: int | None) -> dict[str, Any]:
    """The options that limit GPU tasks: the pool that ``GPUCAPT_GPU_POOL`` names, else so many at a time."""
    if pool := setting("GPU_POOL"):
        return {"pool": pool}
    return {} if tasks is None else {"max_active_tis_per_dag": tasks}


def setting(name: str) -> str | None:
    """``GPUCAPT_<NAME>``, or None where it is not set or empty."""
    return os.environ.get(f"GPUCAPT_{name}") or None


def settings_in(name: str) -> list[str]:
    """The parts of a setting that is a list, separated by commas."""
    return [part for part in (text.strip() for text in (setting(name) or "").split(",")) if part]


def bytes_in(name: str, default: str) -> int:
    """A setting that is a size such as ``512M`` or ``8G``, in bytes."""
    text = setting(name) or default
    match = re.fullmatch(r"(\d+)([kmgt]?)i?b?", text.strip().lower())
    if match is None or int(match[1]) == 0:
        raise ValueError(f"GPUCAPT_{name} is {text!r}; it must be a size such as 512M or 8G")
    return int(match[1]) << 10 * "_kmgt".index(match[2] or "_")


def whole_number(name: str, default: int) -> int:
    """A setting that is a whole number above 0."""
    text = setting(name) or str(default)
    if not text.isdecimal() or int(text) == 0:
        raise ValueError(f"GPUCAPT_{name} is {text!r}; it must be a whole number above 0")
    return int(text)


SCHEDULERS_OWN = re.compile(
    r"GPUCAPT_(RUNNER|COMMAND|IMAGE|GPUS|GPU_POOL|TRAINING_GPUS|SHM_SIZE|SCHEDULE|QUEUE_URL|AWS_CONN_ID|STORY_CONN_ID"
    r"|RETRIES|RETRY_DELAY|INCOMING|DESTINATION|DATASET|IMAGES|DATA|TRAININGS|DATASET_QUEUE_URL"
    r"|PREPROCESS_SCHEDULE|RETRAIN_SCHEDULE|RESULT_FILE|DOCKER_.*|KUBERNETES_.*)"
)
"""Settings that say how tasks are run; gpucapt itself has no use for them."""

SECRET = re.compile(r"(KEY|SECRET|TOKEN|PASSWORD|CREDENTIALS)(_|$)")


OPENAI = {"OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"}
"""What stories by a language model are told with, beside the settings of gpucapt."""


def handed_on() -> dict[str, str]:
    """What a container gets of this process's environment: gpucapt's settings, access to S3 and OpenAI."""
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if (name.startswith(("AWS_", "GPUCAPT_")) or name in OPENAI)
        and value
        and not SCHEDULERS_OWN.fullmatch(name)
    }


def story_access() -> dict[str, str]:
    """Settings for stories by a language model, out of the connection that ``GPUCAPT_STORY_CONN_ID`` names.

    Its password is the key, its host the endpoint's URL. To be called while a task runs: connections may come
    from a secrets backend. Raises AirflowNotFoundException where there is none of that name.
    """
    name = setting("STORY_CONN_ID")
    if name is None:
        return {}
    found = Connection.get(name)
    access = {"GPUCAPT_STORY_BASE_URL": found.host, "GPUCAPT_STORY_API_KEY": found.password}
    return {name: value for name, value in access.items() if value}


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


def failure(arguments: Sequence[str], code: int, said: str) -> Exception:
    """The error of a task whose command ended with ``code``; ``said`` is the last line it had to say."""
    ended = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    message = f"gpucapt {' '.join(arguments[:2])} {ended}" + (f": {said}" if said else "")
    return AirflowFailException(message) if code == WRONG_USAGE else AirflowException(message)
