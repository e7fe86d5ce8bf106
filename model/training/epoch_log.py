"""What training tells of itself: lines for people, times, the end of an epoch."""

from __future__ import annotations

import csv
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from model.training.lightning_modules import CaptioningModule, Sample, Stage

log = logging.getLogger(__name__)

_LINE_EVERY_S = 30.0


def _nothing(*given: Any) -> None:
    return


@dataclass(frozen=True, slots=True)
class Epoch:
    """An epoch that has ended, its state on disk: its number from 1, and captions of some pictures."""

    stage: Stage
    number: int
    samples: Sequence[Sample]


@dataclass(frozen=True)
class Listeners:
    """Who wants to know how it goes; told in the first process only."""

    ended: Callable[[Epoch], None] = _nothing


class StepTimes(Callback):
    """Times of a step: `batch_s` from one to the next, and what of it was waiting for data, `data_s`.

    Both go into the logs as means over the epoch; a line every half minute says how far an epoch is, and
    how it goes.
    """

    def __init__(self) -> None:
        self._ended = self._began = self._told = time.monotonic()
        self._batch = self._data = 0.0
        self._steps = 0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._ended = self._told = time.monotonic()
        self._batch = self._data = 0.0
        self._steps = 0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._began = time.monotonic()
        self._data += self._began - self._ended

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        self._batch += now - self._ended
        self._ended = now
        self._steps += 1
        if now - self._told > _LINE_EVERY_S:
            self._told = now
            assert isinstance(pl_module, CaptioningModule)
            log.info(
                "epoch %d/%s: batch %d/%d, %.3f s a batch, %.3f s of it waiting for data, %s",
                trainer.current_epoch + 1,
                trainer.max_epochs,
                batch_idx + 1,
                trainer.num_training_batches,
                self._batch / self._steps,
                self._data / self._steps,
                ", ".join(f"{name} {value:.4f}" for name, value in sorted(pl_module.so_far().items())),
            )

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        pl_module.log("batch_s", self._batch / max(1, self._steps))
        pl_module.log("data_s", self._data / max(1, self._steps))


class EpochEnd(Callback):
    """One line an epoch, for people and logs; then whoever listens is told, when its state is on disk: saving
    comes last of all, so that is when the next epoch begins, or training ends.
    """

    def __init__(self, listeners: Listeners) -> None:
        self.listeners = listeners
        self._began = time.monotonic()
        self._ended: Epoch | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._began = time.monotonic()
        assert isinstance(pl_module, CaptioningModule)
        if trainer.is_global_zero:
            keep_rows(pl_module.plan.metrics, pl_module.plan.stage, before=trainer.current_epoch + 1)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._began = time.monotonic()
        self._tell(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._tell(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, CaptioningModule)
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        number, seconds = trainer.current_epoch + 1, time.monotonic() - self._began
        log.info(
            "epoch %d/%s: %s (%.0f s)",
            number,
            trainer.max_epochs,
            ", ".join(f"{name} {value:.3f}" for name, value in sorted(figures.items())),
            seconds,
        )
        plan = pl_module.plan
        if trainer.is_global_zero:
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            figures |= {"learning_rate": rate, "seconds": seconds}
            written = {name: f"{value:.6g}" for name, value in figures.items()}
            add_row(plan.metrics, {"stage": plan.stage, "epoch": number, **written})
        self._ended = Epoch(plan.stage, number, pl_module.samples)

    def _tell(self, trainer: L.Trainer) -> None:
        if self._ended is not None and trainer.is_global_zero:
            self.listeners.ended(self._ended)
        self._ended = None


_COLUMNS = (
    *("stage", "epoch", "train_loss", "train_perplexity", "train_top5", "train_reward"),
    *("val_loss", "val_perplexity", "val_top5", "val_cider"),
    *("learning_rate", "seconds", "batch_s", "data_s"),
)


def read_rows(metrics: Path) -> list[dict[str, str]]:
    """The rows of a run's metrics.csv; what an epoch does not have is empty."""
    if not metrics.is_file():
        return []
    with metrics.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def keep_rows(metrics: Path, stage: Stage, *, before: int) -> None:
    """Leave out the rows of a stage that begins (again) with an epoch, from that epoch on."""
    _write_rows(metrics, [r for r in read_rows(metrics) if r["stage"] != stage or int(r["epoch"]) < before])


def add_row(metrics: Path, row: Mapping[str, Any]) -> None:
    """Write a row behind those that are there; the file is whole at any time."""
    _write_rows(metrics, [*read_rows(metrics), row])


def _write_rows(metrics: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    fresh = metrics.with_suffix(".tmp")
    with fresh.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    fresh.replace(metrics)
