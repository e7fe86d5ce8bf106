"""Which model: the checkpoint directory that a job captions with."""

from __future__ import annotations

from pathlib import Path

from model.checkpoint import BUNDLED, checkpoint_version, read_config
from model.errors import GpucaptError
from pipeline.checkpoints import checkpoint_folder


def resolve_model(model: str | None) -> Path:
    """The checkpoint directory that ``model`` (a path or an s3:// URL) names; the bundled one for None.

    Raises GpucaptError when there is no such directory or it is no checkpoint.
    """
    directory = BUNDLED if model is None else checkpoint_folder(model)
    if not directory.is_dir():
        if model is None:
            raise GpucaptError("this installation brings no model along; name a checkpoint with --model DIR")
        raise GpucaptError(f"there is no model {model}; --model names a checkpoint directory")
    read_config(directory)
    return directory


def model_name(directory: Path) -> str:
    """What reports call the model."""
    return str(read_config(directory).get("name", directory.name))


def model_version(directory: Path) -> str:
    """What tells one set of weights from another."""
    return checkpoint_version(directory)
