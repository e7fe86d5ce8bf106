"""What single steps of training gave: `steps.csv`, a row every so many steps."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from model.training.lightning_modules import CaptioningModule, Stage

_COLUMNS = ("stage", "epoch", "step", "loss", "perplexity", "top5", "reward", "learning_rate")


class StepLog(Callback):
    """Writes down how a step went: its own loss a word, perplexity and top-5 accuracy, or reward.

    `epoch` and `step` count from 1, `step` anew in each epoch. Of several processes the first one writes, of
    its own share of the batch.
    """

    def __init__(self, path: Path, every: int) -> None:
        self._path = path
        self._every = every
        self._begun = False

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, CaptioningModule)
        if not trainer.is_global_zero:
            return
        stage, epoch, step = pl_module.plan.stage, trainer.current_epoch + 1, batch_idx + 1
        if not self._begun:
            self._begun = True
            _keep_before(self._path, stage, epoch, step)
        if step % self._every:
            return
        figures = {name: float(value) for name, value in pl_module.of_step.items()}
        if "loss" in figures:
            figures["perplexity"] = math.exp(min(figures["loss"], 50.0))
        figures["learning_rate"] = trainer.optimizers[0].param_groups[0]["lr"]
        written = {name: f"{value:.6g}" for name, value in figures.items()}
        with self._path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, _COLUMNS, restval="", extrasaction="ignore")
            writer.writerow({"stage": stage, "epoch": epoch, "step": step, **written})


def _keep_before(path: Path, stage: Stage, epoch: int, step: int) -> None:
    """Leave out the rows of a stage that begins (again) with a step, from that step on."""
    kept: list[dict[str, str]] = []
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            kept = [row for row in csv.DictReader(file) if not _comes_after(row, stage, epoch, step)]
    fresh = path.with_suffix(".tmp")
    with fresh.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(kept)
    fresh.replace(path)


def _comes_after(row: dict[str, str], stage: Stage, epoch: int, step: int) -> bool:
    if row["stage"] != stage:
        return False
    try:
        return (int(row["epoch"]), int(row["step"])) >= (epoch, step)
    except (TypeError, ValueError):  # the last line of a process that was killed while it wrote
        return True
