"""Optimisers by name, and how the learning rate rises and falls."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch

from model.errors import GpucaptError

log = logging.getLogger(__name__)

OPTIMIZERS = ("auto", "apex", "adamw")


def build_optimizer(
    name: str,
    groups: Iterable[dict[str, Any]],
    weight_decay: float,
    *,
    device: torch.device,
    scaled: bool = False,
) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay: on a GPU Apex's fused one where it is built ("auto" or "apex"), else
    torch's. The log says which. `scaled`: with a gradient scaler, whose clipping torch's fused step does not
    allow.
    """
    if name not in OPTIMIZERS:
        raise GpucaptError(f"There is no optimizer {name!r}; use {', '.join(OPTIMIZERS)}.")
    if name != "adamw" and device.type == "cuda":
        try:
            import amp_C  # type: ignore[import-not-found]  # noqa: F401  (the compiled part that it needs)
            from apex.optimizers import FusedAdam  # type: ignore[import-not-found]
        except ImportError:
            if name == "apex":
                raise GpucaptError(
                    "Apex with its CUDA parts is not installed; use --optimizer auto."
                ) from None
        else:
            log.info("optimiser: Apex's FusedAdam")
            apex: torch.optim.Optimizer = FusedAdam(list(groups), weight_decay=weight_decay, adam_w_mode=True)
            return apex
    elif name == "apex":
        raise GpucaptError("Apex's optimiser needs a GPU; use --optimizer auto.")
    log.info("optimiser: torch's AdamW, %s", "not fused: fp16's gradients are scaled" if scaled else "fused")
    return torch.optim.AdamW(list(groups), weight_decay=weight_decay, fused=not scaled)


def _constant(progress: float) -> float:
    return 1.0


def _linear(progress: float) -> float:
    return 1 - 0.95 * progress


def _cosine(progress: float) -> float:
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress))


SCHEDULES: dict[str, Callable[[float], float]] = {"cosine": _cosine, "linear": _linear, "constant": _constant}
"""The share of the learning rate after a share of the steps; cosine and linear end at a twentieth."""


def rate_at(schedule: str, step: int, warm: int, steps: int) -> float:
    """The share of the learning rate at a step: a linear rise over the first `warm`, then the schedule."""
    if step < warm:
        return (step + 1) / warm
    return SCHEDULES[schedule](min(1.0, (step - warm) / max(1, steps - warm)))
