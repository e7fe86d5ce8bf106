"""What every test can count on: markers that skip with a reason where something is not there."""

from __future__ import annotations

import shutil

import pytest

from tests.services.engine import engine
from tests.services.s3 import bucket, s3_server

__all__ = ["bucket", "engine", "s3_server"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a file's tests in one process, for the sake of its fixtures, and all tests of the one engine."""
    for item in items:
        uses_engine = "engine" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("engine" if uses_engine else item.path.stem))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that needs a program or a GPU that this machine does not have."""
    wanted = [name for marker in item.iter_markers("needs") for name in marker.args]
    missing = [name for name in wanted if shutil.which(name) is None]
    if missing:
        pytest.skip(f"not installed here: {', '.join(missing)} (see tests/system-packages.sh)")
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("there is no CUDA device here")
