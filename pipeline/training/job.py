"""What `gpucapt train` does, between the command line and the captioner."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.errors import GpucaptError
from model.training.recipe import Recipe
from pipeline.models.resolve import resolve_model
from pipeline.storage import staging
from pipeline.storage.open import is_s3
from pipeline.training.stopped import TrainingStopped

if TYPE_CHECKING:
    from pipeline.training.run import Trained


log = logging.getLogger(__name__)


def load_recipe(url: str | None, overrides: dict[str, Any]) -> Recipe:
    """A recipe from a YAML file (or the defaults), with single fields replaced."""
    values: dict[str, Any] = {}
    if url is not None:
        with staging.input_file(url) as path:
            values = _read_yaml(path)
    return Recipe.from_dict({**values, **overrides})


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError as error:
        raise GpucaptError(f"{path}: there is no such recipe.") from error
    except OSError as error:
        raise GpucaptError(f"{path} cannot be read as a recipe: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise GpucaptError(f"{path} is not a recipe: it is no text in UTF-8.") from error
    except yaml.YAMLError as error:
        raise GpucaptError(f"{path} is not valid YAML ({str(error).splitlines()[0]}).") from error
    if not isinstance(values, dict):
        raise GpucaptError(f"{path} is not a recipe: it should be a mapping of field: value.")
    return values


def run_train(
    data: str,
    out: str,
    recipe: Recipe,
    *,
    resume: bool = False,
    init_from: str | None = None,
    processes: str = "auto",
) -> Trained:
    """Train by `recipe` on a preprocessed dataset; OUT gets checkpoint/, the logs and the resolved recipe.

    `processes`: how many of this machine train together; "auto": one a GPU. Where torchrun has started this
    one, as one of several, that is how many there are. In an object store OUT is kept up to date about once a
    minute, between epochs, so that a run that dies can be resumed from there by another machine.
    """
    from pipeline.training import launcher

    if not (recipe.epochs or recipe.finetune_epochs or recipe.self_critical_epochs):
        raise GpucaptError("The recipe trains nothing: the epochs of all stages are 0.")
    launched = launcher.is_launched()
    if not launched and launcher.is_one_of_several() and (is_s3(data) or is_s3(out)):
        raise GpucaptError(
            "Processes that torchrun starts share DATA and OUT as folders; s3:// goes with --processes, "
            "which fetches and sends for all of them."
        )
    count = launcher.count(processes, recipe.device)
    with staging.output_folder(out, also_when_failed=True) as output:
        if not launched:
            if output.holds(".training") and not resume:
                raise GpucaptError(
                    f"{out} holds a training run already: --resume goes on with it, or name another folder."
                )
            if resume:
                output.fetch()
        start = None if init_from is None else resolve_model(init_from).directory
        with staging.input_folder(data, wanted=_but_for("test")) as folder:
            if count > 1:
                trained = launcher.train_together(
                    count, folder, output, recipe, resume=resume, init_from=start
                )
            else:
                trained = _train_here(folder, output, recipe, resume=resume, init_from=start)
    if not launched:  # else who started this process tells it, by the name that the user gave
        log.info("%s: the best network, validation CIDEr %.3f", trained.checkpoint, trained.val_cider)
    return trained


def _train_here(
    data: Path, output: staging.Output, recipe: Recipe, *, resume: bool, init_from: Path | None
) -> Trained:
    """Train in this process. Raises TrainingStopped after a signal."""
    from model.training.stop_on_signal import StoppedBySignal
    from pipeline.training.run import train

    try:
        return train(data, output, recipe, resume=resume, init_from=init_from)
    except StoppedBySignal as stopped:
        raise TrainingStopped(stopped.signal_number) from stopped


def _but_for(*splits: str) -> Callable[[str], bool]:
    """Which files of a dataset to fetch: not the pictures of some splits."""
    names = tuple(f"{split.upper()}_IMAGES_" for split in splits)
    return lambda key: not key.startswith(names)
