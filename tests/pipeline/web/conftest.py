"""What the tests of the server share: one that runs, with small limits and a tiny model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.model.tiny import make_tiny_checkpoint
from tests.services.gpucapt_server import Server, running

LIMITS = {
    "GPUCAPT_SERVE_IMAGES": "4",
    "GPUCAPT_SERVE_IMAGE_SIZE": "300000",
    "GPUCAPT_SERVE_IMAGE_PIXELS": "1000000",
    "GPUCAPT_SERVE_VIDEO_SECONDS": "20",
    "GPUCAPT_SERVE_VIDEO_SIZE": "2000000",
    "GPUCAPT_SERVE_VIDEOS": "2",
    "GPUCAPT_SERVE_TEXT_LENGTH": "500",
    "GPUCAPT_SERVE_ALLOW": "s3://pictures/open/",
}


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with random weights."""
    return make_tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's folder for temporary files."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="session")
def server(model: Path, temporary: Path) -> Iterator[Server]:
    """A server that runs."""
    with running("--model", model, TMPDIR=str(temporary), **LIMITS) as found:
        yield found


@pytest.fixture
def client(server: Server) -> httpx.Client:
    """Asks the server."""
    return server.client
