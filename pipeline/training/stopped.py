"""How a training run ends that a signal ends early."""

from __future__ import annotations

from pipeline.runtime.signals import Interrupted


class TrainingStopped(Interrupted):
    """A signal ended training early."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.args = (f"{self.args[0].partition(';')[0]}; its state is kept, --resume goes on from there",)
