"""One process of a training run: the network, its stages, and what it leaves in OUT."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.training.recipe import Recipe
from pipeline.storage import staging
from pipeline.version import code_version

if TYPE_CHECKING:
    from model.captioner import CaptionNetwork, CheckpointConfig
    from model.training.lightning_modules import Stage, StagePlan
    from model.vocabulary import Vocabulary

log = logging.getLogger(__name__)

_SEEN = {
    "decoder": "the decoder, on stored features: no augmentation but a draw among {views} stored views",
    "finetune": "decoder and encoder ({part} of it), on pictures: random crops and flips",
    "self_critical": "the decoder, rewarded by CIDEr-D, on stored features: no augmentation but a draw among"
    " {views} stored views",
}
"""What each stage trains, and what it sees."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of a run."""

    checkpoint: str
    val_cider: float


def train(
    data: Path, output: staging.Output, recipe: Recipe, *, resume: bool, init_from: Path | None
) -> Trained:
    """Train stage by stage. One of several processes where torchrun started them.

    Raises Stopped after a signal; `checkpoint/` then is the best network so far.
    """
    from pipeline.datasets.captioned_pictures import read_manifest, read_wordmap

    began = time.time()
    manifest, vocabulary = read_manifest(data), read_wordmap(data)
    from model.precision import choose_device
    from model.training.distributed import join, wait_for_all
    from model.training.stop_on_signal import StoppedBySignal

    me = join(choose_device(recipe.device))
    if not me.is_first:
        _keep_quiet()
    out = output.path
    if me.is_first:
        write_recipe(out, recipe)
    wait_for_all()
    plans = plan_stages(out, recipe, vocabulary, manifest, _goes_on_from(out, init_from, resume=resume))
    try:
        _run_stages(plans, data, output, resume=resume, init_from=init_from)
    except StoppedBySignal:
        if me.is_first and any(plan.best.is_dir() for plan in plans):
            _publish(plans, output, seconds=time.time() - began)
        raise
    if me.is_first:
        _publish(plans, output, seconds=time.time() - began)
    wait_for_all()
    return trained_in(output)


def trained_in(output: staging.Output) -> Trained:
    """What a run that has ended left in OUT."""
    return Trained(f"{output.url.rstrip('/')}/checkpoint", _val_cider(output.path / "checkpoint"))


def _keep_quiet() -> None:
    """Of several processes one speaks."""
    for name in ("gpucapt", "pipeline", "model"):
        logging.getLogger(name).setLevel(logging.WARNING)


def write_recipe(out: Path, recipe: Recipe) -> None:
    """Keep the recipe in OUT, every field of it."""
    import yaml

    out.mkdir(parents=True, exist_ok=True)
    (out / "recipe.yaml").write_text(yaml.safe_dump(recipe.to_dict(), sort_keys=False), encoding="utf-8")


def _goes_on_from(out: Path, init_from: Path | None, *, resume: bool) -> CheckpointConfig | None:
    """What the network is, that training goes on with: its own of before, or the one to begin with."""
    from model.captioner import CheckpointConfig
    from model.checkpoint import read_config

    before = out / "last" if resume and (out / "last").is_dir() else init_from
    return None if before is None else CheckpointConfig.from_json(read_config(before))


def _config(recipe: Recipe, image_size: int, begun: CheckpointConfig | None) -> CheckpointConfig:
    """A network as the recipe wants it. What recipes do not speak of is as in the one to begin with, where
    that has the same encoder or decoder: imported ones differ in more than there are options for, also in the
    order of their channels.
    """
    from model.captioner import CheckpointConfig, SearchDefaults
    from model.preprocessing import Preparation

    encoder: dict[str, Any] = {"name": recipe.encoder, "grid": recipe.grid}
    decoder: dict[str, Any] = {"name": recipe.decoder, "options": recipe.decoder_options()}
    preparation = Preparation(size=image_size)
    if begun is not None and begun.encoder["name"] == recipe.encoder:
        grid = begun.encoder.get("grid") if recipe.grid is None else recipe.grid
        encoder = {**begun.encoder, "grid": grid}
        preparation = Preparation(size=image_size, channels=begun.preparation.channels)
    if recipe.encoder_stages is not None:
        encoder["options"] = {**encoder.get("options", {}), "stages": recipe.encoder_stages}
    if begun is not None and begun.decoder["name"] == recipe.decoder:
        decoder["options"] = {**begun.decoder.get("options", {}), **decoder["options"]}
    return CheckpointConfig(
        name=recipe.name,
        encoder=encoder,
        decoder=decoder,
        preparation=preparation,
        search=SearchDefaults(recipe.max_length, recipe.length_penalty),
        training={},
    )


def plan_stages(
    out: Path,
    recipe: Recipe,
    vocabulary: Vocabulary,
    manifest: dict[str, Any],
    begun: CheckpointConfig | None = None,
) -> list[StagePlan]:
    """The stages that a recipe wants, one after the other. `begun`: of the network that they go on with."""
    from model.training.lightning_modules import StagePlan
    from pipeline.datasets.captioned_pictures import tokenizer_of

    config = _config(recipe, int(manifest["settings"]["image_size"]), begun)
    trained: dict[str, Any] = {
        "dataset": manifest["base"],
        "tokenizer": tokenizer_of(manifest),
        "recipe": _portable(recipe),
        "code_version": code_version(),
    }
    if "fingerprint" in manifest:
        trained["dataset_fingerprint"] = manifest["fingerprint"]
    epochs: dict[Stage, int] = {
        "decoder": recipe.epochs,
        "finetune": recipe.finetune_epochs,
        "self_critical": recipe.self_critical_epochs,
    }
    return [
        StagePlan(stage, recipe, count, out, config, vocabulary, trained)
        for stage, count in epochs.items()
        if count
    ]


def _portable(recipe: Recipe) -> dict[str, Any]:
    """The recipe as a checkpoint carries it: of files only their names."""
    files = {
        name: path and Path(path).name
        for name, path in (("encoder_weights", recipe.encoder_weights), ("embeddings", recipe.embeddings))
    }
    return {**recipe.to_dict(), **files}


def _run_stages(
    plans: list[StagePlan], data: Path, output: staging.Output, *, resume: bool, init_from: Path | None
) -> None:
    from model.captioner import load_network
    from model.precision import choose_device
    from model.training.distributed import here
    from model.training.run_stage import run_stage
    from pipeline.training.dataloaders import load_data, store_views
    from pipeline.training.plots import listeners

    # Stages that are done need no data, and what they began with is not needed either.
    done = [plan for plan in plans if resume and plan.done.is_file()]
    left = [plan for plan in plans if plan not in done]
    network = load_network(done[-1].best)[2] if done else _begin(plans[0], init_from)
    world = here().world
    device = choose_device(plans[0].recipe.device)
    log.info("training on %s, %d process%s", device, world, "" if world == 1 else "es")
    for plan in left:
        recipe, channels = plan.recipe, plan.config.preparation.channels
        seen = _SEEN[plan.stage].format(views=recipe.feature_views, part=recipe.encoder_trained)
        log.info("stage %s: %s", plan.stage, seen)
        features = None if plan.stage == "finetune" else plan.out / ".training"
        if features is not None:
            store_views(data, features, network, recipe, channels)
        told = listeners(data, output)
        network = run_stage(plan, network, load_data(data, recipe, features, channels), told, resume=resume)


def _begin(plan: StagePlan, init_from: Path | None) -> CaptionNetwork:
    """A new network, or one that has what fits of another checkpoint's."""
    import torch

    from model.captioner import build_network, load_network
    from model.training.warm_start import transfer

    torch.manual_seed(plan.recipe.seed)
    start = None if init_from is None else load_network(init_from)
    if start is not None and _is_same_encoder(start[0].encoder, plan.config.encoder):
        network = build_network(plan.config, plan.vocabulary)  # its encoder comes from there
    else:
        network = _new_network(plan)
    if plan.recipe.embeddings is not None:
        _take_embeddings(network, plan, plan.recipe.embeddings)
    if start is not None:
        _, words, source = start
        log.info("%s: %s", init_from, transfer(source, words, network, plan.vocabulary))
    return network


def _is_same_encoder(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether the weights of one are the other's, whatever the grid that they are averaged to."""
    return one["name"] == other["name"] and (one.get("options") or {}) == (other.get("options") or {})


def _new_network(plan: StagePlan) -> CaptionNetwork:
    from model.captioner import build_network

    weights = None if plan.recipe.encoder_weights == "none" else plan.recipe.encoder_weights
    if weights is None or weights == "imagenet":
        return build_network(plan.config, plan.vocabulary, weights)
    with staging.input_file(weights) as path:
        return build_network(plan.config, plan.vocabulary, path)


def _take_embeddings(network: CaptionNetwork, plan: StagePlan, url: str) -> None:
    import torch

    from model.training.glove import read_glove

    table = network.decoder.embedding.weight
    with staging.input_file(url) as path:
        vectors, coverage = read_glove(path, plan.vocabulary, table.shape[1])
    with torch.no_grad():
        table.copy_(vectors)
    log.info("%s: %s", url, coverage)


def _val_cider(checkpoint: Path) -> float:
    from model.checkpoint import read_config

    return float(read_config(checkpoint)["training"]["val_cider"])


def _publish(plans: list[StagePlan], output: staging.Output, *, seconds: float) -> None:
    """The checkpoint of the stage with the best validation CIDEr becomes the run's: a later one may have
    brought nothing. Of two alike it is the later one.
    """
    from model.checkpoint import read_config, read_tensors, read_vocabulary, write_checkpoint

    best = max((plan.best for plan in reversed(plans) if plan.best.is_dir()), key=_val_cider)
    config = read_config(best)
    config["training"]["seconds"] = round(seconds)
    write_checkpoint(output.path / "checkpoint", config, read_vocabulary(best), read_tensors(best))
