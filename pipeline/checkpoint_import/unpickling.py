"""Files of earlier captioners: torch's checkpoints, of both serialisations, and pickled or JSON vocabularies.

Whatever is in them, nothing of it is imported, called or run; see `pickles.py`.
"""

from __future__ import annotations

import json
import re
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor

from pipeline.checkpoint_import.pickles import (
    MAX_READ,
    Damaged,
    KnownNames,
    Module,
    Name,
    UnsafeFile,
    Window,
    is_plain_key,
    load,
)
from pipeline.checkpoint_import.tensors import STORAGES, Storages, TensorStorage, rebuild, rebuild_parameter
from pipeline.checkpoint_import.word_maps import words_of
from pipeline.errors import BadInput

__all__ = [
    "Module",
    "UnsafeFile",
    "read_checkpoint",
    "read_file",
    "read_vocabulary",
    "state_dict_of",
]

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""The first pickle of a file that torch wrote before 1.6."""
_MAX_PARTS = 100_000
"""Modules and tensors of a network, counted at every place where they are used."""
_MAX_NAME = 500
_NUMPY = ("numpy.core", "numpy._core")

_CLASSES = re.compile(
    r"(torch\.nn\.modules\.[a-z_]+|torch\.nn\.parallel\.data_parallel|torch\.optim\.[a-z_]+"
    r"|torchvision\.models\.[a-z0-9_]+|torchvision\.ops\.misc|resnest\.torch\.[a-z_.]+"
    r"|models|decoder_with_attention|encoder_[A-Za-z0-9_]+|encoder|decoder|model"
    r"|vocab|vocabulary|build_vocab|__main__)"
    r"\.([A-Z_][A-Za-z0-9_]*|rSoftMax)"
)
"""Classes that stand-ins are made for: layers, backbones, optimisers, captioners and their vocabularies."""


def _dictionary(content: Any = (), *_: Any) -> dict[Any, Any]:
    """`OrderedDict([[key, value], …])` and `Counter({…})`, as dictionaries."""
    if type(content) is dict:
        return dict(content)
    if type(content) not in (list, tuple) or not all(
        type(pair) in (list, tuple) and len(pair) == 2 and is_plain_key(pair[0]) for pair in content
    ):
        raise TypeError("a dictionary of something else")
    return dict(content)


def _dictionary_of_nothing(*_: Any) -> dict[Any, Any]:
    """numpy's numbers, which some had as scores: told by nothing, and with attributes to be set."""
    return {}


def _nothing(*_: Any) -> None:
    """What tells nothing about a network."""


def _size(sides: Any = (), *_: Any) -> tuple[Any, ...]:
    return tuple(sides)


def _bytes(text: Any, encoding: Any = "latin1", *_: Any) -> bytes:
    if type(text) is not str or encoding != "latin1":
        raise TypeError("bytes in another form")
    return text.encode("latin1")


def _items(content: Any = (), *_: Any) -> set[Any]:
    if type(content) not in (list, tuple, set) or not all(map(is_plain_key, content)):
        raise TypeError("a set of something else")
    return set(content)


def _instance(cls: Any, *_: Any) -> Module:
    """`copyreg._reconstructor`, with which the oldest protocols make objects."""
    if type(cls) is not Name or not _CLASSES.fullmatch(cls.path):
        raise TypeError("an object of what is no class")
    return Module(cls.path)


_KNOWN = KnownNames(
    functions={
        "torch._utils._rebuild_tensor": rebuild,
        "torch._utils._rebuild_tensor_v2": rebuild,
        "torch._utils._rebuild_parameter": rebuild_parameter,
        "torch.nn.parameter.Parameter": rebuild_parameter,
        "torch.Size": _size,
        "torch.device": _nothing,
        "torch.nn.backends.thnn._get_thnn_function_backend": _nothing,
        "collections.OrderedDict": _dictionary,
        "collections.Counter": _dictionary,
        "collections.defaultdict": lambda *_: {},
        "builtins.set": _items,
        "_codecs.encode": _bytes,
        **dict.fromkeys(
            ("numpy.dtype", *(f"{core}.multiarray.scalar" for core in _NUMPY)), _dictionary_of_nothing
        ),
        "copyreg._reconstructor": _instance,
    },
    is_class=lambda path: _CLASSES.fullmatch(path) is not None,
    values=frozenset(
        {
            *STORAGES,
            *(f"builtins.{name}" for name in ("dict", "int", "list", "object")),
            *(f"torch.{name}" for name in ("float16", "float32", "float64", "int64")),
        }
    ),
    keys=(Tensor,),  # in the optimisers of torch before 1.5
)


def read_checkpoint(path: Path) -> Any:
    """What a file holds: dicts, lists, numbers, tensors, and a `Module` for every object.

    Torch's files of either serialisation, and plain pickles. Raises UnsafeFile for what is refused, BadInput
    for what cannot be read.
    """
    try:
        with path.open("rb") as file:
            return _read(file, path.stat().st_size)
    except UnsafeFile as error:
        raise UnsafeFile(
            f"{path} is refused, and nothing of it was run: it holds {error}. docs/seeds.md says what can be"
            " imported; anything else may be a trap."
        ) from error
    except BadInput:
        raise
    except FileNotFoundError as error:
        raise BadInput(f"{path}: there is no such file.") from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}).") from error
    except Damaged as error:
        raise BadInput(f"{path} cannot be read as a checkpoint: {error}; get it again.") from error


def _read(file: BinaryIO, size: int) -> Any:
    start = file.read(16)
    if not start:
        raise Damaged("it is empty")
    if start[:2] == b"PK":
        return _read_zip(file, size)
    if start.lstrip()[:1] == b"<":
        raise Damaged("it is a web page, not what it was to be; the download went wrong")
    if start.startswith(b"version https://"):
        raise Damaged("it only says where Git LFS keeps the file (`git lfs pull` fetches it)")
    if start[:1] != b"\x80" and start[:1] not in b"(cd}]":
        raise Damaged("it is neither a torch file nor a pickle")
    return _read_stream(file, size)


def _read_stream(file: BinaryIO, size: int) -> Any:
    """A plain pickle, or torch's serialisation until 1.5: pickles (a magic number, a version, a description
    of the machine, the object, the keys of its storages), then of each storage the number of elements and
    those."""
    stream = Window(file, 0, size)
    storages = Storages(budget=size)
    first = load(stream, _KNOWN)
    if first != _LEGACY_MAGIC:
        return first
    load(stream, _KNOWN)
    load(stream, _KNOWN)
    content = load(stream, _KNOWN, storages.persistent)
    keys = load(stream, _KNOWN)
    listed = type(keys) is list and all(type(key) is str and len(key) <= _MAX_NAME for key in keys)
    if not listed or set(keys) != storages.by_key.keys():
        raise Damaged("its tensors are not those that it lists")
    at = stream.tell()
    for key in keys:
        storage = storages.by_key[key]
        stream.seek(at)
        if int.from_bytes(stream.read(8), "little") != len(storage.elements):
            raise Damaged("its tensors are not as large as it says, or it ends too early")
        storage.fill(file, at + 8)
        at += 8 + len(storage.content)
    return content


def _read_zip(file: BinaryIO, size: int) -> Any:
    """Torch's serialisation since 1.6: a zip file of a pickle and a file for each storage, not compressed."""
    parts = _Parts(file, size)

    def fill(key: str, storage: TensorStorage) -> None:
        start, length = parts.place(f"data/{key}")
        if length != len(storage.content):
            raise Damaged("its tensors are not as large as it says")
        storage.fill(file, start)

    storages = Storages(budget=size, fill=fill)
    return load(Window(file, *parts.place("data.pkl")), _KNOWN, storages.persistent)


class _Parts:
    """The files in a torch zip file, and where they lie in it."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        try:
            with zipfile.ZipFile(Window(file, 0, size)) as archive:
                self._parts = {part.filename.partition("/")[2]: part for part in archive.infolist()}
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error) as error:
            raise Damaged("it is damaged, or only a part of it is there") from error
        if "constants.pkl" in self._parts:
            raise Damaged("it is a TorchScript program, not a checkpoint")
        if "data.pkl" not in self._parts:
            raise Damaged("it is a zip file, but not one of torch's")
        if "byteorder" in self._parts and self._bytes("byteorder") != b"little":
            raise Damaged("it was written on a big-endian machine")

    def place(self, name: str) -> tuple[int, int]:
        """Start and length of a part."""
        if name not in self._parts:
            raise Damaged("it lacks some of its tensors")
        part = self._parts[name]
        if part.compress_type != zipfile.ZIP_STORED or part.file_size != part.compress_size:
            raise UnsafeFile("compressed tensors, which torch never writes")
        if not 0 <= part.header_offset < self._size:
            raise Damaged("its directory does not fit its content")
        self._file.seek(part.header_offset)
        header = self._file.read(30)
        if header[:4] != b"PK\x03\x04" or len(header) < 30:
            raise Damaged("its directory does not fit its content")
        names, extra = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
        return part.header_offset + 30 + names + extra, part.file_size

    def _bytes(self, name: str) -> bytes:
        return Window(self._file, *self.place(name)).read()


def state_dict_of(value: Any) -> dict[str, Tensor]:
    """The tensors by dotted name, as `state_dict()` would give them: of a `Module` or of a plain state dict.

    The wrapping of `DataParallel` is taken off. Raises UnsafeFile for modules that hold themselves.
    """
    if isinstance(value, Module):
        tensors = _walk(value)
    elif isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items()
    ):
        tensors = dict(value)
    else:
        raise BadInput("This holds no network: neither a module nor a state dict.")
    if tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


def _walk(root: Module) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    waiting = [("", root)]
    left = _MAX_PARTS
    while waiting:
        prefix, module = waiting.pop()
        hidden = module.state.get("_non_persistent_buffers_set")
        parts = [_named(module, kind) for kind in ("_parameters", "_buffers", "_modules")]
        left -= sum(map(len, parts))
        if left < 0 or any(len(prefix) + len(name) > _MAX_NAME for part in parts for name in part):
            raise UnsafeFile("A network is refused: its modules hold themselves, or each other without end.")
        for name, value in (*parts[0].items(), *parts[1].items()):
            if isinstance(value, Tensor) and not (isinstance(hidden, set) and name in hidden):
                tensors[f"{prefix}{name}"] = value
        children = [(f"{prefix}{name}.", child) for name, child in parts[2].items()]
        waiting += [(name, child) for name, child in reversed(children) if isinstance(child, Module)]
    return tensors


def _named(module: Module, kind: str) -> dict[str, Any]:
    """What a module holds of a kind, by name."""
    found = module.state.get(kind)
    if not isinstance(found, dict) or not all(type(name) is str for name in found):
        return {}
    return found


def read_vocabulary(path: Path) -> list[str]:
    """The words of a vocabulary file, each at its index: a `WORDMAP_….json`, or a pickled vocabulary.

    The marks keep the names that they have in the file.
    """
    words = words_of(read_file(path), str(path))
    if words is None:
        raise BadInput(f"{path} is not a vocabulary: neither a word map (WORDMAP_….json) nor a pickled one.")
    return words


def read_file(path: Path) -> Any:
    """What a file of any of the kinds holds: see `read_checkpoint`, or what its JSON says."""
    try:
        with path.open("rb") as file:
            start = file.read(64)
            if not start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
                return read_checkpoint(path)
            rest = file.read(MAX_READ)
    except FileNotFoundError as error:
        raise BadInput(f"{path}: there is no such file.") from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}).") from error
    try:
        if len(rest) == MAX_READ:
            raise Damaged("too large")
        return json.loads((start + rest).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not a word map in whole JSON; get it again.") from error
