from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from model.captioner import Captioner, load_captioner, load_network, save_network
from model.checkpoint import checkpoint_version, read_config
from model.errors import GpucaptError
from model.preprocessing import Preparation
from tests.media import PHOTOGRAPHS, photograph
from tests.model.tiny import make_tiny_checkpoint
from tests.rounding import ROUNDING_UNITS, units_apart


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint")


@pytest.fixture(scope="module")
def captioner(checkpoint: Path) -> Captioner:
    return load_captioner(checkpoint, device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def prepared(captioner: Captioner) -> list[np.ndarray]:
    return [captioner.prepare(photograph(name)) for name in PHOTOGRAPHS]


def test_a_caption_has_text_words_log_probability_and_attention(
    captioner: Captioner, prepared: list[np.ndarray]
) -> None:
    for caption in captioner.caption(prepared):
        assert caption.text == " ".join(caption.words)
        assert caption.words
        assert caption.log_prob < 0
        assert caption.attention.shape == (len(caption.words), 2, 2)
        assert caption.attention.dtype == np.uint8
        assert (caption.attention.max(axis=(1, 2)) == 255).all()


def test_pictures_get_captions_of_their_own(captioner: Captioner, prepared: list[np.ndarray]) -> None:
    texts = {caption.text for caption in captioner.caption(prepared)}
    assert len(texts) > len(prepared) // 2


def test_a_batch_says_what_single_pictures_say(captioner: Captioner, prepared: list[np.ndarray]) -> None:
    together = captioner.caption(prepared)
    alone = [captioner.caption([picture])[0] for picture in prepared]
    assert [c.text for c in together] == [c.text for c in alone]
    assert units_apart([c.log_prob for c in together], [c.log_prob for c in alone]) <= ROUNDING_UNITS


def test_alternatives_are_other_texts_beside_the_same_caption(
    captioner: Captioner, prepared: list[np.ndarray]
) -> None:
    plain, more = captioner.caption(prepared), captioner.caption(prepared, alternatives=3)
    assert [caption.text for caption in more] == [caption.text for caption in plain]
    assert any(len(caption.alternatives) == 3 for caption in more)
    for caption in more:
        texts = [caption.text, *(one.text for one in caption.alternatives)]
        assert len(set(texts)) == len(texts) <= 4
        log_probs = [caption.log_prob, *(one.log_prob for one in caption.alternatives)]
        assert log_probs == sorted(log_probs, reverse=True)


def test_the_length_limit_is_kept(captioner: Captioner, prepared: list[np.ndarray]) -> None:
    assert all(len(c.words) <= 3 for c in captioner.caption(prepared, max_length=3))


def test_no_pictures_no_captions(captioner: Captioner) -> None:
    assert captioner.caption([]) == []


@pytest.mark.parametrize("precision", ["bf16"])
def test_mixed_precision_captions_too(checkpoint: Path, prepared: list[np.ndarray], precision: str) -> None:
    mixed = load_captioner(checkpoint, device="cpu", precision=precision)
    captions = mixed.caption(prepared)
    assert all(c.words and np.isfinite(c.log_prob) for c in captions)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_the_gpu_captions(checkpoint: Path, prepared: list[np.ndarray], precision: str) -> None:
    on_gpu = load_captioner(checkpoint, device="cuda", precision=precision)
    assert all(c.words for c in on_gpu.caption(prepared))


def test_saving_and_loading_keeps_the_captions(
    checkpoint: Path, captioner: Captioner, prepared: list[np.ndarray], tmp_path: Path
) -> None:
    config, vocabulary, network = load_network(checkpoint)
    save_network(tmp_path / "copy", config, vocabulary, network)
    again = load_captioner(tmp_path / "copy", device="cpu", precision="fp32")
    assert again.version == captioner.version
    assert [c.text for c in again.caption(prepared)] == [c.text for c in captioner.caption(prepared)]


@pytest.mark.slow
def test_to_caption_torch_does_not_import_its_compiler(checkpoint: Path) -> None:
    """It takes longer to import than torch itself."""
    code = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from model.captioner import load_captioner\n"
        "captioner = load_captioner(Path(sys.argv[1]), device='cpu', precision='fp32')\n"
        "captioner.caption([np.zeros((3, 64, 64), np.uint8)])\n"
        "assert 'torch._dynamo' not in sys.modules\n"
        "import torch._dynamo; torch._dynamo.utils.is_compile_supported('cpu')  # the real one, if wanted"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, checkpoint], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_whoever_may_read_the_config_may_read_the_tensors(checkpoint: Path) -> None:
    modes = {path.stat().st_mode for path in checkpoint.iterdir()}
    assert len(modes) == 1


def test_a_checkpoint_is_replaced_as_a_whole(tmp_path: Path) -> None:
    first = make_tiny_checkpoint(tmp_path / "checkpoint", seed=0)
    before = checkpoint_version(first)
    make_tiny_checkpoint(tmp_path / "checkpoint", seed=1)
    assert checkpoint_version(first) != before
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize("name", ["config.json", "vocabulary.json", "model.safetensors"])
def test_an_incomplete_checkpoint_is_named_with_what_it_lacks(tmp_path: Path, name: str) -> None:
    directory = make_tiny_checkpoint(tmp_path / "checkpoint")
    (directory / name).unlink()
    with pytest.raises(GpucaptError, match=name):
        load_captioner(directory)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", "{"),
        ("config.json", "[]"),
        ("config.json", '{"format": 1}'),
        ("vocabulary.json", '{"words": [1, 2]}'),
        ("model.safetensors", "not tensors"),
    ],
)
def test_damage_is_one_line_for_people(tmp_path: Path, name: str, content: str) -> None:
    directory = make_tiny_checkpoint(tmp_path / "checkpoint")
    (directory / name).write_text(content)
    with pytest.raises(GpucaptError) as caught:
        load_captioner(directory)
    assert "\n" not in str(caught.value)


def test_a_vocabulary_of_another_size_is_refused(tmp_path: Path) -> None:
    directory = make_tiny_checkpoint(tmp_path / "checkpoint")
    words = json.loads((directory / "vocabulary.json").read_text())["words"]
    (directory / "vocabulary.json").write_text(json.dumps({"words": [*words, "zebra"]}))
    with pytest.raises(GpucaptError, match="do not fit"):
        load_captioner(directory)


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [("decoder", "hidden_size", 10**9), ("decoder", "hidden_size", -1), ("decoder", "attention_size", "a")],
)
def test_a_config_that_no_network_can_be_built_from_is_one_line(
    tmp_path: Path, part: str, field: str, value: object
) -> None:
    directory = make_tiny_checkpoint(tmp_path / "checkpoint")
    content = json.loads((directory / "config.json").read_text())
    content[part]["options"][field] = value
    (directory / "config.json").write_text(json.dumps(content))
    with pytest.raises(GpucaptError) as caught:
        load_captioner(directory)
    assert "\n" not in str(caught.value) and str(directory) in str(caught.value)


def test_reading_a_config_needs_no_torch(checkpoint: Path) -> None:
    assert read_config(checkpoint)["encoder"]["name"] == "mobilenet_v2"


def test_an_unknown_device_is_one_line(checkpoint: Path) -> None:
    with pytest.raises(GpucaptError, match="device"):
        load_captioner(checkpoint, device="toaster")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_asking_for_a_gpu_that_is_not_there_is_one_line(checkpoint: Path) -> None:
    with pytest.raises(GpucaptError, match="no usable GPU"):
        load_captioner(checkpoint, device="cuda:0")


@pytest.mark.parametrize("filter_", ["area", "bilinear", "bicubic"])
def test_preparation_keeps_flat_colour_and_shape(filter_: str) -> None:
    image = np.full((50, 90, 3), (10, 100, 200), dtype=np.uint8)
    ready = Preparation(size=32, filter=filter_)(image)  # type: ignore[arg-type]
    assert ready.shape == (3, 32, 32)
    assert [int(channel.mean()) for channel in ready] == [10, 100, 200]
    swapped = Preparation(size=32, channels="bgr", filter=filter_)(image)  # type: ignore[arg-type]
    assert [int(channel.mean()) for channel in swapped] == [200, 100, 10]
