"""Img2Story's ResNeSt sees here what it saw there; its backbone is timm's here."""

from __future__ import annotations

import builtins
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from model.errors import GpucaptError
from pipeline.checkpoint_import import backbones
from pipeline.checkpoint_import.importer import import_checkpoint
from tests.media import Picture, photograph
from tests.pipeline.checkpoint_import.layouts.test_attend_and_tell import (
    WORD_MAP,
    checkpoint_of,
    imported,
    word_map,
)
from tests.pipeline.checkpoint_import.originals import encoder_resnest, resnest, tutorial
from tests.pipeline.checkpoint_import.saving import save, settle

pytestmark = pytest.mark.slow

NAMES: dict[str, ModuleType] = {
    "models": tutorial,
    "encoder_resNeSt": encoder_resnest,
    **{name: ModuleType(name) for name in ("resnest", "resnest.torch", "resnest.torch.models")},
    "resnest.torch.models.splat": resnest,
}


def square(picture: Picture) -> Picture:
    """(256, 256, 3) as the captioner's page made it."""
    transform = pytest.importorskip("skimage.transform")
    from skimage import img_as_ubyte

    resized: Picture = img_as_ubyte(transform.resize(picture, (256, 256)))
    return resized


@pytest.fixture(scope="module")
def encoder_and_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    pytest.importorskip("timm")
    torch.manual_seed(0)
    encoder = encoder_resnest.EncoderResNeSt()
    settle(encoder, torch.cat([tutorial.prepared(photograph(name)) for name in ("cat", "rocket")]))
    nn.init.uniform_(encoder.encoder_net[8].weight, 0.5, 1.5)
    decoder = tutorial.DecoderWithAttention(12, 10, 16, len(WORD_MAP))
    path = tmp_path_factory.mktemp("resnest") / "checkpoint_resnest.pth.tar"
    return encoder, save(checkpoint_of(encoder, decoder), path, NAMES)


def test_a_resnest_sees_what_it_saw(encoder_and_file: tuple[nn.Module, Path], tmp_path: Path) -> None:
    encoder, path = encoder_and_file
    ours = imported(path, word_map(tmp_path), to=tmp_path / "mine")
    assert ours.config.encoder == {"name": "timm/resnest14d", "grid": 14, "options": {"norm": True}}
    picture = photograph("temple")
    ready = ours.prepare(picture)
    assert np.abs(ready.transpose(1, 2, 0).astype(int) - square(picture)).max() <= 1
    with torch.no_grad():
        expected = encoder(tutorial.normalised(ready.transpose(1, 2, 0)))
    assert expected.std() > 0.1
    torch.testing.assert_close(ours.encode(torch.from_numpy(ready[None])), expected, atol=1e-3, rtol=1e-3)


def test_without_timm_it_says_what_to_install(
    encoder_and_file: tuple[nn.Module, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without_timm(name: str, *rest: Any) -> Any:
        if name == "timm":
            raise ImportError(name)
        return real(name, *rest)

    backbones._names.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without_timm)
    with pytest.raises(GpucaptError, match=r"pip install 'gpucapt\[timm\]'"):
        import_checkpoint([str(encoder_and_file[1]), str(word_map(tmp_path))], str(tmp_path / "mine"))
