"""What a decoder's words cost, and what of it is worth knowing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from model.decoders.registry import TeacherForced

Mean = Callable[[Tensor, int], Tensor]
"""A sum and how many it is of → the mean; over all processes where there are several."""


def mean_here(total: Tensor, count: int) -> Tensor:
    """The mean in a single process."""
    return total / max(1, count)


def caption_loss(
    forced: TeacherForced,
    lengths: Tensor,
    *,
    label_smoothing: float,
    attention_regularisation: float,
    mean: Mean = mean_here,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy with smoothed labels a word, and the doubly stochastic term a cell: over a whole caption
    each cell should get about the same attention (Xu et al. 2015, §4.2.1, eq. 14).

    `lengths` (B, K): 0 where there is no caption. Returns the loss to minimise, and loss (cross-entropy,
    labels as they are) and top-5 accuracy of this batch alone.
    """
    logits = forced.logits.float()
    log_probs = logits.log_softmax(dim=1)
    right = forced.targets.unsqueeze(1)
    plain = -log_probs.gather(1, right)
    smoothed = (1 - label_smoothing) * plain.sum() - label_smoothing * log_probs.mean(dim=1).sum()
    cells = max(1, forced.attended.shape[2])  # none where a decoder does not attend
    spread = ((1 - forced.attended[lengths > 0]) ** 2).sum(dim=1) / cells
    loss = mean(smoothed, len(plain))
    loss = loss + attention_regularisation * mean(spread.sum(), len(spread))
    with torch.no_grad():
        better = (logits > logits.gather(1, right)).sum(dim=1)
        figures = {
            "loss": plain.mean(),
            "top5": (better < 5).float().mean(),
        }
    return loss, figures
