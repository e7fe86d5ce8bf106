"""Several processes of one machine that train together: torch's elastic launcher, what torchrun is made of.

Each runs `gpucapt train` again, with the recipe as it was resolved here. The first one writes and speaks;
what the others print is under `OUT/.training/processes/`. What ends any of them is told here, once. This
process fetches what lies in an object store before they begin, and sends OUT while they train.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from model.errors import GpucaptError
from model.training.recipe import Recipe
from pipeline.runtime.cpu_limits import available_cores
from pipeline.storage import staging
from pipeline.training.stopped import TrainingStopped

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    from pipeline.training.run import Trained

log = logging.getLogger(__name__)

_LAUNCHED = "_GPUCAPT_LAUNCHED"
_SAVING_S = 300
"""How long processes may take to save and end after a signal: a step is finished first, and may be a slow
one.
"""
_LOOK_EVERY_S = 5.0
_STOPPING = (signal.SIGTERM, signal.SIGINT)


def is_launched() -> bool:
    """Whether this process was started here, for a run whose folders are looked after already."""
    return _LAUNCHED in os.environ


def left_to_launcher(reason: str) -> bool:
    """Leave why this process ends to the one that started it here, which tells it once for all of them.

    False where nobody did: then it is for this process to tell.
    """
    file = os.environ.get("TORCHELASTIC_ERROR_FILE") if is_launched() else None
    if file is None:
        return False
    Path(file).write_text(json.dumps({"message": reason, "timestamp": int(time.time())}), encoding="utf-8")
    return True


def is_one_of_several() -> bool:
    """Whether torchrun, or what is like it, has started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def count(processes: str, device: str) -> int:
    """How many processes to start: 1 in a process that is one of several already.

    "auto" is one a GPU where the recipe names no device, and one without a GPU.
    """
    if is_one_of_several():
        return 1
    if processes != "auto":
        if not processes.isdecimal() or int(processes) < 1:
            raise GpucaptError(f"--processes must be auto or a number from 1, not {processes!r}.")
        return int(processes)
    if device not in ("auto", "cuda"):
        return 1
    import torch

    return max(1, torch.cuda.device_count())


def train_together(
    count: int,
    data: Path,
    output: staging.Output,
    recipe: Recipe,
    *,
    resume: bool,
    init_from: Path | None,
) -> Trained:
    """Train in `count` processes, from the folder `data` into that of `output`.

    Raises GpucaptError where one fails, TrainingStopped after a signal.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    from model.precision import choose_device
    from pipeline.training.run import trained_in, write_recipe

    if choose_device(recipe.device).type == "cuda":
        import torch

        if count > torch.cuda.device_count():
            raise GpucaptError(
                f"--processes {count} needs as many GPUs; here are {torch.cuda.device_count()}."
            )
    write_recipe(output.path, recipe)
    arguments = ["-m", "pipeline", "train", str(data), str(output.path)]
    arguments += ["--recipe", str(output.path / "recipe.yaml")]
    arguments += ["--resume"] if resume else []
    arguments += ["--init-from", str(init_from)] if init_from else []
    log.info("training in %d processes", count)
    try:
        with _environment(count), _sent_meanwhile(output):
            _launch(count, arguments, output.path / ".training" / "processes")
    except ChildFailedError as error:
        raise GpucaptError(_reason(error)) from error
    except SignalException as stopped:
        raise TrainingStopped(stopped.sigval) from stopped
    return trained_in(output)


def _launch(count: int, arguments: list[str], logs: Path) -> None:
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, Std
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in ("torch.distributed.elastic", "torch.distributed.launcher"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what it has to say is in what it raises
    logs.mkdir(parents=True, exist_ok=True)
    others = dict.fromkeys(range(1, count), Std.ALL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=f"gpucapt-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=str(logs), redirects={0: Std.NONE, **others}),
        signals_to_handle=",".join(number.name for number in _STOPPING),
        shutdown_timeout=_SAVING_S,
    )
    elastic_launch(config, sys.executable)(*arguments)


@contextmanager
def _environment(count: int) -> Iterator[None]:
    """What the processes get: this one's environment, but for what the resolved recipe says already."""
    before = dict(os.environ)
    for name in (*(f"GPUCAPT_{field.name.upper()}" for field in fields(Recipe)), "GPUCAPT_PROCESSES"):
        os.environ.pop(name, None)
    os.environ.pop("GPUCAPT_RESULT_FILE", None)  # the result is told here
    os.environ[_LAUNCHED] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // count)))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _sent_meanwhile(output: staging.Output) -> Iterator[None]:
    """Send OUT to its object store whenever an epoch has ended, as the processes' curves tell."""
    if output.storage is None:
        yield
        return
    over = threading.Event()

    def look() -> None:
        seen: float | None = None
        while not over.wait(_LOOK_EVERY_S):
            drawn = output.path / "curves.png"
            now = drawn.stat().st_mtime if drawn.is_file() else None
            if now != seen:
                seen = now
                try:
                    output.save_now_and_then()
                except GpucaptError as error:
                    log.warning("%s cannot be sent now: %s", output.url, error)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _reason(error: ChildFailedError) -> str:
    """Why the processes ended, in a line: what the first one to fail left, or how it died."""
    told_to_end = {code for number in _STOPPING for code in (128 + number, -number)}
    failures = error.failures.items()
    failed = [one for one in failures if one[1].exitcode not in told_to_end] or failures
    rank, failure = min(failed, key=lambda one: one[1].timestamp)
    if failure.exitcode < 0:
        return (
            f"process {rank} of the training was killed by signal {-failure.exitcode}; where memory ran out, "
            "a smaller --batch-size with --accumulate helps. --resume goes on from the last epoch."
        )
    said = failure.message if Path(failure.error_file).is_file() else f"exit code {failure.exitcode}"
    return said if rank == 0 else f"process {rank} of the training failed: {said}"
