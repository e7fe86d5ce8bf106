"""Captioners that grew from the tutorial say here what they said there: other channels, backbones, layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from pipeline.checkpoint_import.importer import import_checkpoint
from tests.pipeline.checkpoint_import.layouts.test_attend_and_tell import (
    WORD_MAP,
    assert_same_captions,
    checkpoint_of,
    imported,
    trained,
    word_map,
)
from tests.pipeline.checkpoint_import.originals import img2story, resnext, tutorial
from tests.pipeline.checkpoint_import.saving import parts_of, photographs, save, settle

pytestmark = pytest.mark.slow


def as_opencv(picture: np.ndarray) -> Tensor:
    return tutorial.prepared(picture, bgr=True, how=Image.Resampling.BICUBIC)


def as_scikit_image(picture: np.ndarray) -> Tensor:
    transform = pytest.importorskip("skimage.transform")
    from skimage import img_as_ubyte

    return tutorial.normalised(img_as_ubyte(transform.resize(picture, (256, 256))))


def compared(
    encoder: nn.Module,
    decoder: nn.Module,
    names: dict[str, ModuleType],
    prepare: Callable[[np.ndarray], Tensor],
    folder: Path,
) -> dict[str, Any]:
    """Compare all captions, and return the config."""
    images = trained(encoder, decoder, prepare)
    path = save(checkpoint_of(encoder, decoder), folder / "checkpoint.pth.tar", names)
    captioner = imported(path, word_map(folder), to=folder / "mine")
    assert_same_captions(captioner, encoder, decoder, images)
    return captioner.config.to_json()


def names_for(module: str) -> dict[str, ModuleType]:
    return {
        "decoder_with_attention": parts_of(img2story.DecoderWithAttention, tutorial.Attention),
        module: parts_of(ENCODERS[module][0]),
    }


def test_opencvs_channels_stay_as_they_were_learned(tmp_path: Path) -> None:
    torch.manual_seed(0)
    decoder = tutorial.DecoderWithAttention(24, 20, 48, len(WORD_MAP), encoder_dim=512)
    part = parts_of(resnext.Encoder, tutorial.Attention, tutorial.DecoderWithAttention)
    names = {"models": part}
    config = compared(resnext.Encoder(), decoder, names, as_opencv, tmp_path)
    assert config["preparation"]["channels"] == "bgr"
    assert config["preparation"]["filter"] == "bicubic"


ENCODERS = {
    "models": (img2story.Encoder, {"name": "mobilenet_v2", "grid": 14, "options": {"channels": 64}}),
    "encoder_squeezenet": (
        img2story.EncoderSqueezenet,
        {"name": "squeezenet1_0", "grid": 14, "options": {"channels": 64}},
    ),
    "encoder_shufflenet": (
        img2story.EncoderShufflenet,
        {"name": "shufflenet_v2_x0_5", "grid": 14, "options": {"channels": 64}},
    ),
    "encoder_densenet": (
        img2story.EncoderDensenet,
        {"name": "densenet121", "grid": 8, "options": {"channels": 64, "rectified": False}},
    ),
    "encoder_resnet": (img2story.EncoderResnet101, {"name": "resnet18", "grid": 1}),
}


@pytest.mark.parametrize("module", ["models", "encoder_resnet"])
def test_img2storys_captions_stay_word_for_word(tmp_path: Path, module: str) -> None:
    torch.manual_seed(0)
    make, expected = ENCODERS[module]
    channels, tanh = {"models": (img2story.CHANNELS, True), "encoder_resnet": (512, False)}[module]
    decoder = img2story.DecoderWithAttention(24, 20, 48, len(WORD_MAP), encoder_dim=channels, tanh=tanh)
    config = compared(make(), decoder, names_for(module), as_scikit_image, tmp_path)
    assert config["encoder"] == expected
    assert config["preparation"]["filter"] == "skimage"
    assert config["decoder"]["options"]["output_activation"] == ("tanh" if tanh else "none")
    assert config["decoder"]["options"]["gate_size"] == 40


@pytest.mark.parametrize("module", ENCODERS)
def test_every_backbone_of_img2story_sees_what_it_saw(tmp_path: Path, module: str) -> None:
    torch.manual_seed(0)
    make, expected = ENCODERS[module]
    encoder = make()
    images = torch.cat([as_scikit_image(photographs()[name]) for name in ("cat", "coffee")])
    settle(encoder, images)
    decoder = img2story.DecoderWithAttention(24, 20, 48, len(WORD_MAP), encoder_dim=512)
    if module != "encoder_resnet":
        decoder = img2story.DecoderWithAttention(24, 20, 48, len(WORD_MAP), encoder_dim=img2story.CHANNELS)
    path = save({"encoder": encoder, "decoder": decoder}, tmp_path / "c.pth.tar", names_for(module))
    captioner = imported(path, word_map(tmp_path), to=tmp_path / "mine")
    assert captioner.config.encoder == expected
    pixels = [captioner.prepare(photographs()[name]) for name in ("cat", "coffee")]
    images = torch.cat([tutorial.normalised(square.transpose(1, 2, 0)) for square in pixels])
    with torch.no_grad():
        theirs, ours = encoder(images), captioner.encode(torch.from_numpy(np.stack(pixels)))
    torch.testing.assert_close(ours.expand_as(theirs), theirs, rtol=1e-3, atol=1e-3)


def test_img2storys_second_mobilenet_is_known(tmp_path: Path) -> None:
    """The same network with its layers in one sequence, and the tutorial's decoder."""
    decoder = tutorial.DecoderWithAttention(24, 20, 48, len(WORD_MAP), encoder_dim=img2story.CHANNELS)
    names = {"models": tutorial, "encoder_mobilenet": parts_of(img2story.EncoderMobilenet)}
    path = save({"encoder": img2story.EncoderMobilenet(), "decoder": decoder}, tmp_path / "c.pth.tar", names)
    name = import_checkpoint([str(path), str(word_map(tmp_path))], str(tmp_path / "mine"))
    assert name == "img2story-mobilenet_v2"
