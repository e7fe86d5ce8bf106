"""CaptionBot: Show, Attend and Tell on a ResNet that ends early, so that its cells are deeper in detail.

A pair of state dicts: the encoder's (`resnet50`, the whole network, and `resnet`, its beginning), and the
decoder's in a dictionary with its optimiser's. The score of a cell goes through a tanh, and so does the
first state. Its layers for a deep output (`L_h`, `L_o`, `L_z`) were never used; the dropout on its
scores, which was on even while it captioned, is off here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from model.encoders.backbones import Shape, build_encoder
from pipeline.checkpoint_import.layout import Imported, LoadedFile, VocabularyFile, required, with_our_marks
from pipeline.checkpoint_import.rewriting import StateDictPart, named, pair, parts
from pipeline.errors import BadInput

_NAME = "captionbot"
_FILES = ("resnet50….pt", "….pth.tar")
_VOCABULARY = "vocab.pickle"
_MARKS = {"<PAD>": "<pad>", "<SOS>": "<start>", "<EOS>": "<end>", "<UNK>": "<unk>"}
_BACKBONES = ("resnet50", "resnet101", "resnet152", "resnet18", "resnet34")
_STAGES = 3
_GRID = 14
_SCORE = "attention.encoder_to_attention_dim.weight"


def recognise(files: Sequence[LoadedFile], vocabulary: VocabularyFile | None) -> Imported | None:
    """See `Layout`."""
    found = parts(files)
    decoders = [part for part in found if _SCORE in part.tensors]
    encoders = [part for part in found if "resnet.0.weight" in part.tensors and _is_ours(part)]
    if not encoders and not decoders:
        return None
    encoder, decoder = pair(encoders, decoders, _FILES)
    name, backbone = _encoder(encoder)
    options, tensors = _decoder(decoder)
    words = required(vocabulary, len(tensors["embedding.weight"]), decoder.file, _VOCABULARY).words
    return Imported(
        config={
            "name": f"{_NAME}-{name}",
            "encoder": {"name": name, "grid": _GRID, "options": {"stages": _STAGES}},
            "decoder": {"name": "attention_lstm", "options": options},
            "preparation": {"size": 256, "channels": "rgb", "filter": "bilinear"},
            "search": {"max_length": 50, "allow_unknown": True, "plain": True},
            "training": {"captioner": _NAME},
        },
        tensors=named(backbone, tensors),
        words=with_our_marks(words, _MARKS),
    )


def _is_ours(part: StateDictPart) -> bool:
    """Whether there is nothing but a backbone, as it is and cut."""
    return all(name.startswith(("resnet.", "resnet50.")) for name in part.tensors)


def _encoder(part: StateDictPart) -> tuple[str, dict[str, Tensor]]:
    """The backbone's name and the tensors of its beginning."""
    theirs = part.below("resnet.")
    for name in _BACKBONES:
        wanted = _shapes(name)
        # A counter of batches that BatchNorm has since torch 0.4.1, and needs for nothing.
        counters = {key: torch.zeros((), dtype=torch.long) for key in wanted if key.endswith("tracked")}
        tensors = counters | theirs
        if {key: tensor.shape for key, tensor in tensors.items()} == wanted:
            return name, {f"backbone.{key}": tensor for key, tensor in tensors.items()}
    raise BadInput(
        f"{part.file.name}: its resnet is none that is known here, cut at its third block; known are"
        f" {', '.join(_BACKBONES)}."
    )


@cache
def _shapes(name: str) -> dict[str, torch.Size]:
    """Of a backbone that is cut, without memory for its weights."""
    with torch.device("meta"):
        network = build_encoder(name, shape=Shape(stages=_STAGES))
    return {key: tensor.shape for key, tensor in network.backbone.state_dict().items()}


def _decoder(part: StateDictPart) -> tuple[dict[str, Any], dict[str, Tensor]]:
    embedding = part.take("embed.weight", None, None)
    vocabulary, size = embedding.shape
    attention, depth = part.take(_SCORE, None, None).shape
    hidden = part.take("lstm.weight_hh", None, None).shape[1]
    tensors = {"embedding.weight": embedding, **part.cell("lstm", words=size, context=depth, hidden=hidden)}
    for theirs, ours, inputs, outputs in (
        ("attention.encoder_to_attention_dim", "key", depth, attention),
        ("attention.decoder_to_attention_dim", "query", hidden, attention),
        ("attention.attention", "score", attention, 1),
        ("f_beta", "gate", hidden, depth),
        ("init_h", "start_hidden", depth, hidden),
        ("init_c", "start_memory", depth, hidden),
        ("fc", "output", hidden, vocabulary),
    ):
        tensors |= part.linear(theirs, ours, inputs=inputs, outputs=outputs)
    part.end("L_h.", "L_z.", "L_o.")
    options = {
        "embedding_size": size,
        "hidden_size": hidden,
        "attention_size": attention,
        "attention": "additive",
        "attention_activation": "tanh",
        "start_activation": "tanh",
    }
    return options, tensors
