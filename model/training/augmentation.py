"""Pictures seen anew each time: crops and mirrored ones, at random."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def augment(pictures: Tensor, least: float = 0.75, generator: torch.Generator | None = None) -> Tensor:
    """Random crop and flip, each picture its own: (B, 3, S, S) uint8 → the same as float, 0 … 255.

    A crop keeps at least `least` of each side and is stretched back, as the preparation does.
    """
    count, device = pictures.shape[0], pictures.device

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device="cpu" if generator else device).to(device)

    scale = least + (1 - least) * random(count, 2)
    shift = (random(count, 2) * 2 - 1) * (1 - scale)
    flip = torch.where(random(count) < 0.5, -1.0, 1.0)
    matrix = torch.zeros(count, 2, 3, device=device)
    matrix[:, 0, 0] = scale[:, 0] * flip
    matrix[:, 1, 1] = scale[:, 1]
    matrix[:, :, 2] = shift
    grid = F.affine_grid(matrix, list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures.float(), grid, align_corners=False, padding_mode="border")


def view(pictures: Tensor, number: int, generator: torch.Generator | None = None) -> Tensor:
    """The stored views of pictures (B, 3, S, S) uint8: 0 as they are, 1 mirrored, then random crops."""
    if number == 0:
        return pictures
    return pictures.flip(3) if number == 1 else augment(pictures, generator=generator)
