"""Two captioners without attention, written down once more: a ResNet's average as an LSTM's first input."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

from tests.media import Picture

MARKS = ("<start>", "<end>", "<unk>")
END = 1


class Vocabulary:
    """Their vocabulary, as it was pickled."""

    def __init__(self, words: tuple[str, ...]) -> None:
        self.vocab_threshold = 5
        self.vocab_file = "./vocab.pkl"
        self.start_word, self.end_word, self.unk_word = MARKS
        self.annotations_file = "../cocoapi/annotations/captions_train2014.json"
        self.vocab_from_file = False
        self.idx2word = dict(enumerate((*MARKS, *words)))
        self.word2idx = {word: index for index, word in self.idx2word.items()}
        self.idx = len(self.idx2word)


class EncoderCNN(nn.Module):
    def __init__(self, resnet: nn.Module, depth: int, embed_size: int) -> None:
        super().__init__()
        self.resnet = nn.Sequential(*list(resnet.children())[:-1])
        self.embed = nn.Linear(depth, embed_size)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, 224, 224) → the first inputs (B, E)."""
        first: Tensor = self.embed(self.resnet(images).flatten(1))
        return first


class DecoderRNN(nn.Module):
    def __init__(self, embed_size: int, hidden_size: int, vocabulary: int, layers: int, output: str) -> None:
        super().__init__()
        self.output = output
        self.embed = nn.Embedding(vocabulary, embed_size)
        self.lstm = nn.LSTM(embed_size, hidden_size, layers, batch_first=True)
        self.add_module(output, nn.Linear(hidden_size, vocabulary))

    def forward(self, first: Tensor, captions: Tensor) -> Tensor:
        """Teacher forcing: first inputs (B, E), captions (B, T) → scores (B, T, V) of each of their words."""
        inputs = torch.cat([first.unsqueeze(1), self.embed(captions[:, :-1])], dim=1)
        scores: Tensor = self.get_submodule(self.output)(self.lstm(inputs)[0])
        return scores


def prepared(picture: Picture) -> Tensor:
    """(H, W, 3) RGB → (1, 3, 224, 224). Theirs cut at random and mirrored at random; this is the middle."""
    steps = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    pixels: Tensor = steps(Image.fromarray(picture)).unsqueeze(0)
    return pixels


@torch.no_grad()
def sample(decoder: DecoderRNN, first: Tensor, max_len: int | None) -> list[int]:
    """A first input (1, E) → indices, `<start>` first; the one that had no limit is stopped after 51."""
    inputs, state = first.unsqueeze(1), None
    said: list[int] = []
    for _ in range(max_len or 51):
        hidden, state = decoder.lstm(inputs, state)
        word = decoder.get_submodule(decoder.output)(hidden.squeeze(1)).argmax(dim=1)
        said.append(int(word))
        if said[-1] == END:
            break
        inputs = decoder.embed(word).unsqueeze(1)
    return said
