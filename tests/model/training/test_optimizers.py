"""Which optimiser a name means, and what is said of those that cannot be had."""

from __future__ import annotations

import logging

import pytest
import torch

from model.errors import GpucaptError
from model.training.optimizers import build_optimizer

CPU = torch.device("cpu")


def groups() -> list[dict[str, object]]:
    return [{"params": [torch.nn.Parameter(torch.zeros(3))], "lr": 0.1}]


def test_without_a_gpu_it_is_torchs_fused_adam(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        optimizer = build_optimizer("auto", groups(), 0.01, device=CPU)
    assert isinstance(optimizer, torch.optim.AdamW) and optimizer.defaults["fused"]
    assert "torch's AdamW" in caplog.text
    (parameter,) = optimizer.param_groups[0]["params"]
    parameter.grad = torch.tensor([1.0, -1.0, 0.0])
    optimizer.step()
    # Adam's first step goes as far as the learning rate says, whatever the gradient's length.
    assert parameter.tolist() == pytest.approx([-0.1, 0.1, 0.0], abs=1e-6)


def test_apex_is_asked_for_only_where_it_can_be() -> None:
    with pytest.raises(GpucaptError, match="needs a GPU; use --optimizer auto"):
        build_optimizer("apex", groups(), 0.01, device=CPU)
    with pytest.raises(GpucaptError, match="no optimizer 'sgd'; use auto, apex, adamw"):
        build_optimizer("sgd", groups(), 0.01, device=CPU)
