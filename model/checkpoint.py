"""A checkpoint is a directory: config.json, vocabulary.json, model.safetensors. Never a pickle.

config.json
    format          1
    name            what reports call the model
    encoder         {"name", "grid", "options"}: options, which may be missing, are `Shape`'s in encoders/
    decoder         {"name", "options"}: keyword arguments of the decoder
    preparation     {"size", "channels", "filter", "shorter_side"}: how pictures are made ready
    search          {"max_length", "length_penalty", "allow_unknown", "plain"}
    unsure_below    captions of which the model is less sure are marked; may be missing
    training        free: what it was trained on (`tokenizer`: how captions became words), how, its metrics
vocabulary.json
    {"words": [...]}: every word at its index, the four marks among them
model.safetensors
    the tensors of `encoder.*` and `decoder.*`; fp16 or fp32, read as fp32
"""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.errors import GpucaptError
from model.vocabulary import Vocabulary

if TYPE_CHECKING:
    from torch import Tensor

BUNDLED = Path(__file__).parent / "pretrained"
CONFIG, VOCABULARY, TENSORS = "config.json", "vocabulary.json", "model.safetensors"
FORMAT = 1


def read_config(directory: Path) -> dict[str, Any]:
    """The checkpoint's config; GpucaptError when the directory is not a checkpoint."""
    for name in (CONFIG, VOCABULARY, TENSORS):
        if not (directory / name).is_file():
            raise GpucaptError(
                f"{directory} is not a checkpoint: it lacks {name}. A checkpoint is a directory with "
                f"{CONFIG}, {VOCABULARY} and {TENSORS}."
            )
    config = _read_json(directory / CONFIG)
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise GpucaptError(f"{directory / CONFIG} is not of format {FORMAT}, the one that is known here.")
    return config


def read_vocabulary(directory: Path) -> Vocabulary:
    """The checkpoint's vocabulary."""
    content = _read_json(directory / VOCABULARY)
    words = content.get("words") if isinstance(content, dict) else None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise GpucaptError(f'{directory / VOCABULARY} does not hold {{"words": [...]}}.')
    try:
        return Vocabulary(tuple(words))
    except GpucaptError as error:
        raise GpucaptError(f"{directory / VOCABULARY}: {error}") from error


def checkpoint_version(directory: Path) -> str:
    """The first 12 hex digits of the SHA-256 of the tensors: the same weights, the same version."""
    with (directory / TENSORS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def write_checkpoint(
    directory: Path, config: dict[str, Any], vocabulary: Vocabulary, tensors: dict[str, Tensor]
) -> None:
    """Write a checkpoint so that `directory` is either whole and new, or what it was before.

    Nothing else is left beside it, whatever ends the writing: an error, Ctrl-C, or a signal that raises.
    """
    directory = directory.absolute()
    directory.parent.mkdir(parents=True, exist_ok=True)
    fresh, old = (directory.with_name(f".{directory.name}.{mark}") for mark in ("new", "old"))
    _remove(fresh)
    fresh.mkdir()
    try:
        _write_files(fresh, config, vocabulary, tensors)
        _remove(old)
        if directory.exists():
            directory.rename(old)
        fresh.rename(directory)
    except BaseException:
        with suppress(OSError):
            if old.exists() and not directory.exists():
                old.rename(directory)
            _remove(fresh)
        raise
    _remove(old)


def _write_files(
    fresh: Path, config: dict[str, Any], vocabulary: Vocabulary, tensors: dict[str, Tensor]
) -> None:
    from safetensors.torch import save_file

    (fresh / CONFIG).write_text(json.dumps({"format": FORMAT, **config}, indent=2) + "\n", encoding="utf-8")
    words = json.dumps({"words": list(vocabulary.words)}, ensure_ascii=False, indent=0)
    (fresh / VOCABULARY).write_text(words + "\n", encoding="utf-8")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, fresh / TENSORS)
    shutil.copymode(fresh / CONFIG, fresh / TENSORS)  # safetensors makes files for their owner alone


def read_tensors(directory: Path) -> dict[str, Tensor]:
    """The checkpoint's tensors, as they are stored."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(directory / TENSORS)
    except (SafetensorError, OSError) as error:
        raise GpucaptError(
            f"{directory / TENSORS} is damaged ({error}); get the checkpoint again."
        ) from error


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise GpucaptError(f"{path} is not valid JSON ({error}).") from error


def _remove(directory: Path) -> None:
    if directory.is_dir():
        for name in (CONFIG, VOCABULARY, TENSORS):
            (directory / name).unlink(missing_ok=True)
        directory.rmdir()
