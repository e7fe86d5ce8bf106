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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from airflow.sdk import BaseOperator, XComArg

from local_runner import LocalProcess
from operator_base import Arguments, Gpus
from worker_environment import setting, whole_number


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
