"""Whole modules, as the Show-Attend-and-Tell tutorial saved them, and two captioners that grew from it.

A file is a dictionary with an `encoder` and a `decoder`, module objects both. Which of the three it is shows
in how the encoder calls its backbone: `resnet` (the tutorial), `resnext` (Image Captioning with ResNeXt, that
never turned OpenCV's BGR into RGB), `encoder_net`, or `resnet` with a convolution behind it (Img2Story).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import BadInput
from pipeline.importing import backbones
from pipeline.importing.layouts import File, Imported, Words, required
from pipeline.importing.unpickling import Module, state_dict_of

_SIZE = 256
"""Side of the square that all three resize pictures to."""
_SEARCH = {"max_length": 50, "length_penalty": 0.0, "allow_unknown": True, "plain": True}
_VOCABULARY = "WORDMAP_….json"


@dataclass(frozen=True, slots=True)
class _Captioner:
    """What its files do not tell of a captioner."""

    name: str
    trunk: str
    channels: str
    filter: str


_CAPTIONERS = (
    _Captioner("show-attend-and-tell", "resnet", "rgb", "bilinear"),
    _Captioner("image-captioning-resnext", "resnext", "bgr", "bicubic"),
    _Captioner("img2story", "encoder_net", "rgb", "skimage"),
)


def recognise(files: Sequence[File], vocabulary: Words | None) -> Imported | None:
    """See `Layout`."""
    file = next((file for file in files if _has_pair(file.content)), None)
    if file is None:
        return None
    encoder, decoder = (_unwrapped(file.content[part]) for part in ("encoder", "decoder"))
    captioner = next((one for one in _CAPTIONERS if one.trunk in _children(encoder)), None)
    if captioner is None:
        raise BadInput(
            f"{file.name}: its encoder, {encoder.path}, is of no captioner that is known here;"
            " see docs/seeds.md."
        )
    trunk = state_dict_of(_children(encoder)[captioner.trunk])
    if "conv1" in _children(encoder):
        captioner = _CAPTIONERS[2]
        trunk |= {f"1.{name}": tensor for name, tensor in state_dict_of(_children(encoder)["conv1"]).items()}
    encoder_config, encoder_tensors = _encoder(file, encoder, trunk, pooled=captioner is _CAPTIONERS[2])
    options, decoder_tensors = _decoder(file, decoder)
    words = required(vocabulary, len(decoder_tensors["embedding.weight"]), file, _VOCABULARY)
    return Imported(
        config={
            "name": f"{captioner.name}-{encoder_config['name']}".replace("/", "-"),
            "encoder": encoder_config,
            "decoder": {"name": "attention_lstm", "options": options},
            "preparation": {"size": _SIZE, "channels": captioner.channels, "filter": captioner.filter},
            "search": _SEARCH,
            "training": {"captioner": captioner.name, **_scores(file.content)},
        },
        tensors={
            **{f"encoder.{name}": tensor for name, tensor in encoder_tensors.items()},
            **{f"decoder.{name}": tensor for name, tensor in decoder_tensors.items()},
        },
        words=list(words.words),
    )


def _has_pair(content: Any) -> bool:
    return isinstance(content, dict) and all(
        isinstance(content.get(part), Module) for part in ("encoder", "decoder")
    )


def _children(module: Module) -> dict[str, Module]:
    children = module.state.get("_modules")
    if not isinstance(children, dict):
        return {}
    return {name: child for name, child in children.items() if isinstance(child, Module)}


def _unwrapped(module: Module) -> Module:
    """What `DataParallel` wraps."""
    return _children(module).get("module", module) if module.path.endswith(".DataParallel") else module


def _encoder(
    file: File, module: Module, trunk: dict[str, Tensor], *, pooled: bool
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The encoder's config and tensors. Where the average `pooled` what a ResNet saw, all cells are the same,
    so that one says as much."""
    backbone = backbones.recognised(trunk)
    behind = None if backbone is None else backbones.head(backbone.rest)
    if backbone is None or behind is None:
        raise BadInput(
            f"{file.name}: its encoder, {module.path}, has a backbone that is not known here;"
            f" known are {', '.join(backbones.CANDIDATES)}."
        )
    options, tensors = behind
    if backbone.name.startswith("densenet"):
        options["rectified"] = False  # its last ReLU is no layer of its own, and was left behind
    grid = module.state.get("enc_image_size")
    if not isinstance(grid, int) or not 1 <= grid <= 64:
        raise BadInput(f"{file.name}: its encoder, {module.path}, does not tell the size of its grid.")
    if pooled and "resnet" in backbone.name:
        grid = 1
    config = {"name": backbone.name, "grid": grid, **({"options": options} if options else {})}
    return config, {**backbone.tensors, **tensors}


def _decoder(file: File, module: Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The decoder's options and tensors. The two matrices of its LSTM cell are cut into the share of the
    words, which can be had for all words at once, and that of context and state."""
    theirs = state_dict_of(module)
    gate = "f_beta" if "f_beta.weight" in theirs else "attention_learner_1"
    deep = "fc_1.weight" in theirs
    names = {
        "attention.encoder_att": "key",
        "attention.decoder_att": "query",
        "attention.full_att": "score",
        "init_h": "start_hidden",
        "init_c": "start_memory",
        **({gate: "gate"} if gate == "f_beta" else {gate: "gate.0", "attention_learner_2": "gate.2"}),
        **({"fc_1": "deep", "fc_2": "output"} if deep else {"fc": "output"}),
    }
    cell = [f"decode_step.{name}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    needed = [f"{name}.{kind}" for name in names for kind in ("weight", "bias")]
    missing = [name for name in (*needed, *cell, "embedding.weight") if name not in theirs]
    if missing:
        raise BadInput(
            f"{file.name}: its decoder, {module.path}, is none that is known here; it lacks {missing[0]}."
        )
    if any(
        theirs[name].dim() != 2 for name in (*cell[:2], "embedding.weight", "attention.encoder_att.weight")
    ):
        raise BadInput(f"{file.name}: its decoder, {module.path}, has tensors of impossible shapes.")
    words, state = _cut(file, theirs, *cell[:2])
    tensors = {
        f"{ours}.{kind}": theirs[f"{name}.{kind}"]
        for name, ours in names.items()
        for kind in ("weight", "bias")
    }
    tensors |= {
        "embedding.weight": theirs["embedding.weight"],
        "word_gates.weight": words,
        "word_gates.bias": theirs[cell[2]] + theirs[cell[3]],
        "state_gates.weight": state,
    }
    options: dict[str, Any] = {
        "embedding_size": theirs["embedding.weight"].shape[1],
        "hidden_size": theirs[cell[1]].shape[1],
        "attention_size": theirs["attention.encoder_att.weight"].shape[0],
        "dropout": _dropout(module),
        "attention": "additive",
        "attention_activation": "relu",
    }
    if gate != "f_beta":
        options["gate_size"] = theirs[f"{gate}.weight"].shape[0]
    if deep:
        options["output_size"] = theirs["fc_1.weight"].shape[0]
        options["output_activation"] = "tanh" if "tanh" in _children(module) else "none"
    return options, tensors


def _cut(file: File, theirs: dict[str, Tensor], of_input: str, of_state: str) -> tuple[Tensor, Tensor]:
    size = theirs["embedding.weight"].shape[1]
    inputs, state = theirs[of_input], theirs[of_state]
    if inputs.shape[0] != state.shape[0] or inputs.shape[1] <= size:
        raise BadInput(f"{file.name}: its decoder's {of_input} does not fit its other tensors.")
    return inputs[:, :size], torch.cat([inputs[:, size:], state], dim=1)


def _dropout(module: Module) -> float:
    layer = _children(module).get("dropout")
    share = layer.state.get("p") if layer is not None else None
    return share if isinstance(share, float) and 0 <= share < 1 else 0.5


def _scores(content: dict[str, Any]) -> dict[str, Any]:
    """What the file says of its training."""
    numbers = {"epoch": content.get("epoch"), "bleu-4": content.get("bleu-4")}
    return {
        name: number
        for name, number in numbers.items()
        if isinstance(number, int | float) and math.isfinite(number) and abs(number) < 1e9
    }
