"""What goes wrong with people's files: one line that names the file and says what to do."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from model.captioner import load_captioner
from model.errors import GpucaptError
from pipeline.checkpoint_import.importer import import_checkpoint
from pipeline.checkpoint_import.unpickling import read_vocabulary
from pipeline.errors import BadInput
from pipeline.models.checkpoint_cache import checkpoint_folder
from pipeline.storage.open import open_storage
from tests.pipeline.checkpoint_import.layouts.test_attend_and_tell import NAMES, WORD_MAP, word_map
from tests.pipeline.checkpoint_import.originals import img2story, tutorial
from tests.pipeline.checkpoint_import.saving import as_in_torch_1_0, known_as, parts_of, save, thnn

pytestmark = pytest.mark.slow

V = len(WORD_MAP)


def decoder(words: int = V) -> nn.Module:
    return tutorial.DecoderWithAttention(8, 8, 8, words, encoder_dim=512)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    content = {"encoder": tutorial.Encoder("resnet18"), "decoder": decoder()}
    return save(content, tmp_path_factory.mktemp("whole") / "BEST_checkpoint.pth.tar", NAMES)


def said(*files: Path, to: Path) -> str:
    with pytest.raises(BadInput) as caught:
        import_checkpoint([str(file) for file in files], str(to))
    assert not to.exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_checkpoint_without_its_vocabulary(checkpoint: Path, tmp_path: Path) -> None:
    message = said(checkpoint, to=tmp_path / "mine")
    assert message.startswith(f"{checkpoint} needs its vocabulary")
    assert "WORDMAP_" in message


def test_a_vocabulary_without_its_checkpoint(tmp_path: Path) -> None:
    words = word_map(tmp_path)
    assert said(words, to=tmp_path / "mine").startswith(f"{words} is a vocabulary; give the checkpoint")


def test_a_vocabulary_of_another_training(checkpoint: Path, tmp_path: Path) -> None:
    words = tmp_path / "WORDMAP_other.json"
    words.write_text(json.dumps({**WORD_MAP, "zebra": V}))
    message = said(words, checkpoint, to=tmp_path / "mine")
    assert f"{words} has {V + 1} words, {checkpoint} was trained with {V}" in message


def test_two_vocabularies(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    words, again = word_map(tmp_path), word_map(tmp_path / "b")
    assert "both; give one of them" in said(words, checkpoint, again, to=tmp_path / "mine")


def test_a_word_map_that_lacks_a_mark(checkpoint: Path, tmp_path: Path) -> None:
    words = tmp_path / "WORDMAP.json"
    words.write_text(json.dumps({"zebra" if word == "<end>" else word: i for word, i in WORD_MAP.items()}))
    assert said(words, checkpoint, to=tmp_path / "mine").startswith(f"{words}: The vocabulary lacks <end>")


@pytest.mark.parametrize("gap", [{"<pad>": 0, "a": 2}, {"<pad>": 0, "a": 0}, {"a": "0"}, {"a": -1}, {}])
def test_a_word_map_with_gaps_is_none(tmp_path: Path, gap: dict[str, object]) -> None:
    path = tmp_path / "WORDMAP.json"
    path.write_text(json.dumps(gap))
    with pytest.raises(BadInput, match="is not a vocabulary"):
        read_vocabulary(path)


def test_a_class_that_is_not_known(tmp_path: Path) -> None:
    mine = ModuleType("parts")
    mine.Fancy = type("Fancy", (nn.Linear,), {})  # type: ignore[attr-defined]
    path = save(
        {"encoder": mine.Fancy(2, 2), "decoder": decoder()}, tmp_path / "c.pth.tar", {"mine": mine, **NAMES}
    )
    message = said(path, word_map(tmp_path), to=tmp_path / "mine")
    assert f"{path} is refused" in message
    assert "it holds mine.Fancy, which no checkpoint known here has" in message


def test_a_backbone_or_a_decoder_that_is_not_known(tmp_path: Path) -> None:
    encoder = tutorial.Encoder("resnet18")
    encoder.resnet = nn.Sequential(nn.Conv2d(3, 512, 3))
    path = save({"encoder": encoder, "decoder": decoder()}, tmp_path / "c.pth.tar", NAMES)
    assert "has a backbone that is not known here" in said(path, word_map(tmp_path), to=tmp_path / "mine")
    changed = decoder()
    del changed.f_beta
    path = save({"encoder": tutorial.Encoder("resnet18"), "decoder": changed}, tmp_path / "d.pth.tar", NAMES)
    assert f"{path} lacks f_beta.weight" in said(path, word_map(tmp_path), to=tmp_path / "mine")
    deeper = img2story.DecoderWithAttention(8, 8, 8, V, encoder_dim=64)
    names = {**NAMES, "decoder_with_attention": parts_of(img2story.DecoderWithAttention)}
    path = save({"encoder": tutorial.Encoder("resnet18"), "decoder": deeper}, tmp_path / "e.pth.tar", names)
    assert "instead of" in said(path, word_map(tmp_path), to=tmp_path / "mine")


def test_a_file_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"generator": torch.ones(2), "discriminator": 1}, path)
    message = said(path, word_map(tmp_path), to=tmp_path / "mine")
    assert "It holds 'generator', 'discriminator', which is no checkpoint of a captioner" in message


@pytest.mark.slow
def test_a_destination_that_is_taken(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    command = [
        sys.executable,
        "-m",
        "pipeline",
        "import-checkpoint",
        str(checkpoint),
        str(word_map(tmp_path)),
    ]
    done = subprocess.run([*command, str(tmp_path / "mine")], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("exists already: name a folder that is not there yet.")
    assert "Traceback" not in done.stderr
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"


def test_a_destination_that_cannot_be(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GpucaptError, match=r"file/mine cannot be written"):
        import_checkpoint([str(checkpoint), str(word_map(tmp_path))], str(tmp_path / "file" / "mine"))


def test_files_of_the_first_versions_of_torch(tmp_path: Path) -> None:
    """Their modules name a function of torch's that is gone, and lack attributes that came later."""
    network = {"encoder": tutorial.Encoder("resnet18"), "decoder": decoder()}
    content = {name: nn.DataParallel(as_in_torch_1_0(module)) for name, module in network.items()}
    names = {**NAMES, "torch.nn.backends.thnn": thnn()}
    path = save(content, tmp_path / "old.pth.tar", names, legacy=True)
    assert b"_get_thnn_function_backend" in path.read_bytes()
    name = import_checkpoint([str(path), str(word_map(tmp_path))], str(tmp_path / "mine"))
    assert name == "show-attend-and-tell-resnet18"


def test_names_tell_nothing_and_order_does_not_matter(checkpoint: Path, tmp_path: Path) -> None:
    words, network = tmp_path / "a.bin", tmp_path / "b.json"
    words.write_text("\ufeff " + json.dumps(WORD_MAP), encoding="utf-8")
    network.write_bytes(checkpoint.read_bytes())
    for i, files in enumerate(((words, network), (network, words))):
        import_checkpoint([str(file) for file in files], str(tmp_path / f"mine{i}"))


def test_from_a_bucket_to_a_bucket(
    bucket: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for path in (checkpoint, word_map(tmp_path)):
        open_storage(f"s3://{bucket}/theirs").upload(path, path.name)
    files = [f"s3://{bucket}/theirs/{path.name}" for path in (checkpoint, word_map(tmp_path))]
    mine = f"s3://{bucket}/mine"
    assert import_checkpoint(files, mine) == "show-attend-and-tell-resnet18"
    assert load_captioner(checkpoint_folder(mine), device="cpu").config.encoder["grid"] == 14
    with pytest.raises(GpucaptError, match="exists already"):
        import_checkpoint(files, mine)
    with pytest.raises(GpucaptError, match=f"s3://{bucket}/nowhere.pth"):
        import_checkpoint([files[1], f"s3://{bucket}/nowhere.pth"], f"{mine}2")


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickled_vocabulary_of_any_protocol(tmp_path: Path, protocol: int) -> None:
    """As the plain `pickle.dump` of an object of a class of theirs wrote it."""
    module = ModuleType("parts")

    class Vocabulary:
        def __init__(self) -> None:
            self.word2idx = {"<start>": 0, "<end>": 1, "<unk>": 2, "café": 3}
            self.idx2word = {index: word for word, index in self.word2idx.items()}
            self.idx = 4

    Vocabulary.__qualname__ = "Vocabulary"
    module.Vocabulary = Vocabulary  # type: ignore[attr-defined]
    path = tmp_path / "vocab.pkl"
    with known_as({"vocabulary": module}), path.open("wb") as file:
        pickle.dump(Vocabulary(), file, protocol=protocol)
    assert read_vocabulary(path) == ["<start>", "<end>", "<unk>", "café"]
