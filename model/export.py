"""A captioner as two graphs that need no gpucapt to run, as ONNX or TorchScript.

encoder     prepared pictures (B, 3, S, S) uint8 → the decoder's state before the first word: what it knows of
            the picture (`image_0`, …: (B, …)) and what it carries from word to word (`beam_0`, …: (B, 1, …))
decoder     a word of each of K hypotheses (B, K) int64 and the state → `log_probs` (B, K, V) of the next
            word, -inf for words that may never be said; where the decoder attends `attention` (B, K, L) over
            the cells of the picture; and the state to go on with (`next_beam_0`, …)

B, K and, in a transformer, the number of words so far are free. One graph would do for greedy captions alone;
two leave the search, and what is said of attention, to whoever uses them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from model.captioner import Captioner
from model.decoders.base import DecoderState

Tensors = tuple[Tensor, ...]
_AXES = ("pictures", "hypotheses", "words")
OPSET = 20  # of ONNX Runtime 1.17 and later


@dataclass(frozen=True, slots=True)
class Graph:
    """A function of tensors, an example of its inputs, and the names of what goes in and comes out."""

    module: nn.Module
    example: Tensors
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    free: tuple[dict[int, str], ...]
    """Of each input, the axes that may have any length, by name."""


@dataclass(frozen=True, slots=True)
class Graphs:
    """Both halves of a captioner."""

    encoder: Graph
    decoder: Graph
    grid: tuple[int, int] | None
    """Rows and columns of the attention; None where the decoder does not attend."""


class _Encoder(nn.Module):
    def __init__(self, captioner: Captioner) -> None:
        super().__init__()
        self.encoder = captioner.encoder
        self.decoder = captioner.decoder

    def forward(self, pictures: Tensor) -> Tensors:
        state = self.decoder.start(self.encoder(pictures))
        return (*state.image, *state.beams)


class _Decoder(nn.Module):
    def __init__(self, captioner: Captioner, images: int) -> None:
        super().__init__()
        self.decoder = captioner.decoder
        self.images = images
        never = torch.zeros(len(captioner.vocabulary))
        never[list(_forbidden(captioner))] = -torch.inf
        self.register_buffer("never", never)

    def forward(self, words: Tensor, *state: Tensor) -> Tensors:
        before = DecoderState(state[: self.images], state[self.images :])
        logits, after, attention = self.decoder.step(words, before)
        log_probs = logits.log_softmax(dim=2) + self.get_buffer("never")
        return (log_probs, *((attention,) if self.decoder.attends else ()), *after.beams)


@torch.no_grad()
def captioner_graphs(captioner: Captioner) -> Graphs:
    """The graphs of a captioner, which must be in fp32 on the CPU and is not to be used meanwhile."""
    size, words = captioner.image_size, captioner.vocabulary
    # No axis of the examples has length 1: what goes through them could not be told from broadcasting.
    pictures = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    first = _Encoder(captioner).eval()
    features = captioner.encoder(pictures)
    state = captioner.decoder.start(features).repeat(3)
    start = torch.full((2, 3), words.start)
    for _ in range(2):
        before, (_, state, _) = state, captioner.decoder.step(start, state)
    images = [f"image_{number}" for number in range(len(state.image))]
    beams = [f"beam_{number}" for number in range(len(state.beams))]
    looks = ["attention"] if captioner.decoder.attends else []
    free = [{0: _AXES[0]} for _ in images]
    free += [_free_axes(now, then) for now, then in zip(before.beams, state.beams, strict=True)]
    return Graphs(
        Graph(first, (pictures,), ("pictures",), (*images, *beams), ({0: _AXES[0]},)),
        Graph(
            _Decoder(captioner, len(images)).eval(),
            (start, *state.image, *state.beams),
            ("words", *images, *beams),
            ("log_probs", *looks, *(f"next_{name}" for name in beams)),
            ({0: _AXES[0], 1: _AXES[1]}, *free),
        ),
        (features.shape[1], features.shape[2]) if looks else None,
    )


def _forbidden(captioner: Captioner) -> tuple[int, ...]:
    """The words that its search never says, by index."""
    words, limits = captioner.vocabulary, captioner.config.search
    if limits.plain:
        return ()
    return (words.pad, words.start) if limits.allow_unknown else (words.pad, words.start, words.unknown)


def _free_axes(now: Tensor, then: Tensor) -> dict[int, str]:
    """Of a tensor (B, K, …) of the state: those two, and what has grown by a word."""
    grown = [axis for axis in range(2, now.dim()) if now.shape[axis] != then.shape[axis]]
    return {0: _AXES[0], 1: _AXES[1], **dict.fromkeys(grown, _AXES[2])}


@torch.no_grad()
def write_torchscript(graph: Graph, path: Path) -> None:
    """Write a graph as TorchScript, which torch.jit.load reads, also from C++."""
    with _quiet():
        traced = torch.jit.trace(graph.module, graph.example, check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(torch.jit.freeze(traced), path)


def read_torchscript(path: Path) -> nn.Module:
    """What `write_torchscript` has written, as a module."""
    with _quiet():
        loaded: nn.Module = torch.jit.load(path)  # type: ignore[no-untyped-call]
    return loaded


@torch.no_grad()
def write_onnx(graph: Graph, path: Path) -> None:
    """Write a graph as ONNX, in one file."""
    axes = {name: torch.export.Dim(name) for free in graph.free for name in free.values()}
    shapes = tuple({axis: axes[name] for axis, name in free.items()} for free in graph.free)
    first, *rest = shapes
    with _quiet():
        program = torch.onnx.export(
            _out_of_place(graph.module),
            graph.example,
            input_names=graph.inputs,
            output_names=graph.outputs,
            dynamic_shapes=(first, tuple(rest)) if rest else (first,),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        program.save(path, external_data=False)


def _out_of_place(module: nn.Module) -> nn.Module:
    """The exporter takes several times as long for what works in place."""
    for part in module.modules():
        if getattr(part, "inplace", False):
            part.inplace = False  # type: ignore[assignment]
    return module


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch says to its developers about tracing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def difference(graph: Graph, ran: Callable[..., Sequence[Tensor]]) -> float:
    """How far the outputs of `ran`, a function of the same inputs, are from the module's, as a share of the
    largest of them; on other lengths of the free axes than those of the example, 1 among them."""
    worst = 0.0
    for length in (1, 4):
        inputs = tuple(_resized(t, free, length) for t, free in zip(graph.example, graph.free, strict=True))
        with torch.inference_mode():
            wanted = graph.module(*inputs)
        for one, other in zip(wanted, ran(*inputs), strict=True):
            worst = max(worst, _distance(one, other))
    return worst


def _distance(wanted: Tensor, found: Tensor) -> float:
    finite = wanted.isfinite()
    if wanted.shape != found.shape or not torch.equal(finite, found.isfinite()):
        return float("inf")
    if not finite.any():
        return 0.0
    scale = max(1.0, float(wanted[finite].abs().max()))
    return float((wanted - found)[finite].abs().max()) / scale


def _resized(tensor: Tensor, free: dict[int, str], length: int) -> Tensor:
    for axis in free:
        repeated = torch.cat([tensor] * (length // tensor.shape[axis] + 1), dim=axis)
        tensor = repeated.narrow(axis, 0, length)
    return tensor
