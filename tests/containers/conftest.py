"""The images of containers/, built on bases that stand in for NVIDIA's and Airflow's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.dags.conftest import airflow, airflow_home
from tests.model.tiny import make_tiny_checkpoint
from tests.services.engine import Engine, base_image
from tests.services.s3 import S3Server

__all__ = ["airflow", "airflow_home"]

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
    """A stand-in for NVIDIA's image: Python, pip, and this environment's torch and what goes with it.

    As there, pip does not know of everything that was built for it.
    """
    return base_image(
        engine, "torch", without=LEFT_TO_PIP, unlisted=frozenset({"opencv-python-headless", "torchvision"})
    )


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


def upload(server: S3Server, bucket: str, folder: Path) -> None:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        server.client.put_object(Bucket=bucket, Key=f"in/{path.relative_to(folder)}", Body=path.read_bytes())


def keys(server: S3Server, bucket: str, prefix: str) -> list[str]:
    listed = server.client.list_objects_v2(Bucket=bucket, Prefix=prefix)
    return [entry["Key"] for entry in listed.get("Contents", [])]
