"""Torch's storages and tensors, rebuilt from what a file says of them and checked against what it holds."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch
from torch import Tensor

from pipeline.checkpoint_import.pickles import Damaged, Name, UnsafeFile

STORAGES = {
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
STORAGES |= {name.replace("torch.", "torch.cuda.", 1): dtype for name, dtype in STORAGES.items()}


@dataclass(frozen=True, slots=True, eq=False)
class TensorStorage:
    """The elements of one storage, (N,), and the bytes that they lie in, (N * size of one,) uint8."""

    elements: Tensor
    content: Tensor

    def fill(self, file: BinaryIO, start: int) -> None:
        """Read the elements from a place of a file."""
        file.seek(start)
        view = memoryview(self.content.numpy().data)
        if file.readinto(view) != len(view):  # type: ignore[attr-defined]
            raise Damaged("it ends in the middle of its tensors")


class Storages:
    """The storages of one file by key: all of them together hold no more than the file does."""

    def __init__(self, budget: int, fill: Callable[[str, TensorStorage], None] | None = None) -> None:
        if sys.byteorder != "little":  # pragma: no cover
            raise Damaged("checkpoints can be read on little-endian machines only")
        self.by_key: dict[str, TensorStorage] = {}
        self._left = budget
        self._fill = fill

    def persistent(self, identity: Any) -> Any:
        """The value of a persistent id: `("storage", type, key, …, count, …)`, or the class of a module,
        `("module", class, file, source)`, as torch wrote it until 1.4."""
        if type(identity) is tuple and len(identity) == 4 and identity[0] == "module":
            return identity[1]
        if type(identity) is not tuple or len(identity) not in (5, 6) or identity[0] != "storage":
            raise UnsafeFile("a reference to something outside it")
        _, kind, key, _, count, *view = identity
        if (
            type(kind) is not Name
            or kind.path not in STORAGES
            or type(key) is not str
            or view not in ([], [None])
        ):
            raise UnsafeFile("a tensor of a kind that no checkpoint known here has")
        if type(count) is not int or count < 0:
            raise UnsafeFile("a tensor of an impossible size")
        return self._storage(key, STORAGES[kind.path], count)

    def _storage(self, key: str, dtype: torch.dtype, count: int) -> TensorStorage:
        if key in self.by_key:
            known = self.by_key[key]
            if known.elements.dtype != dtype or len(known.elements) != count:
                raise UnsafeFile("tensors that contradict each other about where they lie")
            return known
        self._left -= count * dtype.itemsize
        if self._left < 0:
            raise Damaged("it is smaller than its tensors are; a part of it may be missing")
        content = torch.empty(count * dtype.itemsize, dtype=torch.uint8)
        storage = TensorStorage(content.view(dtype), content)
        if self._fill is not None:
            self._fill(key, storage)
        self.by_key[key] = storage
        return storage


def rebuild(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """`torch._utils._rebuild_tensor` and its `_v2`: a view of a storage that lies within it.

    What is also handed over (requires_grad, hooks, metadata) is of no use here.
    """
    if type(storage) is not TensorStorage or type(size) is not tuple or type(stride) is not tuple:
        raise TypeError("a tensor of nothing")
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or len(size) > 8 or not all(type(number) is int for number in numbers):
        raise TypeError("a tensor without a shape")
    if min(numbers) < 0 or max(numbers) >= 2**63:
        raise UnsafeFile("a tensor of an impossible size")
    count = math.prod(size)
    last = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True))
    if (count and last >= len(storage.elements)) or count > len(storage.elements):
        raise UnsafeFile("a tensor that reaches beyond its own content")
    if not count:
        return storage.elements[:0]
    return storage.elements.as_strided(size, stride, offset)


def rebuild_parameter(data: Any, *_: Any) -> Tensor:
    """`torch._utils._rebuild_parameter`: the tensor itself, as nothing is trained here."""
    if not isinstance(data, Tensor):
        raise TypeError("a parameter of nothing")
    return data
