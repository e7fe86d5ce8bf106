"""Devices and mixed precision by name."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from model.errors import GpucaptError

Precision = Literal["fp32", "bf16", "fp16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "fp16")
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" is the first GPU, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise GpucaptError(f"There is no device {name!r}; use auto, cpu, cuda or cuda:N.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise GpucaptError(f"Device {name!r} was asked for, but torch finds no usable GPU here.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise GpucaptError(f"There is no device {name!r} here, only {torch.cuda.device_count()} GPUs.")
    if device.type not in ("cuda", "cpu"):
        raise GpucaptError(f"Device {name!r} is not supported; use auto, cpu, cuda or cuda:N.")
    return device


def choose_precision(name: str, device: torch.device) -> Precision:
    """The precision called `name`; "auto" is bf16 where the hardware multiplies it, else fp32.

    A GPU without bf16 gets fp16. A CPU that only emulates bf16 is faster in fp32.
    """
    if name == "auto":
        if device.type == "cuda":
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        return "bf16" if _cpu_multiplies_bf16() else "fp32"
    for known in PRECISIONS:
        if name == known:
            return known
    raise GpucaptError(f"There is no precision {name!r}; use auto, fp32, bf16 or fp16.")


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """torch's autocast for `precision`; nothing for fp32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=DTYPES[precision])


def _cpu_multiplies_bf16() -> bool:
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
