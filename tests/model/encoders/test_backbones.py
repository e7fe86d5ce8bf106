from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from model.captioner import _fuse_batch_norm
from model.encoders.backbones import IMAGENET_MEAN, IMAGENET_STD, TORCHVISION_ENCODERS, build_encoder
from model.errors import GpucaptError

pytestmark = pytest.mark.slow

# One of each family in every run; the largest of a family differ only in numbers.
SMALL = [
    *("resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2", "densenet121"),
    *("squeezenet1_0", "squeezenet1_1", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"),
    *("shufflenet_v2_x0_5", "shufflenet_v2_x1_0"),
]


def pictures(count: int = 2, size: int = 64) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)


@pytest.mark.parametrize("name", [*SMALL, "resnext101_32x8d"])
def test_every_family_gives_a_grid_of_features(name: str) -> None:
    encoder = build_encoder(name).eval()
    with torch.inference_mode():
        features = encoder(pictures())
    assert features.shape[0] == 2
    assert features.shape[1] == features.shape[2] in (2, 3)
    assert features.shape[3] == encoder.channels
    assert features.isfinite().all()


def test_the_production_encoder_has_the_shape_that_earlier_captioners_rely_on() -> None:
    encoder = build_encoder("resnext101_32x8d", grid=14).eval()
    with torch.inference_mode():
        assert encoder(pictures(1)).shape == (1, 14, 14, 2048)


def test_names_cover_the_families_of_the_handbook() -> None:
    families = ("resnet", "resnext", "wide_resnet", "densenet", "squeezenet", "mobilenet_v2")
    for family in (*families, "mobilenet_v3", "shufflenet_v2"):
        assert any(name.startswith(family) for name in TORCHVISION_ENCODERS)


def test_pixels_are_normalised_as_the_weights_expect() -> None:
    encoder = build_encoder("resnet18").eval()
    images = pictures()
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    seen: list[torch.Tensor] = []
    encoder.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    encoder(images)
    torch.testing.assert_close(seen[0], (images / 255 - mean) / std, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "name", ["resnet50", "densenet121", "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x0_5"]
)
def test_folding_batch_norm_does_not_change_the_features(name: str) -> None:
    encoder = build_encoder(name)
    images = pictures(4)
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.3, 0.3)
    with torch.no_grad():
        encoder.train()(pictures(8))  # statistics that are not the trivial ones
        expected = encoder.eval()(images)
        _fuse_batch_norm(encoder)
        torch.testing.assert_close(encoder(images), expected, atol=1e-3, rtol=1e-3)
    norms = [m for m in encoder.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) == 0 or name == "densenet121"  # whose norms stand before convolutions, too


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_come_from_a_file_of_the_whole_model(tmp_path: Path, suffix: str) -> None:
    model = torchvision.models.mobilenet_v2()
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(model.state_dict(), path)
    else:
        save_file(model.state_dict(), path)
    encoder = build_encoder("mobilenet_v2", weights=path)
    torch.testing.assert_close(encoder.backbone[0][0].weight, model.features[0][0].weight)  # type: ignore[index]


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(torchvision.models.squeezenet1_1().state_dict(), path)
    with pytest.raises(GpucaptError, match="does not hold the weights of torchvision's mobilenet_v2"):
        build_encoder("mobilenet_v2", weights=path)


def test_a_weights_file_never_runs_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (str(tmp_path / "owned"),))

    path = tmp_path / "weights.pth"
    torch.save({"features": Evil()}, path)
    with pytest.raises(GpucaptError, match="cannot be read"):
        build_encoder("mobilenet_v2", weights=path)
    assert not (tmp_path / "owned").exists()


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(GpucaptError, match="no such weights file"):
        build_encoder("mobilenet_v2", weights=tmp_path / "nowhere.pth")


def test_without_network_and_cache_imagenet_weights_say_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(GpucaptError, match="--encoder-weights"):
        build_encoder("squeezenet1_1", weights="imagenet")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(GpucaptError, match="resnext101_32x8d"):
        build_encoder("vgg99")


def test_timm_encoders_work_by_name() -> None:
    pytest.importorskip("timm")
    encoder = build_encoder("timm/resnest14d").eval()
    with torch.inference_mode():
        assert encoder(pictures(1)).shape == (1, 2, 2, 2048)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_of_timm_come_from_a_file(tmp_path: Path, suffix: str) -> None:
    timm = pytest.importorskip("timm")
    state = timm.create_model("resnest14d").state_dict()
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    encoder = build_encoder("timm/resnest14d", weights=path)
    for name, tensor in encoder.backbone.get_submodule("net").state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_wrong_weights_for_timm_are_one_line(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    with pytest.raises(GpucaptError, match="no such weights file"):
        build_encoder("timm/resnest14d", weights=tmp_path / "nowhere.pth")
    path = tmp_path / "weights.safetensors"
    save_file(timm.create_model("resnest26d").state_dict(), path)
    with pytest.raises(GpucaptError, match="does not hold the weights of timm's resnest14d") as caught:
        build_encoder("timm/resnest14d", weights=path)
    assert "\n" not in str(caught.value)


def test_timm_models_that_cannot_be_encoders_are_one_line() -> None:
    pytest.importorskip("timm")
    with pytest.raises(GpucaptError, match="pictures of any size"):
        build_encoder("timm/vit_tiny_patch16_224")
    with pytest.raises(GpucaptError, match=r"timm\.list_models"):
        build_encoder("timm/parrot")
