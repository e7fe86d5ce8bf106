"""The captioner: an encoder, a decoder, a vocabulary and how they are used together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.overrides import TorchFunctionMode

from model.beam_search import Hypotheses, Search, beam_search
from model.checkpoint import (
    checkpoint_version,
    read_config,
    read_tensors,
    read_vocabulary,
    write_checkpoint,
)
from model.confidence import UNSURE_BELOW
from model.decoders.registry import Decoder, build_decoder
from model.encoders.backbones import TORCHVISION_ENCODERS, Encoder, Shape, build_encoder
from model.errors import GpucaptError
from model.precision import DTYPES, Precision, autocast, choose_device, choose_precision
from model.preprocessing import Preparation
from model.vocabulary import Vocabulary
from model.words import join


@dataclass(frozen=True, slots=True)
class Alternative:
    """What the search would have said next: its text, its log-probability (natural, end word included)."""

    text: str
    log_prob: float


@dataclass(frozen=True, slots=True)
class Caption:
    """A caption: its text, its words, its log-probability (natural, end word included), and for each
    word where the decoder looked: (words, rows, columns) uint8, the strongest cell of a word at 255, or
    (words, 0, 0) from a decoder that does not attend. `alternatives` has other texts, the best first."""

    text: str
    words: tuple[str, ...]
    log_prob: float
    attention: NDArray[np.uint8]
    alternatives: tuple[Alternative, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchDefaults:
    """What a checkpoint says about searching with it."""

    max_length: int = 50
    length_penalty: float = 0.0
    allow_unknown: bool = False
    plain: bool = False


class CaptionNetwork(nn.Module):
    """The trainable whole: what `model.safetensors` holds."""

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder


@dataclass(frozen=True, slots=True)
class CheckpointConfig:
    """A checkpoint's config.json, typed."""

    name: str
    encoder: dict[str, Any]
    decoder: dict[str, Any]
    preparation: Preparation
    search: SearchDefaults
    training: dict[str, Any]
    unsure_below: float = UNSURE_BELOW
    """The confidence (see `confidence`) below which captions are marked."""

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> CheckpointConfig:
        try:
            typed = cls(
                name=config["name"],
                encoder=config["encoder"],
                decoder=config["decoder"],
                preparation=Preparation(**config["preparation"]),
                search=SearchDefaults(**config["search"]),
                training=config.get("training", {}),
                unsure_below=float(config.get("unsure_below", UNSURE_BELOW)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise GpucaptError(f"config.json of the checkpoint is not complete ({error}).") from error
        if not 0 <= typed.unsure_below <= 1:
            raise GpucaptError("config.json of the checkpoint: unsure_below must be from 0 to 1.")
        return typed

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


_FILLING = (Tensor.normal_, Tensor.uniform_)


def build_network(
    config: CheckpointConfig, vocabulary: Vocabulary, weights: str | Path | None = None
) -> CaptionNetwork:
    """The network that `config` describes; random but for the encoder's `weights`."""
    shape = Shape.from_json(config.encoder.get("options", {}))
    grid = config.encoder.get("grid")
    encoder = build_encoder(config.encoder["name"], weights=weights, grid=grid, shape=shape)
    options = config.decoder.get("options", {})
    decoder = build_decoder(config.decoder["name"], len(vocabulary), encoder.channels, options)
    return CaptionNetwork(encoder, decoder)


class _Unfilled(TorchFunctionMode):
    """Leaves new weights as they are, which takes no memory either until they are used.

    (The device "meta" would do as well, but takes two seconds to import torch's compiler.)
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if getattr(func, "__module__", None) == nn.init.__name__ or func in _FILLING:
            return args[0] if args else named["tensor"]
        return func(*args, **named)


def load_network(directory: Path) -> tuple[CheckpointConfig, Vocabulary, CaptionNetwork]:
    """Read a checkpoint into a network in fp32 and eval mode on the CPU."""
    config = CheckpointConfig.from_json(read_config(directory))
    vocabulary = read_vocabulary(directory)
    try:
        with _Unfilled():  # no time for random weights: the checkpoint has them all
            network = build_network(config, vocabulary)
    except GpucaptError as error:
        raise GpucaptError(f"{directory}: {error}") from error
    except (AttributeError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise GpucaptError(
            f"{directory}: config.json describes no network that can be built ({why})"
        ) from error
    # Copies: what is read may lie in the file, which another version may replace.
    tensors = {
        name: tensor.to(torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)
        for name, tensor in read_tensors(directory).items()
    }
    try:
        network.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[1:2] or [str(error)]
        raise GpucaptError(
            f"{directory}: the tensors do not fit config.json and vocabulary.json ({reason[0].strip()})"
        ) from error
    return config, vocabulary, network.eval()


def save_network(
    directory: Path,
    config: CheckpointConfig,
    vocabulary: Vocabulary,
    network: CaptionNetwork,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a checkpoint; floating-point tensors are stored as `dtype`."""
    tensors = {
        name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else tensor.dtype)
        for name, tensor in network.state_dict().items()
    }
    write_checkpoint(directory, config.to_json(), vocabulary, tensors)


class Captioner:
    """Captions batches of prepared pictures. One thread at a time; `prepare` may run in any."""

    def __init__(
        self,
        config: CheckpointConfig,
        vocabulary: Vocabulary,
        network: CaptionNetwork,
        *,
        version: str,
        device: torch.device,
        precision: Precision,
    ) -> None:
        self.config = config
        self.name = config.name
        self.version = version
        self.vocabulary = vocabulary
        self._marks = {vocabulary.pad, vocabulary.start, vocabulary.unknown}
        self.device = device
        self.precision = precision
        self.image_size = config.preparation.size
        self.prepare = config.preparation
        self.encoder = network.encoder.to(device)
        if precision != "fp32":  # once, where autocast would convert the weights for every batch
            self.encoder.backbone.to(DTYPES[precision])
            self.encoder.head.to(DTYPES[precision])
        self.decoder = network.decoder.to(device)

    def caption(
        self,
        images: Sequence[NDArray[np.uint8]],
        *,
        beam_size: int = 5,
        max_length: int = 40,
        alternatives: int = 0,
    ) -> list[Caption]:
        """Caption pictures, each (3, S, S) uint8 as `prepare` returns them, as one batch.

        With at most so many `alternatives`: a beam holds no more hypotheses than its size.
        """
        if not images:
            return []
        pixels = torch.from_numpy(np.stack(images))
        if self.device.type == "cuda":
            pixels = pixels.pin_memory()
        features = self.encode(pixels)
        found = self.search(features, beam_size=beam_size, max_length=max_length, results=1 + alternatives)
        return self._captions(found, features.shape[1], features.shape[2])

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) uint8 → features (B, rows, columns, channels) on the device."""
        with autocast(self.precision, self.device):
            features: Tensor = self.encoder(pixels.to(self.device, non_blocking=True))
        return features

    def search(
        self, features: Tensor, *, beam_size: int = 5, max_length: int = 40, results: int = 1
    ) -> Hypotheses:
        """Search captions for features of this encoder."""
        words = self.vocabulary
        limits = self.config.search
        marks = (words.pad, words.start) if limits.allow_unknown else (words.pad, words.start, words.unknown)
        search = Search(
            start=words.start,
            end=words.end,
            forbidden=marks,
            beam_size=beam_size,
            max_length=min(max_length, limits.max_length),
            length_penalty=limits.length_penalty,
            plain=limits.plain,
            results=results,
        )
        with autocast(self.precision, self.device):
            return beam_search(self.decoder, features, search)

    def default_batch_size(self) -> int:
        """Pictures a batch that keep the device busy: as many as fit in a GPU's memory, up to 256."""
        if self.device.type == "cpu":
            return 16
        memory = torch.cuda.get_device_properties(self.device).total_memory
        return int(min(256, max(16, 2 ** int(np.log2(memory / 2**30 * 4)))))

    def _captions(self, found: Hypotheses, rows: int, columns: int) -> list[Caption]:
        lengths = found.lengths.tolist()
        log_probs = found.log_probs.tolist()
        indices = found.words.tolist()
        if not self.decoder.attends:
            rows = columns = 0
        weights = found.attention
        if weights.numel():
            weights = weights / weights.amax(dim=2, keepdim=True).clamp_min(1e-12)
        maps = (weights * 255).round().to(torch.uint8).cpu().numpy()
        captions = []
        pictures = zip(lengths, log_probs, indices, maps, self._alternatives(found), strict=True)
        for length, log_prob, row, seen, ended in pictures:
            kept = [i for i in range(length) if row[i] not in self._marks]
            words = tuple(self.vocabulary.words[row[i]] for i in kept)
            text = join(words)
            others = tuple(one for one in ended if one.text != text)
            attention = seen[kept].reshape(len(kept), rows, columns)
            captions.append(Caption(text, words, log_prob, attention, others))
        return captions

    def _alternatives(self, found: Hypotheses) -> list[list[Alternative]]:
        """A picture's texts that ended, the best first, its caption among them; none if not asked for."""
        if found.ended is None:
            return [[] for _ in found.lengths]
        ended = found.ended
        pictures = zip(ended.words.tolist(), ended.lengths.tolist(), ended.log_probs.tolist(), strict=True)
        return [list(self._distinct(*picture)) for picture in pictures]

    def _distinct(
        self, words: list[list[int]], lengths: list[int], log_probs: list[float]
    ) -> Iterator[Alternative]:
        seen = set()
        for row, length, log_prob in zip(words, lengths, log_probs, strict=True):
            text = join(self.vocabulary.words[word] for word in row[:length] if word not in self._marks)
            if np.isfinite(log_prob) and text not in seen:
                seen.add(text)
                yield Alternative(text, log_prob)


def load_captioner(directory: Path, *, device: str = "auto", precision: str = "auto") -> Captioner:
    """Load a checkpoint, ready to caption."""
    config, vocabulary, network = load_network(directory)
    chosen = choose_device(device)
    if config.encoder["name"] in TORCHVISION_ENCODERS:  # there, modules are defined in the order of their use
        _fuse_batch_norm(network.encoder)
    network.encoder.to(memory_format=torch.channels_last)
    return Captioner(
        config,
        vocabulary,
        network,
        version=checkpoint_version(directory),
        device=chosen,
        precision=choose_precision(precision, chosen),
    )


def _fuse_batch_norm(module: nn.Module) -> None:
    """Fold each BatchNorm that directly follows a convolution into it: the same function, less work."""
    for child in module.children():
        _fuse_batch_norm(child)
    for (name, child), (after, norm) in pairwise(list(module.named_children())):
        if isinstance(child, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(child, norm))
            setattr(module, after, nn.Identity())
