"""What several tests of the job share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.model.tiny import make_tiny_checkpoint


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with random weights."""
    return make_tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny")
