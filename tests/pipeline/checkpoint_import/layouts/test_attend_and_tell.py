"""The tutorial's files, and those of two captioners that grew from it: the captions stay word for word."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from model.captioner import Captioner, load_captioner
from pipeline.checkpoint_import.importer import import_checkpoint
from tests.pipeline.checkpoint_import.originals import tutorial
from tests.pipeline.checkpoint_import.saving import photographs, save, settle

pytestmark = pytest.mark.slow

SENTENCES = {
    "astronaut": "a woman in an orange suit smiles",
    "cat": "a brown cat looks at you",
    "coffee": "a cup of coffee on a wooden table",
    "rocket": "a rocket stands on its pad at night",
    "galaxies": "many galaxies in the dark sky",
}
WORDS = sorted({word for sentence in SENTENCES.values() for word in sentence.split()} - {"wooden"})
WORD_MAP = {"<pad>": 0, **{word: i for i, word in enumerate(WORDS, 1)}}
WORD_MAP |= {mark: len(WORD_MAP) + i for i, mark in enumerate(("<unk>", "<start>", "<end>"))}
MARKS = {"<pad>", "<unk>", "<start>", "<end>"}


def words_of(indices: list[int]) -> list[str]:
    names = {index: word for word, index in WORD_MAP.items()}
    return [names[index] for index in indices if names[index] not in MARKS]


def encoded(sentence: str) -> list[int]:
    return [
        WORD_MAP["<start>"],
        *(WORD_MAP.get(word, WORD_MAP["<unk>"]) for word in sentence.split()),
        WORD_MAP["<end>"],
    ]


def train(decoder: nn.Module, cells: Tensor, steps: int = 90) -> None:
    """Learn the sentences a little: enough that every picture has a caption of its own, and few are sure."""
    rows = [encoded(sentence) for sentence in SENTENCES.values()]
    longest = max(map(len, rows))
    words = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    learner = torch.optim.Adam(decoder.parameters(), lr=1e-2)
    for _ in range(steps):
        scores = decoder(cells, words[:, :-1])
        loss = nn.functional.cross_entropy(scores.flatten(0, 1), words[:, 1:].flatten(), ignore_index=0)
        learner.zero_grad()
        loss.backward()
        learner.step()
    decoder.eval()


def trained(
    encoder: nn.Module, decoder: nn.Module, prepare: Callable[[np.ndarray], Tensor]
) -> dict[str, Tensor]:
    """The prepared photographs by name, after both have seen them."""
    images = {name: prepare(photographs()[name]) for name in SENTENCES}
    settle(encoder, torch.cat(list(images.values())))
    with torch.no_grad():
        cells = torch.cat([encoder(image) for image in images.values()]).flatten(1, 2)
    train(decoder, cells)
    return images


def caption_of(decoder: nn.Module, grid: Tensor, beam_size: int) -> list[str] | None:
    """The tutorial's caption; None where it fails because nothing finishes: machines differ in that."""
    try:
        found = tutorial.caption_image_beam_search(lambda grid: grid, decoder, grid, WORD_MAP, beam_size)
    except ValueError:
        return None
    return words_of(found)


CLOSE_CALL = 0.03
"""Wordings whose logarithms of probability lie so close change places where a processor rounds otherwise."""


def are_alike(decoder: nn.Module, grid: Tensor, some: list[str], others: list[str]) -> bool:
    """Whether captions are the same, or the original had to choose between two that are as probable."""
    if some == others:
        return True
    rows = [
        [WORD_MAP["<start>"], *map(WORD_MAP.__getitem__, words), WORD_MAP["<end>"]]
        for words in (some, others)
    ]
    parted = next(at for at, (one, other) in enumerate(zip(*rows, strict=False)) if one != other)
    until_parted, whole = (
        [log_prob(decoder, grid, row[:length]) for row in rows]
        for length in (parted + 1, max(map(len, rows)))
    )
    return any(abs(one - other) < CLOSE_CALL for one, other in (until_parted, whole))


def log_prob(decoder: nn.Module, grid: Tensor, row: list[int]) -> float:
    """Of a caption, or of its beginning, as the original scores it."""
    words = torch.tensor([row])
    with torch.no_grad():
        scores = decoder(grid.flatten(1, 2), words[:, :-1]).log_softmax(2)
    return float(scores[0].gather(1, words[0, 1:, None]).sum())


def assert_same_captions(
    captioner: Captioner, encoder: nn.Module, decoder: nn.Module, images: dict[str, Tensor]
) -> None:
    """Every photograph, for each beam size; and they are no captions that any network would give."""
    pictures = [captioner.prepare(photographs()[name]) for name in images]
    with torch.no_grad():
        grids = [encoder(image) for image in images.values()]
    for beam_size in (1, 3, 5):
        theirs = [caption_of(decoder, grid, beam_size) for grid in grids]
        ours = captioner.caption(pictures, beam_size=beam_size, max_length=50)
        said = [
            (grid, list(mine.words), words)
            for grid, mine, words in zip(grids, ours, theirs, strict=True)
            if words
        ]
        assert all(are_alike(decoder, grid, mine, words) for grid, mine, words in said)
        assert len({tuple(words) for _, _, words in said}) > 2


def word_map(folder: Path) -> Path:
    path = folder / "WORDMAP_coco_5_cap_per_img_5_min_word_freq.json"
    path.write_text(json.dumps(WORD_MAP))
    return path


def imported(*files: Path, to: Path) -> Captioner:
    import_checkpoint([str(file) for file in files], str(to))
    return load_captioner(to, device="cpu", precision="fp32")


def checkpoint_of(encoder: nn.Module, decoder: nn.Module) -> dict[str, object]:
    """What the tutorial's `save_checkpoint` puts into a file, after a step of its optimiser."""
    optimiser = torch.optim.Adam(decoder.parameters(), lr=4e-4)
    decoder.zero_grad()
    sum(parameter.sum() for parameter in decoder.parameters()).backward()  # type: ignore[union-attr]
    state = {name: tensor.clone() for name, tensor in decoder.state_dict().items()}
    optimiser.step()
    decoder.load_state_dict(state)
    return {
        "epoch": 17,
        "epochs_since_improvement": 2,
        "bleu-4": 0.2424,
        "encoder": encoder,
        "decoder": decoder,
        "encoder_optimizer": None,
        "decoder_optimizer": optimiser,
    }


@pytest.fixture(scope="module")
def network() -> tuple[nn.Module, nn.Module, dict[str, Tensor]]:
    torch.manual_seed(0)
    encoder = tutorial.Encoder("resnet18")
    decoder = tutorial.DecoderWithAttention(24, 20, 48, len(WORD_MAP), encoder_dim=512)
    return encoder, decoder, trained(encoder, decoder, tutorial.prepared)


NAMES: dict[str, ModuleType] = {"models": tutorial}


@pytest.mark.parametrize("legacy", [False, True], ids=["torch ≥ 1.6", "torch < 1.6"])
def test_the_tutorials_captions_stay_word_for_word(network, tmp_path: Path, legacy: bool) -> None:
    encoder, decoder, images = network
    path = save(
        checkpoint_of(encoder, decoder), tmp_path / "BEST_checkpoint_coco.pth.tar", NAMES, legacy=legacy
    )
    captioner = imported(word_map(tmp_path), path, to=tmp_path / "mine")
    assert_same_captions(captioner, encoder, decoder, images)
    assert captioner.config.preparation.channels == "rgb"
    assert captioner.config.encoder == {"name": "resnet18", "grid": 14}
    origin = captioner.config.training
    assert origin["epoch"] == 17
    assert origin["bleu-4"] == 0.2424
    assert set(origin["imported_from"]) == {path.name, "WORDMAP_coco_5_cap_per_img_5_min_word_freq.json"}


FLICKR8K = Path(__file__).resolve().parents[5] / "shared" / "data" / "flickr8k" / "images"


@pytest.mark.skipif(not FLICKR8K.is_dir(), reason="the pictures of Flickr8k are not here")
def test_photographs_that_it_has_never_seen_get_its_captions(
    network: tuple[nn.Module, nn.Module, dict[str, Tensor]], tmp_path: Path
) -> None:
    encoder, decoder, _ = network
    path = save({"encoder": encoder, "decoder": decoder}, tmp_path / "BEST_checkpoint_coco.pth.tar", NAMES)
    captioner = imported(path, word_map(tmp_path), to=tmp_path / "mine")
    same = 0
    for file in sorted(FLICKR8K.glob("*.jpg"))[:20]:
        with Image.open(file) as image:
            picture = np.asarray(image.convert("RGB"))
        try:
            theirs = words_of(
                tutorial.caption_image_beam_search(encoder, decoder, tutorial.prepared(picture), WORD_MAP, 5)
            )
        except ValueError:  # nothing finished, and it fails
            continue
        [ours] = captioner.caption([captioner.prepare(picture)], beam_size=5, max_length=50)
        assert list(ours.words) == theirs
        same += 1
    assert same > 10
