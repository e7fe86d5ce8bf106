"""What `gpucapt export` does: a checkpoint as graphs for other programs, with all that they need beside them.

In DESTINATION:

    encoder.onnx, decoder.onnx      or .pt for TorchScript; what goes in and comes out: model/export.py
    vocabulary.json                 {"words": [...]}: every word at its index
    export.json                     the rest: how pictures are prepared, where a caption begins and ends, and
                                    the names of the graphs' inputs and outputs; written last
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.checkpoint import VOCABULARY
from model.errors import GpucaptError
from pipeline.models.resolve import Model, resolve_model
from pipeline.storage import staging
from pipeline.storage.base import sha256

if TYPE_CHECKING:
    from torch import Tensor

    from model.captioner import Captioner
    from model.export import Graph

FORMATS = {"onnx": ".onnx", "torchscript": ".pt"}
EXPORT = "export.json"
FORMAT = 1
_HALVES = ("encoder", "decoder")
_MOST_APART = 1e-3
"""Of a graph's outputs from the model's own, as a share. Rounding makes some 1e-5."""


def run_export(checkpoint: str, destination: str, kind: str) -> None:
    """Write a checkpoint's graphs. Raises GpucaptError where they do not compute what the model does."""
    for name in ("onnx", "onnxscript", "onnxruntime") if kind == "onnx" else ():
        if find_spec(name) is None:
            raise ModuleNotFoundError(name=name)
    staging.check_output(destination)
    model = resolve_model(checkpoint)
    with staging.output_folder(destination) as output:
        folder = output.path.absolute()
        _refuse_other_folders(folder)
        made = [up for up in (folder, *folder.parents) if not up.exists()]
        fresh = folder / ".new"  # what a killed export leaves there, the next one removes
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            fresh.mkdir(parents=True)
        except OSError as error:
            raise GpucaptError(f"{destination} cannot be written: {error.strerror}") from error
        try:
            _write(model, fresh, kind)
            _replace(folder, fresh)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
            with suppress(OSError):  # not empty, when it went well
                for up in made:
                    up.rmdir()


def _refuse_other_folders(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise GpucaptError(f"{folder} is a file; name a folder")
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if EXPORT not in names and any(not name.startswith(".") for name in names):
        raise GpucaptError(f"{folder} holds something else than an export; name another folder")


def _replace(folder: Path, fresh: Path) -> None:
    """Put what was written in its place: `folder` is whole wherever it has an export.json."""
    (folder / EXPORT).unlink(missing_ok=True)
    for old in folder.iterdir():
        if old.name in (VOCABULARY, *(f"{half}{end}" for half in _HALVES for end in FORMATS.values())):
            old.unlink()
    for path in sorted(fresh.iterdir(), key=lambda path: path.name == EXPORT):
        path.rename(folder / path.name)


def _write(model: Model, folder: Path, kind: str) -> None:
    from model.captioner import load_captioner
    from model.export import captioner_graphs

    captioner = load_captioner(model.directory, device="cpu", precision="fp32")
    graphs = captioner_graphs(captioner)
    facts: dict[str, Any] = {
        "format": FORMAT,
        "kind": kind,
        "model": model.name,
        "model_version": model.version,
        "preparation": asdict(captioner.config.preparation),
        "search": _search(captioner),
        "grid": graphs.grid,
    }
    for half, graph in zip(_HALVES, (graphs.encoder, graphs.decoder), strict=True):
        path = folder / f"{half}{FORMATS[kind]}"
        _write_graph(graph, path, kind)
        names = {"inputs": graph.inputs, "outputs": graph.outputs}
        facts[half] = {"file": path.name, "sha256": sha256(path), **names}
    shutil.copyfile(model.directory / VOCABULARY, folder / VOCABULARY)
    (folder / EXPORT).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _search(captioner: Captioner) -> dict[str, Any]:
    words, limits = captioner.vocabulary, captioner.config.search
    return {
        "start": words.start,
        "end": words.end,
        "end_may_be_first": limits.plain,
        "unspoken": sorted((words.pad, words.start, words.unknown)),
        "max_length": limits.max_length,
        "length_penalty": limits.length_penalty,
    }


def _write_graph(graph: Graph, path: Path, kind: str) -> None:
    from model.export import difference, write_onnx, write_torchscript

    write = write_onnx if kind == "onnx" else write_torchscript
    try:
        write(graph, path)
    except Exception as error:  # of many kinds: the exporter's, torch's, those of what they use
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise GpucaptError(f"this version of torch cannot export {path.name} ({reason.strip()})") from error
    apart = difference(graph, _runner(path, graph, kind))
    if not apart <= _MOST_APART:
        raise GpucaptError(
            f"{path.name} does not compute what the model does (they differ by {apart:.2g});"
            f" this version of torch cannot export it as {kind}"
        )


def _runner(path: Path, graph: Graph, kind: str) -> Callable[..., Sequence[Tensor]]:
    """The written file as a function."""
    import torch

    from model.export import read_torchscript

    if kind == "torchscript":
        loaded = read_torchscript(path)
        return lambda *inputs: loaded(*inputs)
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(*inputs: Tensor) -> list[Tensor]:
        given = {name: tensor.numpy() for name, tensor in zip(graph.inputs, inputs, strict=True)}
        return [torch.from_numpy(array) for array in session.run(list(graph.outputs), given)]

    return run
