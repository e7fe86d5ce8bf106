"""Files that nobody's program would write: calls, lies and bombs."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass
class Call:
    """Pickles as a call: what an attacker's `__reduce__` returns."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.arguments


@dataclass
class Storage:
    """Pickles as a reference to a storage of floats of so many elements."""

    count: Any
    key: str = "0"
    kind: Any = torch.FloatStorage


class _Pickler(pickle.Pickler):
    def persistent_id(self, value: Any) -> Any:
        return ("storage", value.kind, value.key, "cpu", value.count) if isinstance(value, Storage) else None


def pickled(content: Any) -> bytes:
    """With torch's references to storages."""
    file = io.BytesIO()
    _Pickler(file, protocol=2).dump(content)
    return file.getvalue()


def tensor(storage: Storage, offset: Any, size: Any, stride: Any) -> Call:
    """A tensor that says of itself whatever it likes."""
    rebuild = torch._utils._rebuild_tensor_v2
    return Call(rebuild, (storage, offset, size, stride, False, OrderedDict()))


def torch_zip(
    path: Path, data: bytes, *, storages: dict[str, bytes] | None = None, compressed: bool = False
) -> Path:
    """A file like torch's of a pickle and the contents of its storages."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", b"3\n")
        for key, content in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", content)
    return path
