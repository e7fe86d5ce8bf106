"""The docker runner: each command line in a container of its own, on the machine of a Docker engine."""

from __future__ import annotations

import fcntl
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from airflow.providers.docker.exceptions import (
    DockerContainerFailedException,
    DockerContainerFailedSkipException,
)
from airflow.providers.docker.operators.docker import DockerOperator
from airflow.sdk import Context
from docker.types import DeviceRequest, Mount

from operator_base import SECONDS_TO_STOP, WRONG_USAGE, Gpus, failure
from worker_environment import bytes_in, handed_on, setting, settings_in, story_access

RESULT_FILE = "/tmp/gpucapt-result.json"  # in the container, which is one task's own
LABEL = "gpucapt.task"
GPU = re.compile(r"\d+(:\d+)?|(GPU|MIG)-[A-Za-z0-9/-]+")
"""A number (of a part of a GPU, two) or a UUID, as ``nvidia-smi -L`` tells them."""
SECONDS_BETWEEN_LOOKS = 2.0

FILES = {"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CA_BUNDLE", "AWS_WEB_IDENTITY_TOKEN_FILE"}
"""Variables that name files; a container has such a file only where it is mounted at the same path."""


class DockerContainer(DockerOperator):
    """Runs ``gpucapt`` with the arguments ``command`` in a container of the image ``GPUCAPT_IMAGE``."""

    template_fields: Sequence[str] = ("command",)
    template_ext: Sequence[str] = ()
    pickling_library = json
    """How DockerOperator reads the file with the result."""

    def __init__(self, *, gpus: Gpus = "none", **options: Any) -> None:
        mounts = [mount(text) for text in settings_in("DOCKER_MOUNTS")]
        super().__init__(
            **{
                "image": setting("IMAGE") or "gpucapt",
                "docker_conn_id": setting("DOCKER_CONNECTION"),
                "network_mode": setting("DOCKER_NETWORK"),
                "user": setting("DOCKER_USER"),
                "mounts": mounts,
                "shm_size": bytes_in("SHM_SIZE", "8G"),
                "mount_tmp_dir": False,
                "auto_remove": "force",
                # The last line of the output is not asked of the engine, which mixes it with what is logged.
                "retrieve_output": True,
                "retrieve_output_path": RESULT_FILE,
                "skip_on_exit_code": WRONG_USAGE,
                **options,
            }
        )
        self.gpus = gpus
        self._mounts = mounts

    def execute(self, context: Context) -> str | None:
        assert isinstance(self.command, list), "Airflow resolves templated fields before execute"
        arguments = self.command
        self.labels = {LABEL: identity(context)}
        self._private_environment = {
            **self._environment(),
            **story_access(),
            "GPUCAPT_RESULT_FILE": RESULT_FILE,
        }
        self._remove_leftovers(identity(context))
        with ExitStack() as held:
            if self.gpus != "none" and (known := devices()):
                alone = self.gpus == "all"
                taken = held.enter_context(taken_devices(known, all_of_them=alone, log=self.log.info))
                self.device_requests = [gpu_request(taken, every=alone and setting("GPUS") is None)]
                self.log.info("Asking for %s", self.device_requests[0])
            try:
                result = super().execute(context)
            except DockerContainerFailedSkipException as error:
                raise failure(arguments, WRONG_USAGE, last_line(error.logs)) from None
            except DockerContainerFailedException as error:
                raise failure(arguments, exit_code(error), last_line(error.logs)) from None
        return None if result is None else str(result)

    def on_kill(self) -> None:
        """Ask, then insist, and leave no container behind."""
        container: dict[str, Any] | None = self.container  # until there is one
        if container is None or not self.hook.client_created:
            return
        self.cli.stop(container["Id"], timeout=int(SECONDS_TO_STOP))
        self.cli.remove_container(container["Id"], force=True)

    def _environment(self) -> dict[str, str]:
        """What is handed on, less what names files that the container does not have."""
        found = handed_on()
        there = [PurePosixPath(mount["Target"]) for mount in self._mounts]
        for name in FILES & set(found):
            if not any(PurePosixPath(found[name]).is_relative_to(target) for target in there):
                del found[name]
        if not {"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"} & set(found):
            found.pop("AWS_PROFILE", None)
        return found

    def _remove_leftovers(self, label: str) -> None:
        """An earlier try whose process was killed may still have its container, at work or not."""
        for left in self.cli.containers(all=True, filters={"label": f"{LABEL}={label}"}):
            self.log.warning("Removing the container that an earlier try left behind: %s", left["Id"][:12])
            self.cli.remove_container(left["Id"], force=True)


def identity(context: Context) -> str:
    """What all tries of a task have in common."""
    instance = context["ti"]
    return f"{instance.dag_id}/{instance.run_id}/{instance.task_id}/{instance.map_index}"


def devices() -> list[str]:
    """The GPUs that tasks share, as ``GPUCAPT_GPUS`` lists them: numbers or UUIDs. Default: the first."""
    listed = settings_in("GPUS") or ["0"]
    if listed == ["none"]:
        return []
    wrong = [gpu for gpu in listed if not GPU.fullmatch(gpu)]
    if wrong:
        raise ValueError(
            f"GPUCAPT_GPUS names {wrong[0]!r}, which is no GPU; it must be numbers like 0,1, UUIDs, or none"
        )
    return listed


def gpu_request(taken: list[str], *, every: bool) -> DeviceRequest:
    """What the engine is asked for: these GPUs, or every one that it has."""
    which = {"count": -1} if every else {"device_ids": taken}
    return DeviceRequest(capabilities=[["gpu"]], **which)


@contextmanager
def taken_devices(known: list[str], *, all_of_them: bool, log: Callable[..., None]) -> Iterator[list[str]]:
    """One GPU, or all, that no other task of this machine has meanwhile; waits until there is one.

    The locks are the kernel's, so they end with the process that holds them, however it ends.
    """
    with ExitStack() as held:
        if all_of_them:
            taken = known
            for device in sorted(known):
                held.callback(os.close, locked(device, wait=True))
        else:
            waiting = False
            while not (free := next(((name, lock) for name in known if (lock := locked(name)) >= 0), None)):
                if not waiting:
                    log("Waiting for one of the GPUs %s", ", ".join(known))
                waiting = True
                time.sleep(SECONDS_BETWEEN_LOOKS)
            taken = [free[0]]
            held.callback(os.close, free[1])
        yield taken


def locked(device: str, *, wait: bool = False) -> int:
    """The open file that is the lock of a GPU; -1 where another task has it."""
    path = Path(tempfile.gettempdir(), f"gpucapt-gpu-{re.sub(r'[^A-Za-z0-9-]', '_', device)}.lock")
    file = opened(path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(file)
        return -1
    except OSError as error:
        os.close(file)
        raise ValueError(
            f"{path} cannot be locked ({error.strerror}), and without that tasks would share a GPU;"
            " set TMPDIR to a folder on a local disk"
        ) from error
    return file


def opened(path: Path) -> int:
    """A file that is there for its lock alone. Whoever came first made it, so others need not write to it."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    os.fchmod(file, 0o644)  # whatever the umask
    return file


def mount(text: str) -> Mount:
    """``/here:/there`` or ``/here:/there:ro``, or the name of a volume in the place of /here."""
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    if not source or not target.startswith("/") or mode not in ("", "ro", "rw"):
        raise ValueError(
            f"GPUCAPT_DOCKER_MOUNTS has {text!r}; each part must be /here:/there or /here:/there:ro"
        )
    kind = "bind" if source.startswith("/") else "volume"
    return Mount(target=target, source=source, type=kind, read_only=mode == "ro")


def exit_code(error: DockerContainerFailedException) -> int:
    """The exit code that the message tells."""
    found = re.search(r"'StatusCode': (\d+)", str(error))
    return int(found[1]) if found else 1


def last_line(logs: list[str | bytes] | None) -> str:
    """The last line that says something."""
    lines = [line.decode(errors="replace") if isinstance(line, bytes) else line for line in logs or []]
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
