"""Training on Lightning, stage by stage.

A dataset yields batches `Batch`; where the pictures come from is not this room's business. A stage is
one Lightning run. Its state is saved whole after every epoch under `<out>/.training/<stage>/last.ckpt`
and read weights-only; what leaves a stage is the checkpoint directory of its best epoch.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader

from model.augmentation import view
from model.captioner import CaptionNetwork, load_network
from model.precision import autocast, choose_device, choose_precision
from model.recipe import Recipe
from model.rewards import CiderD
from model.stages import Batch, CaptioningModule, Finetuning, SelfCritical, StagePlan

log = logging.getLogger(__name__)

_LIGHTNING_PRECISION: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def _nothing() -> None:
    return


@dataclass(frozen=True)
class Data:
    """What one stage trains on: batches, and the references of the pictures by position in their split."""

    train: DataLoader[Batch]
    validation: DataLoader[Batch]
    train_references: Mapping[str, Sequence[str]]
    references: Mapping[str, Sequence[str]]
    """Of the validation split."""


@dataclass(frozen=True)
class Listeners:
    """Who wants to know how it goes."""

    saved: Callable[[], None] = _nothing
    """Called between epochs, when the state of the last one is whole on disk."""


def run_stage(
    plan: StagePlan, network: CaptionNetwork, data: Data, listeners: Listeners, *, resume: bool
) -> CaptionNetwork:
    """Train one stage to its end and return its best network; a stage that is done is not run again."""
    if not (resume and plan.done.is_file()):
        _fit(plan, network, data, listeners, resume=resume)
    return load_network(plan.best)[2]


def _fit(plan: StagePlan, network: CaptionNetwork, data: Data, listeners: Listeners, *, resume: bool) -> None:
    recipe = plan.recipe
    device = choose_device(recipe.device)
    precision = choose_precision(recipe.precision, device)
    L.seed_everything(recipe.seed, verbose=False)
    last = plan.directory / "last.ckpt"
    trainer = L.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices="auto" if device.type == "cuda" else 1,
        precision=_LIGHTNING_PRECISION[precision],
        max_epochs=plan.epochs,
        gradient_clip_val=recipe.clip_norm,
        accumulate_grad_batches=recipe.accumulate,
        logger=[
            CSVLogger(plan.directory, name="csv", version=0),
            TensorBoardLogger(plan.directory, name="tensorboard", version=0),
        ],
        callbacks=[
            EarlyStopping("val_cider", mode="max", patience=recipe.patience),
            ModelCheckpoint(
                plan.directory, filename="last", save_on_train_epoch_end=True, enable_version_counter=False
            ),
            EpochLine(),
            Saved(listeners.saved),
        ],
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = _module(plan, network, data)
    start = str(last) if resume and last.is_file() else None
    trainer.fit(module, data.train, data.validation, ckpt_path=start, weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt
    plan.done.write_text(json.dumps({"epochs": trainer.current_epoch, "val_cider": module.best}))


def _module(plan: StagePlan, network: CaptionNetwork, data: Data) -> CaptioningModule:
    if plan.stage == "decoder":
        return CaptioningModule(plan, network, data.references)
    if plan.stage == "finetune":
        return Finetuning(plan, network, data.references)
    encode = plan.vocabulary.encode
    references = [
        [encode(text.split())[1:] for text in data.train_references[str(index)]]
        for index in range(len(data.train_references))
    ]
    return SelfCritical(plan, network, data.references, CiderD(references))


class Saved(Callback):
    """Tells that the state of an epoch is on disk: at the start of the next, since saving comes last."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self.tell = tell

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            self.tell()


class EpochLine(Callback):
    """One line an epoch, for people and logs."""

    def __init__(self) -> None:
        self.began = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.began = time.monotonic()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        log.info(
            "epoch %d/%s: %s (%.0f s)",
            trainer.current_epoch + 1,
            trainer.max_epochs,
            ", ".join(f"{name} {value:.3f}" for name, value in sorted(figures.items())),
            time.monotonic() - self.began,
        )


@torch.inference_mode()
def encode_views(
    network: CaptionNetwork, pictures: Tensor, views: int, recipe: Recipe, generator: torch.Generator
) -> Tensor:
    """(B, 3, S, S) uint8 → features of `views` views of each (B, views, rows, columns, channels) in fp16 on
    the CPU: as it is, mirrored, then crops drawn by `generator`.
    """
    device = choose_device(recipe.device)
    network.encoder.to(device).eval()
    pictures = pictures.to(device)
    with autocast(choose_precision(recipe.precision, device), device):
        seen = [network.encoder(view(pictures, number, generator)).half().cpu() for number in range(views)]
    return torch.stack(seen, dim=1)
