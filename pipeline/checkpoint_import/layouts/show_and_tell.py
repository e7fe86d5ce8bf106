"""Show and Tell as two earlier captioners have it: a ResNet's average is the first input of an LSTM.

Both are a pair of state dicts, an encoder's (`resnet`, `embed`) and a decoder's (`embed`, `lstm`, an output
layer that one calls `fc1` and the other `linear`), with a pickled vocabulary. Both take the best word at each
step: `--beam-size 1` gives what they gave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pipeline.checkpoint_import import backbones
from pipeline.checkpoint_import.layout import Imported, LoadedFile, VocabularyFile, required
from pipeline.checkpoint_import.rewriting import StateDictPart, named, padded, pair, parts
from pipeline.errors import BadInput

_VOCABULARY = "vocab.pkl"


@dataclass(frozen=True, slots=True)
class _Captioner:
    """What its files do not tell of a captioner. `output`: its name for the output layer."""

    name: str
    output: str
    files: tuple[str, str]
    max_length: int


_CAPTIONERS = (
    # It went on until the end word; ours has to stop some time.
    _Captioner("automatic-image-captioning", "fc1", ("encoderEpoch_N.pth", "decoderEpoch_N.pth"), 50),
    # It stopped after 20 words, the first of which is <start>.
    _Captioner("image_captioning", "linear", ("encoder-N.pkl", "decoder-N.pkl"), 19),
)


def recognise(files: Sequence[LoadedFile], vocabulary: VocabularyFile | None) -> Imported | None:
    """See `Layout`."""
    found = parts(files)
    encoders = [part for part in found if {"embed.weight", "resnet.0.weight"} <= part.tensors.keys()]
    decoders = [part for part in found if {"embed.weight", "lstm.weight_ih_l0"} <= part.tensors.keys()]
    if not encoders and not decoders:
        return None
    captioner = next(
        (one for one in _CAPTIONERS if decoders and f"{one.output}.weight" in decoders[0].tensors),
        _CAPTIONERS[0],
    )
    decoder_files = " or ".join(one.files[1] for one in (_CAPTIONERS if not decoders else [captioner]))
    encoder, decoder = pair(encoders, decoders, (captioner.files[0], decoder_files))
    options, tensors = _decoder(decoder, captioner)
    words = required(vocabulary, len(tensors["embedding.weight"]), decoder.file, _VOCABULARY).words
    name, backbone = _encoder(encoder, options["embedding_size"], tensors)
    return Imported(
        config={
            "name": f"{captioner.name}-{name}",
            "encoder": {"name": name, "grid": None},
            "decoder": {"name": "lstm", "options": options},
            "preparation": {"size": 224, "channels": "rgb", "filter": "bilinear", "shorter_side": 256},
            "search": {"max_length": captioner.max_length, "allow_unknown": True, "plain": True},
            "training": {"captioner": captioner.name},
        },
        words=padded(words, tensors),
        tensors=named(backbone, tensors),
    )


def _decoder(part: StateDictPart, captioner: _Captioner) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The decoder's options, and its tensors but for the picture's."""
    embedding = part.take("embed.weight", None, None)
    vocabulary, size = embedding.shape
    hidden = part.take("lstm.weight_hh_l0", None, None).shape[1]
    tensors = {"embedding.weight": embedding}
    layers = 0
    while f"lstm.weight_ih_l{layers}" in part.tensors:
        for name, *shape in (
            (f"lstm.weight_ih_l{layers}", 4 * hidden, hidden if layers else size),
            (f"lstm.weight_hh_l{layers}", 4 * hidden, hidden),
            (f"lstm.bias_ih_l{layers}", 4 * hidden),
            (f"lstm.bias_hh_l{layers}", 4 * hidden),
        ):
            tensors[name] = part.take(name, *shape)
        layers += 1
    tensors |= part.linear(captioner.output, "output", inputs=hidden, outputs=vocabulary)
    part.end()
    options = {"embedding_size": size, "hidden_size": hidden, "layers": layers, "normalise": False}
    return options, tensors


def _encoder(part: StateDictPart, size: int, decoder: dict[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """The backbone's name and tensors; the layer behind it is the decoder's here, and is added there."""
    backbone = backbones.recognised(part.below("resnet."))
    if backbone is None or backbone.rest:
        raise BadInput(
            f"{part.file.name}: its resnet is none that is known here; known are"
            f" {', '.join(backbones.CANDIDATES)}."
        )
    decoder |= part.linear("embed", "picture.1", inputs=None, outputs=size)
    part.end()
    return backbone.name, backbone.tensors
