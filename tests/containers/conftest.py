"""The images of containers/, built on bases that stand in for NVIDIA's and Airflow's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.model.tiny import make_tiny_checkpoint
from tests.services.engine import Engine, base_image

LEFT_TO_PIP = frozenset(
    {
        "boto3",
        "botocore",
        "gpucapt",
        "h5py",
        "openai",
        "pydantic-settings",
        "s3transfer",
        "safetensors",
        "scenedetect-headless",
        "typer",
    }
)
"""What the stand-in for NVIDIA's image lacks, so that the build installs it; the rest saves time."""


@pytest.fixture(scope="session")
def torch_base(engine: Engine) -> str:
    """A stand-in for NVIDIA's image: Python, pip, and this environment's torch and what goes with it."""
    return base_image(engine, "torch", without=LEFT_TO_PIP)


@pytest.fixture(scope="session")
def worker_image(engine: Engine, torch_base: str) -> str:
    """The worker image."""
    engine.build("gpucapt-test-worker", "containers/gpucapt/Dockerfile", BASE_IMAGE=torch_base)
    return "gpucapt-test-worker"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with random weights that any user may read, as a folder of models would be."""
    folder = tmp_path_factory.mktemp("models")
    for above in (folder, folder.parent):
        above.chmod(0o755)
    return make_tiny_checkpoint(folder / "tiny")
