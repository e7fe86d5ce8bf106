"""Ctrl-C and SIGTERM while a stage trains: its state is saved where it is, then it ends."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from model.training.distributed import count_of_all


class StoppedBySignal(Exception):
    """A signal ended the stage early; its state is on disk."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number


class StopOnSignal(Callback):
    """After the step that a signal comes in, save the state of the stage and raise Stopped.

    Where validation has begun, the epoch ends first. Several processes stop at the same step, whichever of
    them the signal reached. A second signal ends the process at once.
    """

    def __init__(self, state: Path, accumulate: int) -> None:
        self.state = state
        self.accumulate = accumulate
        self.asked: int | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():  # Lightning puts back what was before
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked is not None:
            os._exit(128 + number)
        self.asked = number

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop_if_asked()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        done = batch_idx + 1
        if done == trainer.num_training_batches or done % self.accumulate:
            return  # the epoch's own end saves, and gradients that still add up are in no checkpoint
        if self._is_asked():
            trainer.save_checkpoint(self.state)
            self._stop_if_asked()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop_if_asked()  # in the last step of all: the stage is over, but the next must not begin

    def _is_asked(self) -> bool:
        return count_of_all(int(self.asked is not None)) > 0

    def _stop_if_asked(self) -> None:
        if self._is_asked():
            raise StoppedBySignal(self.asked or signal.SIGTERM)
