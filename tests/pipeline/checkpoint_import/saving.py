"""Files as the earlier captioners' programs wrote them: their classes by their own modules' names."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from tests.media import PHOTOGRAPHS, Picture, photograph

SIDE = 320
"""Photographs are this wide, so that every preparation has something to do, and not much."""


@contextmanager
def known_as(names: dict[str, ModuleType]) -> Iterator[None]:
    """While this lasts, pickles call the classes of our modules by the names of the originals' modules."""
    renamed = [
        (cls, cls.__module__, name)
        for name, module in names.items()
        for cls in vars(module).values()
        if isinstance(cls, type) and module.__name__ in (cls.__module__, "parts")
    ]
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update(names)
    for cls, _, name in renamed:
        cls.__module__ = name
    try:
        yield
    finally:
        for cls, own, _ in renamed:
            cls.__module__ = own
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def parts_of(*classes: type) -> ModuleType:
    """A module of some classes of other modules."""
    part = ModuleType("parts")
    for cls in classes:
        setattr(part, cls.__name__, cls)
    return part


def save(content: Any, path: Path, names: dict[str, ModuleType], *, legacy: bool = False) -> Path:
    """`torch.save`, as the newer versions do it or as those before 1.6 did."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with known_as(names), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


class Backend:
    """What every module of torch 1.0 to 1.4 has as `_backend`: it pickles as a call of torch's."""

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        return sys.modules["torch.nn.backends.thnn"]._get_thnn_function_backend, ()


def as_in_torch_1_0(module: nn.Module) -> nn.Module:
    """The same module with the attributes that it would have had then, and without those that came later."""
    later = ("_non_persistent_buffers_set", "_is_full_backward_hook", "_backward_pre_hooks", "padding_mode")
    for part in module.modules():
        for name in [
            *later,
            *(name for name in vars(part) if name.startswith(("_load_state", "_state_dict"))),
        ]:
            vars(part).pop(name, None)
        vars(part)["_backend"] = Backend()
    return module


def thnn() -> ModuleType:
    """The module of torch's that `Backend` names, gone since 1.5."""
    module = ModuleType("torch.nn.backends.thnn")

    def _get_thnn_function_backend() -> None: ...

    _get_thnn_function_backend.__module__ = module.__name__
    _get_thnn_function_backend.__qualname__ = "_get_thnn_function_backend"
    module._get_thnn_function_backend = _get_thnn_function_backend  # type: ignore[attr-defined]
    return module


@cache
def photographs() -> dict[str, Picture]:
    """The sample photographs, each `SIDE` pixels wide."""
    found = {}
    for name in PHOTOGRAPHS:
        whole = photograph(name)
        found[name] = photograph(name, size=(SIDE, round(SIDE * whole.shape[0] / whole.shape[1])))
    return found


def settle(network: nn.Module, images: torch.Tensor) -> None:
    """Give BatchNorm the statistics of some pictures: without, random features are all alike."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(images)
    for norm in norms:
        norm.momentum = 0.1
    network.eval()
