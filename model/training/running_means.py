"""Means over an epoch of what its batches gave, exact over batches of any size and over several processes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from model.training.distributed import gather


class Figures:
    """Sums by name, and what they are sums over."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, means: Mapping[str, Tensor], count: int) -> None:
        """Take in the means of a batch over `count` things. Nothing waits for a GPU."""
        for name, mean in means.items():
            before = self._sums.get(name)
            total = mean.detach().double() * count
            self._sums[name] = total if before is None else before + total
            self._counts[name] = self._counts.get(name, 0) + count

    def means(self) -> dict[str, float]:
        """The means by now, over all processes; with a `loss`, `perplexity` is its exponential."""
        parts = gather((self.state(), self._counts))
        totals = {name: sum(sums.get(name, 0.0) for sums, _ in parts) for sums, _ in parts for name in sums}
        counts = {name: sum(of.get(name, 0) for _, of in parts) for name in totals}
        means = {name: totals[name] / max(1, counts[name]) for name in totals}
        return _with_perplexity(means)

    def here(self) -> dict[str, float]:
        """The means by now of this process alone."""
        means = {name: total / max(1, self._counts[name]) for name, total in self.state().items()}
        return _with_perplexity(means)

    def state(self) -> dict[str, float]:
        """The sums of this process."""
        return {name: float(total) for name, total in self._sums.items()}

    def to_json(self) -> dict[str, Any]:
        """What a checkpoint keeps of an epoch that is not over."""
        return {"sums": self.state(), "counts": dict(self._counts)}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Figures:
        figures = cls()
        figures._sums = {name: torch.tensor(total).double() for name, total in kept["sums"].items()}
        figures._counts = dict(kept["counts"])
        return figures


def _with_perplexity(means: dict[str, float]) -> dict[str, float]:
    if "loss" in means:
        means["perplexity"] = math.exp(min(means["loss"], 50.0))
    return means
