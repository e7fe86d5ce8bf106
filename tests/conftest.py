"""What every test can count on: markers that skip with a reason where something is not there."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest

from tests.services.engine import engine
from tests.services.programs import why_missing
from tests.services.s3 import bucket, s3_server

__all__ = ["bucket", "engine", "s3_server"]


SERVICES = frozenset({"airflow_home", "browser", "bucket", "engine", "s3", "s3_server", "server"})
"""What takes seconds to start. A test is slow that has one of them as a fixture or as a parameter."""


ALL_SLOW = re.compile(r"^pytestmark = .*pytest\.mark\.slow", re.MULTILINE)
"""How a file says it of all its tests."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark those tests, before any are chosen by their markers."""
    for item in items:
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if SERVICES.intersection([*getattr(item, "fixturenames", ()), *map(str, parameters)]):
            item.add_marker(pytest.mark.slow)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where no slow tests are wanted, leave out files of nothing else: their imports take seconds."""
    if config.getoption("markexpr") != "not slow" or not collection_path.name.startswith("test_"):
        return None
    return True if ALL_SLOW.search(collection_path.read_text(encoding="utf-8")) else None


@pytest.fixture(autouse=True)
def untouched_loggers() -> None:
    """Undo how an earlier command set up logging here: pytest would see its records twice, or never."""
    for name in ("gpucapt", "pipeline", "model"):
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.setLevel(logging.NOTSET)
        logger.propagate = True


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep a file's tests in one process, for the sake of its fixtures, and all that share the one engine."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return "tests/containers" if file.startswith("tests/containers/") else file

    return Scheduling(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that needs a program or a GPU that this machine does not have."""
    wanted = [name for marker in item.iter_markers("needs") for name in marker.args]
    if reason := why_missing(wanted):
        pytest.skip(reason)
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("there is no CUDA device here")
