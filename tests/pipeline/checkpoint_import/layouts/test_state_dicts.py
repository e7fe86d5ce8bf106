"""Captioners saved as state dicts say here, word for word, what they said at home."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from torchvision import models

from model.captioner import Captioner, load_captioner
from pipeline.checkpoint_import.importer import import_checkpoint
from pipeline.media.images import decode_still
from tests.media import Picture, photograph
from tests.pipeline.checkpoint_import.originals import captionbot, show_and_tell
from tests.pipeline.checkpoint_import.originals.lessons import (
    WORDS,
    more_photographs,
    photographs,
    pickled,
    seasoned,
    sentences,
    spoken,
    teach,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    """A small ResNet that has seen nothing but tells pictures apart."""
    torch.manual_seed(0)
    pixels = torch.cat([captionbot.prepared(picture) for picture in photographs()])
    return seasoned(models.resnet18(), pixels)


def loaded(folder: Path, files: list[Path]) -> Captioner:
    import_checkpoint([str(path) for path in files], str(folder / "checkpoint"))
    return load_captioner(folder / "checkpoint", device="cpu", precision="fp32")


# CaptionBot

STEPS = 40


@dataclass(frozen=True)
class Bot:
    """CaptionBot at home, its files, and what they became."""

    encoder: captionbot.EncoderCNN
    decoder: captionbot.Decoder
    words: tuple[str, ...]
    files: list[Path]
    imported: Captioner

    @torch.no_grad()
    def cells(self, picture: Picture) -> Tensor:
        cells: Tensor = self.encoder(captionbot.prepared(picture))
        return cells

    def says(self, cells: Tensor, beam_size: int) -> str:
        return spoken(captionbot.beam_search(self.decoder, cells, beam_size), self.words, captionbot.MARKS)


@pytest.fixture(scope="module")
def bot(resnet: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Bot:
    folder = tmp_path_factory.mktemp("captionbot")
    vocabulary = captionbot.Vocab_Builder(WORDS)
    encoder = captionbot.EncoderCNN(resnet).eval()
    torch.manual_seed(1)
    decoder = captionbot.Decoder(256, 48, 20, len(vocabulary.itos), 24)
    captions = sentences(vocabulary.stoi, "<SOS>", "<EOS>")
    with torch.no_grad():
        cells = torch.cat([encoder(captionbot.prepared(picture)) for picture in photographs()])
    teach(decoder, lambda: decoder(cells, captions[:, :-1]), captions[:, 1:], steps=STEPS)
    optimizer = torch.optim.Adam(decoder.parameters())
    files = [folder / "Flickr30k_Decoder_10.pth.tar", folder / "resnet5010.pt", folder / "vocab.pickle"]
    state = {"state_dict": decoder.state_dict(), "optimizer": optimizer.state_dict(), "step": STEPS}
    torch.save(state, files[0], _use_new_zipfile_serialization=False)
    torch.save(encoder.state_dict(), files[1])
    pickled(files[2], "vocab", vocabulary)
    return Bot(encoder, decoder, tuple(vocabulary.stoi), files, loaded(folder, files))


def test_captionbot_says_what_it_said_with_each_of_its_beam_sizes(bot: Bot) -> None:
    pictures = photographs()
    cells = [bot.cells(picture) for picture in pictures]
    ready = [bot.imported.prepare(picture) for picture in pictures]
    said = {}
    for beam_size in range(1, 6):
        expected = [bot.says(one, beam_size) for one in cells]
        found = bot.imported.caption(ready, beam_size=beam_size, max_length=50)
        assert [caption.text for caption in found] == expected
        said[beam_size] = expected
        assert found[0].attention.shape[1:] == (14, 14)
    assert len(set(said[5])) > 5, "captions of different pictures should differ, or this shows little"
    assert said[1] != said[5], "and more beams should find better ones"


def test_captionbot_says_what_it_said_of_pictures_that_it_has_not_seen(bot: Bot) -> None:
    pictures = more_photographs(12)
    if not pictures:
        pytest.skip("there are no photographs of flickr8k beside the repository")
    expected = [bot.says(bot.cells(picture), 3) for picture in pictures]
    found = bot.imported.caption(list(map(bot.imported.prepare, pictures)), beam_size=3, max_length=50)
    assert [caption.text for caption in found] == expected


def test_captionbot_turns_pictures_upright_as_its_page_did(bot: Bot, tmp_path: Path) -> None:
    path = tmp_path / "lying.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photograph("cat")).save(path, exif=exif, quality=95)
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image.convert("RGB"))
    ready = bot.imported.prepare(decode_still(path.read_bytes(), path.name))
    expected = bot.says(bot.cells(decode_still(path.read_bytes(), path.name)), 3)
    assert upright.size == (300, 451)
    assert bot.imported.caption([ready], beam_size=3)[0].text == expected


def test_the_checkpoint_says_how_its_pictures_are_made_and_where_it_came_from(bot: Bot) -> None:
    config = json.loads((bot.files[0].parent / "checkpoint" / "config.json").read_text())
    assert config["preparation"] == {"size": 256, "channels": "rgb", "filter": "bilinear"}
    assert config["encoder"] == {"name": "resnet18", "grid": 14, "options": {"stages": 3}}
    assert set(config["training"]["imported_from"]) == {path.name for path in bot.files}


# The two without attention


@dataclass(frozen=True)
class Kind:
    """What one of the two has that the other has not."""

    layers: int
    embed_size: int
    output: str
    files: tuple[str, str]
    max_len: int | None


KINDS = {
    "two layers": Kind(2, 24, "fc1", ("encoderEpoch_2.pth", "decoderEpoch_2.pth"), None),
    "one layer": Kind(1, 16, "linear", ("encoder-3.pkl", "decoder-3.pkl"), 20),
}


@dataclass(frozen=True)
class Teller:
    encoder: show_and_tell.EncoderCNN
    decoder: show_and_tell.DecoderRNN
    words: tuple[str, ...]
    files: list[Path]
    kind: Kind

    @torch.no_grad()
    def says(self, picture: Picture) -> str:
        said = show_and_tell.sample(
            self.decoder, self.encoder(show_and_tell.prepared(picture)), self.kind.max_len
        )
        assert said[0] == 0, "its first word is <start>"
        return spoken(said, self.words, show_and_tell.MARKS)


@pytest.fixture(scope="module", params=KINDS)
def teller(
    request: pytest.FixtureRequest, resnet: nn.Module, tmp_path_factory: pytest.TempPathFactory
) -> Teller:
    folder, kind = tmp_path_factory.mktemp("teller"), KINDS[request.param]
    vocabulary = show_and_tell.Vocabulary(WORDS)
    torch.manual_seed(2)
    encoder = show_and_tell.EncoderCNN(resnet, 512, kind.embed_size).eval()
    decoder = show_and_tell.DecoderRNN(
        kind.embed_size, 40, len(vocabulary.idx2word), kind.layers, kind.output
    )
    captions = sentences(vocabulary.word2idx, "<start>", "<end>")
    with torch.no_grad():
        pixels = torch.cat([show_and_tell.prepared(picture) for picture in photographs()])
        seen = encoder.resnet(pixels).flatten(1)
        # Averages of a network that has learned nothing are much alike; this layer would learn what differs.
        encoder.embed.weight *= 12 / seen.std(dim=0)
        encoder.embed.bias.copy_(-encoder.embed.weight @ seen.mean(dim=0))
    learning = nn.ModuleList([encoder.embed, decoder])
    teach(learning, lambda: decoder(encoder.embed(seen), captions), captions, steps=100)
    files = [folder / name for name in (*kind.files, "vocab.pkl")]
    torch.save(encoder.state_dict(), files[0])
    torch.save(decoder.state_dict(), files[1], _use_new_zipfile_serialization=kind.layers == 1)
    pickled(files[2], "vocabulary", vocabulary)
    return Teller(encoder, decoder, tuple(vocabulary.word2idx), files, kind)


def test_tellers_say_what_they_said(teller: Teller, tmp_path: Path) -> None:
    imported = loaded(tmp_path, teller.files)
    pictures = [*photographs(), *more_photographs(6)]
    expected = [teller.says(picture) for picture in pictures]
    found = imported.caption(list(map(imported.prepare, pictures)), beam_size=1, max_length=50)
    assert [caption.text for caption in found] == expected
    assert len(set(expected)) > 4, "captions of different pictures should differ, or this shows little"
    # Their vocabularies have no <pad>, which is needed here: a last word without any probability.
    padding = imported.vocabulary.pad
    assert padding == len(teller.words)
    logits, _, _ = imported.decoder.step(
        torch.tensor([[imported.vocabulary.start]]), imported.decoder.start(torch.zeros(1, 1, 1, 512))
    )
    assert logits[0, 0].softmax(dim=0)[padding] == 0


def test_tellers_that_never_end_are_stopped_where_theirs_was(teller: Teller, tmp_path: Path) -> None:
    bias = teller.decoder.get_submodule(teller.kind.output).bias
    before = bias.data.clone()
    try:
        bias.data[show_and_tell.END] = -100
        torch.save(teller.decoder.state_dict(), teller.files[1])
        imported = loaded(tmp_path, teller.files)
        expected = teller.says(photograph("cat")).split()
        found = imported.caption([imported.prepare(photograph("cat"))], beam_size=1, max_length=60)
        assert list(found[0].words) == expected
        assert len(expected) == (50 if teller.kind.max_len is None else 19)
    finally:
        bias.data = before
        torch.save(teller.decoder.state_dict(), teller.files[1])
