"""Registries for tests: each test that asks for one runs on a folder and on an object store."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.checkpoint import TENSORS
from pipeline.evaluation.promote import promote
from pipeline.models.registry import Registry
from tests.model.tiny import make_tiny_checkpoint


@pytest.fixture(params=["folder", "s3"])
def registry(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """An empty registry, which this process's environment names."""
    monkeypatch.setenv("GPUCAPT_CACHE", str(tmp_path / "cache"))
    if request.param == "folder":
        (tmp_path / "registry").mkdir()
        place = str(tmp_path / "registry")
    else:
        place = f"s3://{request.getfixturevalue('bucket')}/models"
    monkeypatch.setenv("GPUCAPT_MODELS", place)
    return Registry.required()


@pytest.fixture(scope="session")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two checkpoints that differ in their weights."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return make_tiny_checkpoint(folder / "a", seed=1), make_tiny_checkpoint(folder / "b", seed=2)


def register(model: Path, name: str, version: str) -> str:
    """Make a checkpoint the champion; its ``name/version``."""
    told = promote(str(model), name=name, version=version)
    assert told["promoted"], told
    return str(told["version"])


def damage(registry: Registry, version: str, name: str = TENSORS) -> None:
    """Change one byte in the middle of a file of a registered model."""
    key = f"{version}/{name}"
    content = bytearray(registry.storage.read(key))
    content[len(content) // 2] ^= 1
    registry.storage.write(key, bytes(content))
