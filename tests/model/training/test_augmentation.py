"""Pictures seen anew at each step of training."""

from __future__ import annotations

import torch

from model.training.augmentation import augment, view

RAMP = torch.arange(32, dtype=torch.uint8).mul(8).expand(3, 32, 32)
"""Brighter from left to right, so that a mirrored picture can be told, and how much of it is there."""


def test_crops_and_mirrors_are_drawn_for_each_picture() -> None:
    drawn = augment(RAMP.repeat(200, 1, 1, 1), least=0.75, generator=torch.Generator().manual_seed(0))
    assert drawn.shape == (200, 3, 32, 32)
    left, right = drawn[:, 0, 16, 0], drawn[:, 0, 16, -1]
    mirrored = (left > right).float().mean()
    assert 0.4 < mirrored < 0.6
    shown = (left - right).abs() / (31 * 8)  # the share of the ramp that is left
    assert 0.72 < shown.min() < 0.8 and 0.95 < shown.max() <= 1
    assert len(set(left.tolist())) > 100, "each picture has a crop of its own"


def test_stored_views_begin_with_the_picture_as_it_is_and_mirrored() -> None:
    pictures = RAMP.repeat(2, 1, 1, 1)
    assert torch.equal(view(pictures, 0), pictures)
    assert torch.equal(view(pictures, 1), pictures.flip(3))
    assert not torch.equal(view(pictures, 2, torch.Generator().manual_seed(1)), pictures.float())
