"""`gpucapt import-checkpoint`: files of an earlier captioner in, a checkpoint directory out."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from model.captioner import CheckpointConfig, build_network
from model.checkpoint import write_checkpoint
from model.errors import GpucaptError
from model.vocabulary import Vocabulary
from pipeline.checkpoint_import.layout import Imported, LoadedFile, VocabularyFile
from pipeline.checkpoint_import.layouts import LAYOUTS
from pipeline.checkpoint_import.rewriting import parts
from pipeline.checkpoint_import.unpickling import read_file
from pipeline.checkpoint_import.word_maps import words_of
from pipeline.errors import BadInput, one_line
from pipeline.storage import staging

log = logging.getLogger("gpucapt")


def import_checkpoint(files: Sequence[str], destination: str) -> str:
    """Turn the files of an earlier captioner into a checkpoint directory, and return the captioner's name.

    Which file is what shows in its content. Paths or s3:// URLs. Raises BadInput naming the file that
    cannot be used, and GpucaptError for a destination that cannot be.
    """
    with staging.output_folder(destination) as output:
        _check_free(output, destination)
        with ExitStack() as fetched:
            paths = [fetched.enter_context(staging.input_file(url)) for url in files]
            imported, vocabulary = _imported(paths)
        try:
            write_checkpoint(output.path, imported.config, vocabulary, imported.tensors)
        except (OSError, SafetensorError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise _not_writable(destination, reason) from error
    name: str = imported.config["name"]
    return name


def _check_free(output: staging.Output, destination: str) -> None:
    """Find out what is in the way before any work is done."""
    if output.storage:
        taken = next(output.storage.list(), None) is not None
    else:
        try:
            taken = _is_taken(output.path, destination)
        except OSError as error:
            raise _not_writable(destination, error.strerror) from error
    if taken:
        raise GpucaptError(f"{one_line(destination)} exists already: name a folder that is not there yet.")


def _is_taken(path: Path, destination: str) -> bool:
    """Whether there is something already. Raises OSError or GpucaptError where nothing can be made."""
    if path.is_file():
        raise GpucaptError(f"{one_line(destination)} is a file: name the folder for the checkpoint last.")
    if os.path.lexists(path):
        return not path.is_dir() or any(path.iterdir())
    parent = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if not parent.is_dir():
        raise _not_writable(destination, f"{parent} is not a folder")
    # Only trying tells: permissions are not all that there is.
    probe = parent / f".gpucapt-{secrets.token_hex(8)}"
    probe.mkdir()
    probe.rmdir()
    return False


def _not_writable(destination: str, reason: object) -> GpucaptError:
    return GpucaptError(one_line(f"{destination} cannot be written ({reason})."))


def _imported(paths: Sequence[Path]) -> tuple[Imported, Vocabulary]:
    """The checkpoint that the files make, complete and fitting. What they held besides is let go of."""
    files, vocabularies = [], []
    for path in paths:
        name = one_line(str(path))
        content = read_file(path)
        words = words_of(content, name)
        if words is None:
            files.append(LoadedFile(name, content))
        else:
            vocabularies.append(VocabularyFile(name, words))
    if len(vocabularies) > 1:
        raise BadInput(
            f"{vocabularies[0].name} and {vocabularies[1].name} are vocabularies both; give one of them."
        )
    vocabulary = vocabularies[0] if vocabularies else None
    if not files:
        raise BadInput(
            f"{vocabulary.name if vocabulary else 'This'} is a vocabulary;"
            " give the checkpoint that goes with it, too."
        )
    for file in files:
        if len(files) > 1 and not parts([file]):
            raise _not_known(file)
    found = next((found for layout in LAYOUTS if (found := layout(files, vocabulary)) is not None), None)
    if found is None:
        raise _not_known(files[0])
    try:
        words_here = Vocabulary(tuple(found.words))
    except GpucaptError as error:
        raise BadInput(f"{vocabulary.name if vocabulary else files[0].name}: {error}") from error
    _check(found, words_here, files[0].name)
    origin = {path.name: _digest(path) for path in paths}
    training = {**found.config["training"], "imported_from": origin}
    tensors = _independent(found.tensors)
    _check_finite(tensors, " and ".join(file.name for file in files))
    return Imported({**found.config, "training": training}, tensors, found.words), words_here


def _not_known(file: LoadedFile) -> BadInput:
    inside = "is"
    if isinstance(file.content, dict):
        names = ", ".join(_shown(key) for key in list(file.content)[:4])
        inside = f"holds {names or 'nothing'}, which is"
    return BadInput(
        f"{file.name}: It {inside} no checkpoint of a captioner that is known here."
        " See docs/seeds.md for what can be imported."
    )


def _shown(key: Any) -> str:
    """A key of any length and kind, in few characters."""
    return repr(key[:38]) if isinstance(key, str) else f"a {type(key).__name__}"


def _check(found: Imported, words: Vocabulary, name: str) -> None:
    """Compare all names and shapes with the network's, which is built without memory for its weights."""
    config = CheckpointConfig.from_json(found.config)
    with torch.device("meta"):
        wanted = {key: tensor.shape for key, tensor in build_network(config, words).state_dict().items()}
    there = {key: tensor.shape for key, tensor in found.tensors.items()}
    if wanted != there:
        first = min(key for key in wanted.keys() | there.keys() if wanted.get(key) != there.get(key))
        raise BadInput(
            f"{name}: its network is not as it should be; {first} is {_shape(there.get(first))}"
            f" instead of {_shape(wanted.get(first))}."
        )


def _check_finite(tensors: dict[str, Tensor], names: str) -> None:
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel():
            ends = torch.stack(torch.aminmax(tensor))  # NaN wins in both; no copy of the weights is made
            if not ends.isfinite().all():
                raise BadInput(
                    f"{names}: {key} holds numbers that are none (NaN or infinity), as after a training that"
                    " diverged; take the checkpoint of an earlier epoch."
                )


def _shape(shape: torch.Size | None) -> str:
    return "missing" if shape is None else " × ".join(map(str, shape)) or "a number"


def _independent(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that share no memory, as a file of tensors needs them, of numbers that it can hold."""
    seen: set[int] = set()
    own = {}
    for name, tensor in tensors.items():
        tensor = tensor.float() if tensor.dtype == torch.float64 else tensor
        storage = tensor.untyped_storage()
        shared = storage.data_ptr() in seen or storage.nbytes() != tensor.nbytes
        own[name] = tensor.contiguous().clone() if shared else tensor.contiguous()
        seen.add(storage.data_ptr())
    return own


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
