"""What `gpucapt preprocess`, `train` and `evaluate` do, between the command line and the captioner."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from model.errors import GpucaptError
from model.recipe import Recipe

log = logging.getLogger(__name__)


def run_preprocess(dataset: Path, images: Path, out: Path, **settings: Any) -> None:
    """DATASET (Karpathy's JSON) and its folder of pictures → HDF5 and JSON in OUT."""
    from pipeline.datasets import Preprocessing, preprocess, read_karpathy

    name, examples = read_karpathy(dataset)
    if not images.is_dir():
        raise GpucaptError(f"{images}: there is no such folder of pictures.")
    began = time.monotonic()
    report = preprocess(name, examples, images, out, Preprocessing(**settings), _log_progress("pictures"))
    for image, reason in report.skipped:
        log.warning("left out %s: %s", image, reason)
    counts = ", ".join(f"{split} {count}" for split, count in report.pictures.items())
    log.info("%s: %s; %d words; %.0f s", out, counts, report.words, time.monotonic() - began)


def load_recipe(path: Path | None, overrides: dict[str, Any]) -> Recipe:
    """A recipe from a YAML file (or the defaults), with single fields replaced."""
    values: dict[str, Any] = {}
    if path is not None:
        import yaml

        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except FileNotFoundError as error:
            raise GpucaptError(f"{path}: there is no such recipe.") from error
        except yaml.YAMLError as error:
            raise GpucaptError(f"{path} is not valid YAML ({str(error).splitlines()[0]}).") from error
        if not isinstance(values, dict):
            raise GpucaptError(f"{path} is not a recipe: it should be a mapping of field: value.")
    return Recipe.from_dict({**values, **overrides})


def run_train(
    data: Path, out: Path, recipe: Recipe, *, resume: bool = False, init_from: Path | None = None
) -> None:
    """Train by `recipe` on a preprocessed dataset; OUT gets checkpoint/, the logs and the resolved recipe."""
    import torch
    import yaml

    from model.captioner import CaptionNetwork, CheckpointConfig, SearchDefaults, build_network, load_network
    from model.preparation import Preparation
    from model.training import StagePlan, encode_pictures, run_stage
    from pipeline.datasets import CaptionedPictures, read_manifest, read_wordmap, store_features

    state = out / ".training"
    if state.exists() and not resume:
        raise GpucaptError(
            f"{out} holds a training run already: --resume goes on with it, or name another folder."
        )
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
        weights = recipe.encoder_weights
        network = build_network(config, vocabulary, "imagenet" if weights == "imagenet" else _path(weights))
    trained: dict[str, Any] = {"dataset": manifest["base"], "recipe": _portable(recipe)}
    best = None
    if recipe.epochs:
        for split in ("train", "val"):
            store_features(
                lambda pictures: encode_pictures(network, torch.from_numpy(pictures), recipe).numpy(),
                CaptionedPictures(data, split),
                state / f"features-{split}.hdf5",
                mirrored=split == "train",
                progress=_log_progress(f"{split} pictures encoded"),
            )
        plan = StagePlan("decoder", recipe, recipe.epochs, state / "decoder", config, vocabulary, trained)
        network = run_stage(plan, network, _loaders(data, recipe, state), resume=resume)
        best = plan.best
    if recipe.finetune_epochs:
        plan = StagePlan(
            "finetune", recipe, recipe.finetune_epochs, state / "finetune", config, vocabulary, trained
        )
        network = run_stage(plan, network, _loaders(data, recipe, None), resume=resume)
        best = plan.best
    if best is None:
        raise GpucaptError("The recipe trains nothing: epochs and finetune_epochs are both 0.")
    _publish(best, out / "checkpoint", seconds=time.time() - began)


def _portable(recipe: Recipe) -> dict[str, Any]:
    """The recipe as a checkpoint carries it: of a weights file only its name."""
    weights = recipe.encoder_weights
    return {**recipe.to_dict(), "encoder_weights": weights and Path(weights).name}


def _path(weights: str | None) -> Path | None:
    return None if weights is None else Path(weights)


def _loaders(data: Path, recipe: Recipe, features: Path | None) -> Any:
    """Batches of pictures, or of stored features where `features` names their folder."""
    import torch
    from torch.utils.data import DataLoader

    from model.training import Batch, Data
    from pipeline.datasets import CaptionedPictures

    def collate(arrays: Any) -> Batch:
        return Batch(**{name: torch.from_numpy(values) for name, values in arrays.items()})

    def load(split: str) -> Any:
        stored = features / f"features-{split}.hdf5" if features else None
        pictures = CaptionedPictures(data, split, features=stored, draw=split == "train")
        loader: Any = DataLoader(
            pictures,  # type: ignore[arg-type]
            batch_size=recipe.batch_size,
            shuffle=split == "train",
            num_workers=recipe.workers,
            persistent_workers=recipe.workers > 0,
            collate_fn=collate,
        )
        return loader, pictures

    validation, pictures = load("val")
    return Data(load("train")[0], validation, pictures.references)


def _publish(best: Path, target: Path, *, seconds: float) -> None:
    from model.checkpoint import read_config, read_tensors, read_vocabulary, write_checkpoint

    config = read_config(best)
    config["training"]["seconds"] = round(seconds)
    write_checkpoint(target, config, read_vocabulary(best), read_tensors(best))
    log.info("%s: the best network, validation CIDEr %.3f", target, config["training"]["val_cider"])


def run_evaluate(
    model: Path,
    data: Path,
    *,
    split: str = "test",
    beam_size: int = 5,
    max_length: int = 40,
    out: Path | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    limit: int | None = None,
) -> dict[str, float]:
    """Caption a split by beam search and score it; prints the scores, writes them and the captions to OUT."""
    from model.captioner import load_captioner
    from model.metrics import score_captions
    from pipeline.datasets import CaptionedPictures

    captioner = load_captioner(model, device=device, precision=precision)
    pictures = CaptionedPictures(data, split)
    count = min(len(pictures), limit or len(pictures))
    size = batch_size or captioner.default_batch_size()
    said: dict[str, str] = {}
    began = time.monotonic()
    report = _log_progress("pictures captioned")
    for first in range(0, count, size):
        chosen = range(first, min(first + size, count))
        captions = captioner.caption(
            list(pictures.batch(chosen)["pictures"]), beam_size=beam_size, max_length=max_length
        )
        said.update({str(i): caption.text for i, caption in zip(chosen, captions, strict=True)})
        report(len(said), count)
    seconds = time.monotonic() - began
    scores = score_captions(said, pictures.references)
    result = {name: round(value, 4) for name, value in scores.corpus.items()}
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        facts = {
            "model": captioner.name,
            "model_version": captioner.version,
            "dataset": pictures.manifest["base"],
            "split": split,
            "pictures": count,
            "beam_size": beam_size,
            "max_length": max_length,
            "precision": captioner.precision,
            "seconds": round(seconds, 1),
            "scores": result,
        }
        (out / "scores.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        with (out / "captions.jsonl").open("w", encoding="utf-8") as file:
            for key, text in said.items():
                row = {
                    "image": pictures.names[int(key)],
                    "caption": text,
                    "references": pictures.references[key],
                    "scores": {name: round(value, 4) for name, value in scores.pictures[key].items()},
                }
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return result


def _log_progress(what: str, seconds: float = 5.0) -> Callable[[int, int], None]:
    """A log line every few seconds, and one at the end."""
    last = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal last
        if done == total or time.monotonic() - last >= seconds:
            last = time.monotonic()
            log.info("%d of %d %s", done, total, what)

    return progress
