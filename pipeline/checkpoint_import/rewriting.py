"""From the state dicts of earlier captioners to our tensors: other names, and matrices cut otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from model.vocabulary import PAD
from pipeline.checkpoint_import.layout import LoadedFile
from pipeline.checkpoint_import.unpickling import Module, UnsafeFile, state_dict_of
from pipeline.errors import BadInput

_NEVER = -1e4
"""A logit so low that its word has no probability at all; fp16 has it, too."""


@dataclass(slots=True)
class StateDictPart:
    """The tensors of a file's encoder or decoder; what has not been asked for is known at the end."""

    file: LoadedFile
    tensors: dict[str, Tensor]
    asked: set[str] = field(default_factory=set)

    def below(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with a prefix, without it."""
        found = {name: tensor for name, tensor in self.tensors.items() if name.startswith(prefix)}
        self.asked.update(found)
        return {name.removeprefix(prefix): tensor for name, tensor in found.items()}

    def take(self, name: str, *shape: int | None) -> Tensor:
        """A tensor as floats. `shape`: what follows from other tensors, None where a side may be any."""
        self.asked.add(name)
        if name not in self.tensors:
            raise BadInput(f"{self.file.name} lacks {name}, which a network of its kind has; get it again.")
        tensor = self.tensors[name]
        fits = tensor.dim() == len(shape) and all(
            wanted in (None, side) for side, wanted in zip(tensor.shape, shape, strict=True)
        )
        if not fits or not tensor.is_floating_point():
            raise BadInput(
                f"{self.file.name}: {name} does not fit the other tensors; are all files of one training?"
            )
        return tensor.float()

    def linear(self, theirs: str, ours: str, *, inputs: int | None, outputs: int | None) -> dict[str, Tensor]:
        """A linear layer under our name."""
        weight = self.take(f"{theirs}.weight", outputs, inputs)
        return {f"{ours}.weight": weight, f"{ours}.bias": self.take(f"{theirs}.bias", weight.shape[0])}

    def cell(self, theirs: str, *, words: int, context: int, hidden: int) -> dict[str, Tensor]:
        """An LSTMCell over word and context as our two matrices, the words' share of its gates and the rest.

        The gates have the same order in both; of the two biases only the sum matters.
        """
        inputs = self.take(f"{theirs}.weight_ih", 4 * hidden, words + context)
        state = self.take(f"{theirs}.weight_hh", 4 * hidden, hidden)
        bias = self.take(f"{theirs}.bias_ih", 4 * hidden) + self.take(f"{theirs}.bias_hh", 4 * hidden)
        return {
            "word_gates.weight": inputs[:, :words],
            "word_gates.bias": bias,
            "state_gates.weight": torch.cat([inputs[:, words:], state], dim=1),
        }

    def end(self, *unused: str) -> None:
        """Raise BadInput where there is more than was asked for and what begins with `unused`."""
        more = sorted(name for name in self.tensors.keys() - self.asked if not name.startswith(unused))
        if more:
            raise BadInput(
                f"{self.file.name} holds {more[0]}, which is not known here; its captioner would not be"
                " the same without it."
            )


def parts(files: Iterable[LoadedFile]) -> list[StateDictPart]:
    """The networks in the files: state dicts and modules, alone or in a dictionary under a usual name."""
    found = []
    for file in files:
        content = file.content
        inside = content if isinstance(content, dict) else {}
        for one in (content, *(inside.get(name) for name in ("state_dict", "encoder", "decoder"))):
            if isinstance(one, Module | dict) and (tensors := _tensors(one)):
                found.append(StateDictPart(file, tensors))
    return found


def _tensors(content: Module | dict[str, object]) -> dict[str, Tensor]:
    try:
        return state_dict_of(content)
    except UnsafeFile:
        raise
    except BadInput:
        return {}


def pair(
    encoders: Sequence[StateDictPart], decoders: Sequence[StateDictPart], names: tuple[str, str]
) -> tuple[StateDictPart, StateDictPart]:
    """The one encoder and the one decoder. `names`: what such files are called."""
    for found, kind, other in ((encoders, "encoder", decoders), (decoders, "decoder", encoders)):
        if len(found) > 1:
            raise BadInput(
                f"{found[0].file.name} and {found[1].file.name} hold {kind}s both; give one of them."
            )
        if not found:
            name = names[0] if kind == "encoder" else names[1]
            raise BadInput(
                f"{other[0].file.name} is only half of a captioner: name its {kind} too, which lies beside it"
                f" and is called {name}."
            )
    return encoders[0], decoders[0]


def padded(words: list[str], tensors: dict[str, Tensor]) -> list[str]:
    """Give a vocabulary without one a `<pad>`: a last word, to words and decoder, that is never said."""
    if PAD in words:
        return words
    for name, value in (("embedding.weight", 0.0), ("output.weight", 0.0), ("output.bias", _NEVER)):
        row = tensors[name].new_full((1, *tensors[name].shape[1:]), value)
        tensors[name] = torch.cat([tensors[name], row])
    return [*words, PAD]


def named(encoder: dict[str, Tensor], decoder: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of both, as a checkpoint has them."""
    return {
        **{f"encoder.{name}": tensor for name, tensor in encoder.items()},
        **{f"decoder.{name}": tensor for name, tensor in decoder.items()},
    }
