"""CaptionBot's network and search, written down once more: Show, Attend and Tell on a ResNet cut early."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

from tests.media import Picture

MARKS = ("<PAD>", "<SOS>", "<EOS>", "<UNK>")
START, END = 1, 2


class Vocab_Builder:
    """Its vocabulary, as it was pickled."""

    def __init__(self, words: tuple[str, ...]) -> None:
        self.itos = dict(enumerate((*MARKS, *words)))
        self.stoi = {word: index for index, word in self.itos.items()}
        self.freq_threshold = 2


class EncoderCNN(nn.Module):
    def __init__(self, resnet: nn.Module) -> None:
        super().__init__()
        self.resnet50 = resnet
        self.resnet = nn.Sequential(*list(resnet.children())[:-3])
        self.adaptive_pool = nn.AdaptiveAvgPool2d((14, 14))

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, 256, 256) → cells (B, 196, C)."""
        return self.adaptive_pool(self.resnet(images)).flatten(2).transpose(1, 2)


class BahdanauAttention(nn.Module):
    def __init__(self, encoder_dim: int, decoder_dim: int, attention_dim: int) -> None:
        super().__init__()
        self.attention = nn.Linear(attention_dim, 1)
        self.encoder_to_attention_dim = nn.Linear(encoder_dim, attention_dim)
        self.decoder_to_attention_dim = nn.Linear(decoder_dim, attention_dim)

    def forward(self, cells: Tensor, hidden: Tensor) -> Tensor:
        both = self.encoder_to_attention_dim(cells) + self.decoder_to_attention_dim(hidden).unsqueeze(1)
        weights = self.attention(torch.tanh(both)).squeeze(2).softmax(dim=1)
        return (cells * weights.unsqueeze(2)).sum(dim=1)


class Decoder(nn.Module):
    def __init__(
        self, encoder_dim: int, decoder_dim: int, embed: int, vocabulary: int, attention: int
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, embed)
        self.lstm = nn.LSTMCell(encoder_dim + embed, decoder_dim)
        self.attention = BahdanauAttention(encoder_dim, decoder_dim, attention)
        self.f_beta = nn.Linear(decoder_dim, encoder_dim)
        self.init_h = nn.Linear(encoder_dim, decoder_dim)
        self.init_c = nn.Linear(encoder_dim, decoder_dim)
        self.L_h = nn.Linear(decoder_dim, embed, bias=False)
        self.L_z = nn.Linear(encoder_dim, embed, bias=False)
        self.L_o = nn.Linear(embed, vocabulary, bias=False)
        self.fc = nn.Linear(decoder_dim, vocabulary)

    def start(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        mean = cells.mean(dim=1)
        return torch.tanh(self.init_h(mean)), torch.tanh(self.init_c(mean))

    def step(self, words: Tensor, cells: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        context = torch.sigmoid(self.f_beta(h)) * self.attention(cells, h)
        h, c = self.lstm(torch.cat([self.embed(words), context], dim=1), (h, c))
        return h, c

    def forward(self, cells: Tensor, words: Tensor) -> Tensor:
        """Teacher forcing: cells (B, L, C), words (B, T) → scores (B, T, V)."""
        h, c = self.start(cells)
        scores = []
        for column in words.unbind(dim=1):
            h, c = self.step(column, cells, h, c)
            scores.append(self.fc(h))
        return torch.stack(scores, dim=1)


def prepared(picture: Picture) -> Tensor:
    """(H, W, 3) RGB → (1, 3, 256, 256)."""
    steps = transforms.Compose(
        [
            transforms.Resize((256, 256)),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    pixels: Tensor = steps(Image.fromarray(picture)).unsqueeze(0)
    return pixels


@torch.no_grad()
def beam_search(decoder: Decoder, cells: Tensor, beam_size: int) -> list[int]:
    """Cells (1, L, C) → the indices that it showed, both marks among them; [1, 2] where nothing ended."""
    size = decoder.embed.num_embeddings
    k = beam_size
    cells = cells.expand(k, *cells.shape[1:])
    words = torch.full((k,), START)
    said = words.unsqueeze(1)
    totals = torch.zeros(k, 1)
    h, c = decoder.start(cells)
    complete: list[tuple[float, list[int]]] = []
    for step in range(1, 52):
        h, c = decoder.step(words, cells, h, c)
        scores = totals + decoder.fc(h).log_softmax(dim=1)
        totals, best = (scores[0] if step == 1 else scores.view(-1)).topk(k)
        parents, words = best // size, best % size
        said = torch.cat([said[parents], words.unsqueeze(1)], dim=1)
        ended = words == END
        complete += zip(totals[ended].tolist(), said[ended].tolist(), strict=True)
        k -= int(ended.sum())
        if k == 0:
            break
        going = ~ended
        said, words, totals = said[going], words[going], totals[going].unsqueeze(1)
        h, c, cells = h[parents[going]], c[parents[going]], cells[parents[going]]
    return max(complete, key=lambda pair: pair[0])[1] if complete else [START, END]
