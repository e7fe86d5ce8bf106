"""Training on Lightning, stage by stage.

A dataset yields batches `CaptionBatch`; where the pictures come from is not this room's business. A stage is
one Lightning run. Its state is saved whole after every epoch under `<out>/.training/<stage>/last.ckpt`
and read weights-only; what leaves a stage is the checkpoint directory of its best epoch.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.utils.data import DataLoader

from model.captioner import CaptionNetwork, load_network
from model.precision import autocast, choose_device, choose_precision
from model.training.augmentation import view
from model.training.distributed import here, wait_for_all
from model.training.epoch_log import EpochEnd, Listeners, StepTimes
from model.training.lightning_modules import (
    CaptionBatch,
    CaptioningModule,
    Finetuning,
    SelfCritical,
    StagePlan,
)
from model.training.recipe import Recipe
from model.training.rewards import CiderD
from model.training.step_log import StepLog
from model.training.stop_on_signal import StopOnSignal

_LIGHTNING_PRECISION: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


@dataclass(frozen=True)
class Data:
    """What one stage trains on: batches, and the references of the pictures by position in their split."""

    train: DataLoader[CaptionBatch]
    """Its batch sampler has `go_on(epoch, batches)`, to begin in the middle of an epoch."""
    validation: DataLoader[CaptionBatch]
    train_references: Mapping[str, Sequence[str]]
    references: Mapping[str, Sequence[str]]
    """Of the validation split."""


def run_stage(
    plan: StagePlan, network: CaptionNetwork, data: Data, listeners: Listeners, *, resume: bool
) -> CaptionNetwork:
    """Train one stage to its end and return its best network.

    Raises Stopped after a signal; with `resume` the stage goes on from there, or from its last whole epoch.
    """
    recipe = plan.recipe
    device = choose_device(recipe.device)
    trainer = _trainer(plan, device, listeners)
    module = _module(plan, network, data)
    start = str(plan.state) if resume and plan.state.is_file() else None
    trainer.fit(module, data.train, data.validation, ckpt_path=start, weights_only=True)
    if trainer.is_global_zero:
        plan.done.write_text(json.dumps({"epochs": trainer.current_epoch, "val_cider": module.best}))
    wait_for_all()
    return load_network(plan.best)[2]


def _trainer(plan: StagePlan, device: torch.device, listeners: Listeners) -> L.Trainer:
    recipe = plan.recipe
    me = here()
    # What it says to its own users is not what ours need to know.
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")
    several: dict[str, Any] = {}
    if me.world > 1:
        # Statistics of BatchNorm stay as they are, so there are no buffers to keep alike.
        several = {"strategy": DDPStrategy(broadcast_buffers=False), "num_nodes": me.machines}
    return L.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=me.local_world if me.world > 1 else ([device.index or 0] if device.type == "cuda" else 1),
        precision=_LIGHTNING_PRECISION[choose_precision(recipe.precision, device)],
        max_epochs=plan.epochs,
        accumulate_grad_batches=recipe.accumulate,
        logger=TensorBoardLogger(plan.directory, name="tensorboard", version=0),
        callbacks=[
            EarlyStopping("val_cider", mode="max", patience=recipe.patience),
            ModelCheckpoint(
                plan.directory,
                filename=plan.state.stem,
                save_on_train_epoch_end=True,
                enable_version_counter=False,
            ),
            EpochEnd(listeners),
            StepLog(plan.steps, recipe.log_every),
            StepTimes(),  # after it, whose drawing and sending is no waiting for data
            StopOnSignal(plan.state, recipe.accumulate),
        ],
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        enable_progress_bar=False,
        enable_model_summary=False,
        **several,
    )


def _module(plan: StagePlan, network: CaptionNetwork, data: Data) -> CaptioningModule:
    batches: Any = data.train.batch_sampler
    go_on = batches.go_on
    if plan.stage == "decoder":
        return CaptioningModule(plan, network, data.references, go_on)
    if plan.stage == "finetune":
        return Finetuning(plan, network, data.references, go_on)
    encode = plan.vocabulary.encode
    references = [
        [encode(text.split())[1:] for text in data.train_references[str(index)]]
        for index in range(len(data.train_references))
    ]
    return SelfCritical(plan, network, data.references, CiderD(references), go_on)


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
