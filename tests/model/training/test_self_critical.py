"""Captions are drawn from the decoder's distribution, and those that earn more become likelier."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from model.captioner import CaptionNetwork, load_network
from model.training.self_critical import draw_captions, policy_loss, score_drawn
from model.vocabulary import Vocabulary
from tests.model.tiny import make_tiny_checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> tuple[Vocabulary, CaptionNetwork]:
    _, words, network = load_network(make_tiny_checkpoint(tmp_path_factory.mktemp("tiny"), end_bias=1.0))
    return words, network.eval()


def draw(
    words: Vocabulary, network: CaptionNetwork, features: torch.Tensor, count: int = 5, longest: int = 12
) -> tuple[torch.Tensor, torch.Tensor]:
    forbidden = (words.pad, words.start, words.unknown)
    return draw_captions(
        network.decoder,
        features,
        count=count,
        start=words.start,
        end=words.end,
        forbidden=forbidden,
        longest=longest,
    )


def features(network: CaptionNetwork, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(count, 2, 2, network.encoder.channels, generator=generator)


def test_a_drawn_caption_has_words_and_ends(captioner: tuple[Vocabulary, CaptionNetwork]) -> None:
    words, network = captioner
    torch.manual_seed(0)
    drawn, lengths = draw(words, network, features(network, 20), longest=6)
    for caption, length in zip(drawn.flatten(0, 1).tolist(), lengths.flatten().tolist(), strict=True):
        assert caption[0] == words.start
        assert caption[length] == words.end
        said = caption[1:length]
        assert 1 <= len(said) <= 6
        assert not {words.pad, words.start, words.unknown, words.end} & set(said)
    assert len({tuple(row) for row in drawn[0].tolist()}) > 1, "the captions of a picture differ"
    assert int(lengths.max()) == 7, "some are as long as they may be"
    assert int(lengths.min()) < 7


def test_words_are_drawn_as_often_as_the_decoder_says(captioner: tuple[Vocabulary, CaptionNetwork]) -> None:
    words, network = captioner
    torch.manual_seed(0)
    seen = features(network, 1)
    drawn, _ = draw(words, network, seen, count=20_000, longest=1)
    logits, _, _ = network.decoder.step(torch.tensor([[words.start]]), network.decoder.start(seen))
    logits[:, :, [words.pad, words.start, words.unknown, words.end]] = -torch.inf
    expected = logits.softmax(dim=2).flatten()
    often = torch.bincount(drawn[0, :, 1], minlength=len(words)) / 20_000
    assert (often - expected).abs().max() < 0.015


class Likes:
    """Pays for one word."""

    def __init__(self, word: int) -> None:
        self.word = word

    def scores(self, picture: int, captions: Sequence[Sequence[int]]) -> list[float]:
        return [float(caption.count(self.word)) for caption in captions]


def test_what_earns_more_becomes_likelier(captioner: tuple[Vocabulary, CaptionNetwork]) -> None:
    words, network = captioner
    reward = Likes(words.index["boat"])
    seen = features(network, 8)
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(network.decoder.parameters(), lr=0.003)
    earned = []
    for _ in range(120):
        drawn, lengths = draw(words, network, seen, longest=8)
        rewards = score_drawn(reward, torch.arange(8), drawn, lengths)
        forced = network.decoder(seen, drawn, lengths)
        loss = policy_loss(forced, rewards, (words.pad, words.start, words.unknown)) / len(forced.targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        earned.append(float(rewards.mean()))
    assert sum(earned[-10:]) > 4 * sum(earned[:10]) > 0


def test_captions_that_all_earn_the_same_change_nothing(captioner: tuple[Vocabulary, CaptionNetwork]) -> None:
    words, network = captioner
    torch.manual_seed(0)
    seen = features(network, 3)
    drawn, lengths = draw(words, network, seen)
    forced = network.decoder(seen, drawn, lengths)
    for rewards, least, most in (
        (torch.full((3, 5), 0.7), 0.0, 1e-5),
        (torch.arange(15.0).view(3, 5), 1.0, torch.inf),
    ):
        loss = policy_loss(forced, rewards, (words.pad,))
        [gradient] = torch.autograd.grad(loss, network.decoder.output.bias, retain_graph=True)
        assert least <= gradient.norm() < most
