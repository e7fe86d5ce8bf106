"""Vocabularies that cannot be meant, checkpoints that are too many or worthless: the line names the file."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path

import pytest
import torch

from model.captioner import load_captioner
from model.errors import GpucaptError
from pipeline.checkpoint_import.importer import import_checkpoint
from pipeline.errors import BadInput
from tests.pipeline.checkpoint_import.layouts.test_attend_and_tell import NAMES, WORD_MAP, word_map
from tests.pipeline.checkpoint_import.originals import tutorial
from tests.pipeline.checkpoint_import.saving import save
from tests.pipeline.checkpoint_import.test_importer_errors import checkpoint, decoder, said

pytestmark = pytest.mark.slow

__all__ = ["checkpoint"]

BROKEN = {
    "twice": ({**WORD_MAP, "zebra": 5}, "'zebra' have the same index, 5"),
    "floats": ({word: float(index) for word, index in WORD_MAP.items()}, "'<pad>' is no whole number"),
    "NaN": ({**WORD_MAP, "zebra": math.nan}, "'zebra' is no whole number"),
    "nothing": ({**WORD_MAP, "zebra": None}, "'zebra' is no whole number"),
    "negative": ({**WORD_MAP, "zebra": -1}, "'zebra' is none of 0 to"),
    "texts": ({word: str(index) for word, index in WORD_MAP.items()}, "texts instead of indices"),
    "reversed": ({str(index): word for word, index in WORD_MAP.items()}, "texts instead of indices"),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("form", ["json", "pickle"])
def test_a_broken_vocabulary_is_told_by_name_and_fault(
    checkpoint: Path, tmp_path: Path, form: str, kind: str
) -> None:
    content, fault = BROKEN[kind]
    path = tmp_path / "WORDMAP"
    path.write_bytes(json.dumps(content).encode() if form == "json" else pickle.dumps(content))
    message = said(checkpoint, path, to=tmp_path / "mine")
    assert message.startswith(f"{path} is not a vocabulary")
    assert fault in message


@pytest.mark.parametrize("word", ["\x1b[31mred", "two\nlines", "\u202edrow", "a\u2028b", "\ud800", "\x00"])
def test_words_that_would_change_what_they_are_shown_in_are_refused(
    checkpoint: Path, tmp_path: Path, word: str
) -> None:
    path = tmp_path / "WORDMAP.json"
    path.write_text(json.dumps({word if one == "you" else one: index for one, index in WORD_MAP.items()}))
    message = said(checkpoint, path, to=tmp_path / "mine")
    assert message.startswith(f"{path}: The vocabulary has {word!r} as a word")
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_words_of_scripts_that_need_joiners_are_kept(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "WORDMAP.json"
    words = {"می\u200cدود" if word == "you" else word: index for word, index in WORD_MAP.items()}
    path.write_text(json.dumps(words))
    import_checkpoint([str(checkpoint), str(path)], str(tmp_path / "mine"))
    assert "می\u200cدود" in load_captioner(tmp_path / "mine", device="cpu").vocabulary.words
    listed = tmp_path / "mine" / "vocabulary.json"
    listed.write_text(listed.read_text().replace("\u200c", "\\u202e"))
    with pytest.raises(GpucaptError, match=r"vocabulary.json: The vocabulary has .* as a word"):
        load_captioner(tmp_path / "mine", device="cpu")


def test_a_file_too_many(checkpoint: Path, tmp_path: Path) -> None:
    words = word_map(tmp_path)
    other = tmp_path / "other.pth.tar"
    other.write_bytes(checkpoint.read_bytes())
    for second in (other, checkpoint):
        message = said(checkpoint, words, second, to=tmp_path / "mine")
        assert message == f"{checkpoint} and {second} are checkpoints both; give one of them."
    other.write_bytes(pickle.dumps({"notes": []}))
    assert said(checkpoint, words, other, to=tmp_path / "mine").startswith(f"{other}: It holds 'notes'")


@pytest.mark.parametrize(
    ("number", "dtype"),
    [
        (math.nan, torch.float32),
        (math.inf, torch.float16),
        (-math.inf, torch.bfloat16),
        (1e99, torch.float64),
    ],
)
def test_weights_that_are_no_numbers(tmp_path: Path, number: float, dtype: torch.dtype) -> None:
    network = {"encoder": tutorial.Encoder("resnet18"), "decoder": decoder().to(dtype)}
    with torch.no_grad():
        network["decoder"].fc.weight[3, 2] = number  # type: ignore[union-attr, operator]
    path = save(network, tmp_path / "BEST.pth.tar", NAMES)
    with pytest.raises(BadInput, match=r"BEST.pth.tar: decoder.output.weight holds numbers that are none"):
        import_checkpoint([str(path), str(word_map(tmp_path))], str(tmp_path / "mine"))
