"""What `gpucapt train` does, between the command line and the captioner."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.errors import GpucaptError
from model.recipe import Recipe
from pipeline import places
from pipeline.checkpoints import checkpoint_folder

if TYPE_CHECKING:
    from model.captioner import CaptionNetwork, CheckpointConfig
    from model.stages import StagePlan
    from model.vocabulary import Vocabulary

log = logging.getLogger(__name__)

_SEEN = {
    "decoder": "the decoder, on stored features: no augmentation but a draw among {views} stored views",
    "finetune": "decoder and encoder, on pictures: random crops and flips",
    "self_critical": "the decoder, rewarded by CIDEr-D, on stored features: no augmentation but a draw among"
    " {views} stored views",
}
"""What each stage trains, and what it sees."""


def load_recipe(url: str | None, overrides: dict[str, Any]) -> Recipe:
    """A recipe from a YAML file (or the defaults), with single fields replaced."""
    values: dict[str, Any] = {}
    if url is not None:
        with places.input_file(url) as path:
            values = _read_yaml(path)
    return Recipe.from_dict({**values, **overrides})


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError as error:
        raise GpucaptError(f"{path}: there is no such recipe.") from error
    except yaml.YAMLError as error:
        raise GpucaptError(f"{path} is not valid YAML ({str(error).splitlines()[0]}).") from error
    if not isinstance(values, dict):
        raise GpucaptError(f"{path} is not a recipe: it should be a mapping of field: value.")
    return values


def run_train(
    data: str, out: str, recipe: Recipe, *, resume: bool = False, init_from: str | None = None
) -> None:
    """Train by `recipe` on a preprocessed dataset; OUT gets checkpoint/, the logs and the resolved recipe.

    In an object store OUT is kept up to date about once a minute, between epochs, so that a run that dies can
    be resumed from there by another machine.
    """
    with places.output_folder(out, also_when_failed=True) as output:
        if output.holds(".training") and not resume:
            raise GpucaptError(
                f"{out} holds a training run already: --resume goes on with it, or name another folder."
            )
        if resume:
            output.fetch()
        start = None if init_from is None else checkpoint_folder(init_from)
        with places.input_folder(data, wanted=_but_for("test")) as folder:
            _train(folder, output, recipe, resume=resume, init_from=start)


def _but_for(*splits: str) -> Callable[[str], bool]:
    """Which files of a dataset to fetch: not the pictures of some splits."""
    names = tuple(f"{split.upper()}_IMAGES_" for split in splits)
    return lambda key: not key.startswith(names)


def _train(
    data: Path, output: places.Output, recipe: Recipe, *, resume: bool, init_from: Path | None
) -> None:
    import torch
    import yaml

    from model.captioner import CheckpointConfig, SearchDefaults, load_network
    from model.preparation import Preparation
    from model.stages import Stage, StagePlan
    from model.training import Listeners, run_stage
    from pipeline.datasets import read_manifest, read_wordmap
    from pipeline.training_data import load_data, store_views

    out = output.path
    state = out / ".training"
    out.mkdir(parents=True, exist_ok=True)
    (out / "recipe.yaml").write_text(yaml.safe_dump(recipe.to_dict(), sort_keys=False), encoding="utf-8")
    manifest, vocabulary = read_manifest(data), read_wordmap(data)
    began = time.time()
    torch.manual_seed(recipe.seed)
    config = CheckpointConfig(
        name=recipe.name,
        encoder={"name": recipe.encoder, "grid": recipe.grid},
        decoder={"name": recipe.decoder, "options": recipe.decoder_options()},
        preparation=Preparation(size=int(manifest["settings"]["image_size"])),
        search=SearchDefaults(recipe.max_length, recipe.length_penalty),
        training={},
    )
    network: CaptionNetwork
    if init_from is not None:
        start, words, network = load_network(init_from)
        if words != vocabulary or start.encoder != config.encoder or start.decoder != config.decoder:
            raise GpucaptError(
                f"{init_from} was made with another vocabulary or architecture than this run's."
            )
    else:
        network = _new_network(config, vocabulary, recipe.encoder_weights)
    trained: dict[str, Any] = {"dataset": manifest["base"], "recipe": _portable(recipe)}
    listeners = Listeners(saved=output.save_now_and_then)
    epochs: dict[Stage, int] = {
        "decoder": recipe.epochs,
        "finetune": recipe.finetune_epochs,
        "self_critical": recipe.self_critical_epochs,
    }
    plans = [
        StagePlan(stage, recipe, count, state / stage, config, vocabulary, trained)
        for stage, count in epochs.items()
        if count
    ]
    if not plans:
        raise GpucaptError("The recipe trains nothing: the epochs of all stages are 0.")
    for plan in plans:
        # A stage that is done needs no data, and its features may be gone.
        if not (resume and plan.done.is_file()):
            log.info("stage %s: %s", plan.stage, _SEEN[plan.stage].format(views=recipe.feature_views))
            features = None if plan.stage == "finetune" else state
            if features is not None:
                store_views(data, features, network, recipe)
            source = load_data(data, recipe, features)
        network = run_stage(plan, network, source, listeners, resume=resume)
    _publish(_best(plans), out / "checkpoint", output.url, seconds=time.time() - began)


def _new_network(config: CheckpointConfig, vocabulary: Vocabulary, weights: str | None) -> CaptionNetwork:
    from model.captioner import build_network

    if weights is None or weights == "imagenet":
        return build_network(config, vocabulary, weights)
    with places.input_file(weights) as path:
        return build_network(config, vocabulary, path)


def _portable(recipe: Recipe) -> dict[str, Any]:
    """The recipe as a checkpoint carries it: of a weights file only its name."""
    weights = recipe.encoder_weights
    return {**recipe.to_dict(), "encoder_weights": weights and Path(weights).name}


def _best(plans: list[StagePlan]) -> Path:
    """The checkpoint of the stage with the best validation CIDEr: a later one may have brought nothing."""
    from model.checkpoint import read_config

    # Of two alike the later one.
    return max(
        (plan.best for plan in reversed(plans)),
        key=lambda best: float(read_config(best)["training"]["val_cider"]),
    )


def _publish(best: Path, target: Path, url: str, *, seconds: float) -> None:
    from model.checkpoint import read_config, read_tensors, read_vocabulary, write_checkpoint

    config = read_config(best)
    config["training"]["seconds"] = round(seconds)
    write_checkpoint(target, config, read_vocabulary(best), read_tensors(best))
    log.info(
        "%s/%s: the best network, validation CIDEr %.3f", url, target.name, config["training"]["val_cider"]
    )
