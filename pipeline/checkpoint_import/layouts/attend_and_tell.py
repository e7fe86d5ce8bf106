"""Whole modules, as the Show-Attend-and-Tell tutorial saved them, and two captioners that grew from it.

A file is a dictionary with an `encoder` and a `decoder`, module objects both. Which of the three it is shows
in how the encoder calls its backbone: `resnet` (the tutorial), `resnext` (Image Captioning with ResNeXt, that
never turned OpenCV's BGR into RGB), `encoder_net`, or `resnet` with a convolution behind it (Img2Story).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pipeline.checkpoint_import import backbones
from pipeline.checkpoint_import.layout import Imported, LoadedFile, VocabularyFile, required
from pipeline.checkpoint_import.rewriting import StateDictPart, named
from pipeline.checkpoint_import.unpickling import Module, state_dict_of
from pipeline.errors import BadInput

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


def recognise(files: Sequence[LoadedFile], vocabulary: VocabularyFile | None) -> Imported | None:
    """See `Layout`."""
    file = next((file for file in files if _has_pair(file.content)), None)
    if file is None:
        return None
    if len(files) > 1:
        raise BadInput(f"{files[0].name} and {files[1].name} are checkpoints both; give one of them.")
    encoder, decoder = (_unwrapped(file.content[part]) for part in ("encoder", "decoder"))
    captioner = next((one for one in _CAPTIONERS if one.trunk in _children(encoder)), None)
    if captioner is None:
        raise BadInput(
            f"{file.name}: its encoder, {encoder.path}, is of no captioner that is known here;"
            " see docs/seeds.md."
        )
    trunk = _children(encoder)[captioner.trunk]
    tensors = state_dict_of(trunk)
    if "conv1" in _children(encoder):
        captioner = _CAPTIONERS[-1]
        behind = state_dict_of(_children(encoder)["conv1"])
        tensors |= {f"{len(_children(trunk))}.{name}": tensor for name, tensor in behind.items()}
    pooled = any(layer.path.endswith(".AdaptiveAvgPool2d") for layer in _children(trunk).values())
    encoder_config, encoder_tensors = _encoder(file, encoder, tensors, pooled=pooled)
    options, decoder_tensors = _decoder(StateDictPart(file, state_dict_of(decoder)), decoder)
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
        tensors=named(encoder_tensors, decoder_tensors),
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
    file: LoadedFile, module: Module, trunk: dict[str, Tensor], *, pooled: bool
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The encoder's config and tensors. Where the backbone kept its average pool, all cells of the grid are
    the same, so that one says as much."""
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
    if pooled:
        grid = 1
    config = {"name": backbone.name, "grid": grid, **({"options": options} if options else {})}
    return config, {**backbone.tensors, **tensors}


def _decoder(part: StateDictPart, module: Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The decoder's options and tensors."""
    embedding = part.take("embedding.weight", None, None)
    words, size = embedding.shape
    attention, depth = part.take("attention.encoder_att.weight", None, None).shape
    hidden = part.take("decode_step.weight_hh", None, None).shape[1]
    options: dict[str, Any] = {
        "embedding_size": size,
        "hidden_size": hidden,
        "attention_size": attention,
        "dropout": _dropout(module),
        "attention": "additive",
        "attention_activation": "relu",
    }
    layers = [
        ("attention.encoder_att", "key", depth, attention),
        ("attention.decoder_att", "query", hidden, attention),
        ("attention.full_att", "score", attention, 1),
        ("init_h", "start_hidden", depth, hidden),
        ("init_c", "start_memory", depth, hidden),
    ]
    if "attention_learner_1.weight" in part.tensors:
        between = len(part.take("attention_learner_1.weight", None, hidden))
        options["gate_size"] = between
        layers += [
            ("attention_learner_1", "gate.0", hidden, between),
            ("attention_learner_2", "gate.2", between, depth),
        ]
    else:
        layers.append(("f_beta", "gate", hidden, depth))
    if "fc_1.weight" in part.tensors:
        between = len(part.take("fc_1.weight", None, hidden))
        options["output_size"] = between
        options["output_activation"] = "tanh" if "tanh" in _children(module) else "none"
        layers += [("fc_1", "deep", hidden, between), ("fc_2", "output", between, words)]
    else:
        layers.append(("fc", "output", hidden, words))
    tensors = {"embedding.weight": embedding}
    tensors |= part.cell("decode_step", words=size, context=depth, hidden=hidden)
    for theirs, ours, inputs, outputs in layers:
        tensors |= part.linear(theirs, ours, inputs=inputs, outputs=outputs)
    part.end()
    return options, tensors


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
        if isinstance(number, int | float) and abs(number) < 1e9  # NaN is not
    }
