"""Training on Lightning: teacher forcing, the running mean of the weights, selection by real decoding.

A dataset yields batches `Batch`; where the pictures come from is not this room's business. A stage is
one Lightning run. Its state is saved whole after every epoch under `<out>/.training/<stage>/last.ckpt`
and read weights-only; what leaves a stage is the checkpoint directory of its best epoch.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from model.beam_search import Search, beam_search
from model.captioner import CaptionNetwork, CheckpointConfig, load_network, save_network
from model.errors import GpucaptError
from model.metrics import cider
from model.precision import autocast, choose_device, choose_precision
from model.recipe import Recipe
from model.vocabulary import Vocabulary

log = logging.getLogger(__name__)

Stage = Literal["decoder", "finetune"]
_LIGHTNING_PRECISION: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def _nothing() -> None:
    return


@dataclass(slots=True)
class Batch:
    """`pictures`: (B, 3, S, S) uint8, or stored features (B, rows, columns, channels) in fp16.
    `captions`: (B, K, T) word indices, `<start>` first; `lengths`: (B, K) words to predict, `<end>`
    included, 0 where a picture has fewer captions. `index`: (B,) positions in the dataset."""

    pictures: Tensor
    captions: Tensor
    lengths: Tensor
    index: Tensor

    def pin_memory(self) -> Batch:
        return Batch(*(t.pin_memory() for t in (self.pictures, self.captions, self.lengths, self.index)))


@dataclass(frozen=True)
class Data:
    """What one stage trains on: batches, and for validation the pictures' references by position."""

    train: DataLoader[Batch]
    validation: DataLoader[Batch]
    references: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class StagePlan:
    """One Lightning run. `trained` adds to what the checkpoint says about its training."""

    stage: Stage
    recipe: Recipe
    epochs: int
    directory: Path
    config: CheckpointConfig
    vocabulary: Vocabulary
    trained: dict[str, Any] = field(default_factory=dict)
    saved: Callable[[], None] = _nothing
    """Called between epochs, when the state of the last one is whole on disk."""

    @property
    def best(self) -> Path:
        return self.directory / "best"

    @property
    def done(self) -> Path:
        return self.directory / "done.json"


def run_stage(plan: StagePlan, network: CaptionNetwork, data: Data, *, resume: bool) -> CaptionNetwork:
    """Train one stage to its end and return its best network; a stage that is done is not run again."""
    if not (resume and plan.done.is_file()):
        _fit(plan, network, data, resume=resume)
    return load_network(plan.best)[2]


def _fit(plan: StagePlan, network: CaptionNetwork, data: Data, *, resume: bool) -> None:
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
            Saved(plan.saved),
        ],
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = CaptioningModule(plan, network, data.references)
    start = str(last) if resume and last.is_file() else None
    trainer.fit(module, data.train, data.validation, ckpt_path=start, weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt
    plan.done.write_text(json.dumps({"epochs": trainer.current_epoch, "val_cider": module.best}))


class CaptioningModule(L.LightningModule):
    """Loss, optimiser and validation of one stage."""

    def __init__(
        self, plan: StagePlan, network: CaptionNetwork, references: Mapping[str, Sequence[str]]
    ) -> None:
        super().__init__()
        self.plan = plan
        self.recipe = plan.recipe
        self.finetune = plan.stage == "finetune"
        self.network = network
        self.average = AveragedModel(network, avg_fn=self._average)
        self.references = references
        self.best = -1.0
        self._said: dict[str, str] = {}
        for parameter in self.network.encoder.parameters():
            parameter.requires_grad_(self.finetune)

    def _average(self, average: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
        count = float(updates)
        decay = min(self.recipe.average_decay, (1 + count) / (10 + count))
        return average.lerp(current, 1 - decay)

    def train(self, mode: bool = True) -> CaptioningModule:
        """BatchNorm keeps ImageNet's statistics: batches here are too small and too alike for new ones."""
        super().train(mode)
        for module in self.network.encoder.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def configure_optimizers(self) -> Any:
        recipe = self.recipe
        rate = recipe.finetune_learning_rate if self.finetune else recipe.learning_rate
        groups = [{"params": list(self.network.decoder.parameters()), "lr": rate}]
        if self.finetune:
            groups.append(
                {"params": list(self.network.encoder.parameters()), "lr": recipe.encoder_learning_rate}
            )
        fp16 = self.trainer.precision == "16-mixed"
        optimizer = build_optimizer(recipe.optimizer, groups, recipe.weight_decay, scaled=fp16)
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        warm = max(1, int(recipe.warmup * steps))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, warm, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        features = batch.pictures
        if self.finetune:
            features = self.network.encoder(augment(batch.pictures))
        forced = self.network.decoder(
            features.to(self.dtype) if not self.finetune else features, batch.captions, batch.lengths
        )
        loss, figures = caption_loss(
            forced.logits, forced.targets, forced.attended, batch.lengths, self.recipe
        )
        size = len(forced.targets)
        for name, value in figures.items():
            self.log(f"train_{name}", value, on_step=False, on_epoch=True, batch_size=size)
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.average.update_parameters(self.network)

    def on_validation_epoch_start(self) -> None:
        self._said = {}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Caption with the averaged weights, as the finished model will; teacher-forced loss beside it."""
        network: Any = self.average.module
        network.eval()
        features = network.encoder(batch.pictures) if self.finetune else batch.pictures.to(self.dtype)
        forced = network.decoder(features, batch.captions, batch.lengths)
        _, figures = caption_loss(forced.logits, forced.targets, forced.attended, batch.lengths, self.recipe)
        for name, value in figures.items():
            self.log(f"val_{name}", value, batch_size=len(forced.targets))
        words = self.plan.vocabulary
        search = Search(
            start=words.start,
            end=words.end,
            forbidden=(words.pad, words.start, words.unknown),
            beam_size=self.recipe.validation_beam,
            max_length=self.recipe.max_length,
            length_penalty=self.recipe.length_penalty,
        )
        found = beam_search(network.decoder, features, search)
        for index, row, length in zip(
            batch.index.tolist(), found.words.tolist(), found.lengths.tolist(), strict=True
        ):
            self._said[str(index)] = " ".join(words.decode(row[:length]))

    def on_validation_epoch_end(self) -> None:
        value = cider(self._said, self.references)
        self.log("val_cider", value)
        if value > self.best:
            self.best = value
            trained = {
                **self.plan.trained,
                f"{self.plan.stage}_epoch": self.current_epoch + 1,
                "val_cider": value,
            }
            config = replace(self.plan.config, training=trained)
            network: Any = self.average.module
            save_network(self.plan.best, config, self.plan.vocabulary, network)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["best"] = self.best

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.best = checkpoint["best"]


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


def caption_loss(
    logits: Tensor, targets: Tensor, attended: Tensor, lengths: Tensor, recipe: Recipe
) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy with smoothed labels, and the doubly stochastic term: over a whole caption each
    cell should get about the same attention (Xu et al. 2015, §4.2.1, eq. 14)."""
    logits = logits.float()
    loss = F.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing)
    spread = ((1 - attended[lengths > 0]) ** 2).mean()
    with torch.no_grad():
        plain = F.cross_entropy(logits, targets)
        top5 = (logits.topk(5, dim=1).indices == targets.unsqueeze(1)).any(dim=1).float().mean()
    figures = {"loss": plain, "perplexity": plain.exp(), "top5": top5}
    return loss + recipe.attention_regularisation * spread, figures


def augment(pictures: Tensor, least: float = 0.75) -> Tensor:
    """Random crop and flip, each picture its own: (B, 3, S, S) uint8 → the same as float, 0 … 255.

    A crop keeps at least `least` of each side and is stretched back, as the preparation does.
    """
    count, device = pictures.shape[0], pictures.device
    scale = torch.empty(count, 2, device=device).uniform_(least, 1)
    shift = (torch.rand(count, 2, device=device) * 2 - 1) * (1 - scale)
    flip = torch.where(torch.rand(count, device=device) < 0.5, -1.0, 1.0)
    matrix = torch.zeros(count, 2, 3, device=device)
    matrix[:, 0, 0] = scale[:, 0] * flip
    matrix[:, 1, 1] = scale[:, 1]
    matrix[:, :, 2] = shift
    grid = F.affine_grid(matrix, list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures.float(), grid, align_corners=False, padding_mode="border")


def build_optimizer(
    name: str, groups: Iterable[dict[str, Any]], weight_decay: float, *, scaled: bool = False
) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay: Apex's fused one where it is built and a GPU is there ("auto"
    or "apex"), else torch's. `scaled`: with a gradient scaler, whose clipping torch's fused step does
    not allow."""
    if name not in ("auto", "apex", "adamw"):
        raise GpucaptError(f"There is no optimizer {name!r}; use auto, apex or adamw.")
    if name != "adamw" and torch.cuda.is_available():
        try:
            import amp_C  # type: ignore[import-not-found]  # noqa: F401  (the compiled part that it needs)
            from apex.optimizers import FusedAdam  # type: ignore[import-not-found]
        except ImportError:
            log.info("Apex is not installed: using torch's fused AdamW.")
        else:
            log.info("Using Apex's FusedAdam.")
            apex: torch.optim.Optimizer = FusedAdam(list(groups), weight_decay=weight_decay, adam_w_mode=True)
            return apex
    return torch.optim.AdamW(list(groups), weight_decay=weight_decay, fused=not scaled)


def _rate(step: int, warm: int, steps: int) -> float:
    """Linear rise, then a cosine to a twentieth."""
    if step < warm:
        return (step + 1) / warm
    progress = min(1.0, (step - warm) / max(1, steps - warm))
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress))


@torch.inference_mode()
def encode_pictures(network: CaptionNetwork, pictures: Tensor, recipe: Recipe) -> Tensor:
    """(B, 3, S, S) uint8 → features in fp16 on the CPU, for training on stored features."""
    device = choose_device(recipe.device)
    network.encoder.to(device).eval()
    with autocast(choose_precision(recipe.precision, device), device):
        features: Tensor = network.encoder(pictures.to(device))
    return features.half().cpu()
