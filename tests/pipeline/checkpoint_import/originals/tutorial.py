"""The Show-Attend-and-Tell tutorial's network and search, written down once more as plainly as they are.

Classes and attributes are laid out as in its files; `saved` writes them as such.
"""

from __future__ import annotations

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Encoder(nn.Module):
    def __init__(self, backbone: str = "resnet101", encoded_image_size: int = 14) -> None:
        super().__init__()
        self.enc_image_size = encoded_image_size
        net = torchvision.models.get_model(backbone, weights=None)
        self.resnet = nn.Sequential(*list(net.children())[:-2])
        self.adaptive_pool = nn.AdaptiveAvgPool2d((encoded_image_size, encoded_image_size))

    def forward(self, images: Tensor) -> Tensor:
        return self.adaptive_pool(self.resnet(images)).permute(0, 2, 3, 1)


class Attention(nn.Module):
    def __init__(self, encoder_dim: int, decoder_dim: int, attention_dim: int) -> None:
        super().__init__()
        self.encoder_att = nn.Linear(encoder_dim, attention_dim)
        self.decoder_att = nn.Linear(decoder_dim, attention_dim)
        self.full_att = nn.Linear(attention_dim, 1)
        self.relu = nn.ReLU()
        self.softmax = nn.Softmax(dim=1)

    def forward(self, encoder_out: Tensor, decoder_hidden: Tensor) -> Tensor:
        att1 = self.encoder_att(encoder_out)
        att2 = self.decoder_att(decoder_hidden)
        alpha = self.softmax(self.full_att(self.relu(att1 + att2.unsqueeze(1))).squeeze(2))
        return (encoder_out * alpha.unsqueeze(2)).sum(dim=1)


class DecoderWithAttention(nn.Module):
    def __init__(
        self,
        attention_dim: int,
        embed_dim: int,
        decoder_dim: int,
        vocab_size: int,
        encoder_dim: int = 2048,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.encoder_dim = encoder_dim
        self.vocab_size = vocab_size
        self.attention = Attention(encoder_dim, decoder_dim, attention_dim)
        self.embedding = nn.Embedding(vocab_size, embed_dim)
        self.dropout = nn.Dropout(p=dropout)
        self.decode_step = nn.LSTMCell(embed_dim + encoder_dim, decoder_dim, bias=True)
        self.init_h = nn.Linear(encoder_dim, decoder_dim)
        self.init_c = nn.Linear(encoder_dim, decoder_dim)
        self.f_beta = nn.Linear(decoder_dim, encoder_dim)
        self.sigmoid = nn.Sigmoid()
        self.fc = nn.Linear(decoder_dim, vocab_size)

    def gate(self, hidden: Tensor) -> Tensor:
        return self.sigmoid(self.f_beta(hidden))

    def scores(self, hidden: Tensor) -> Tensor:
        return self.fc(self.dropout(hidden))

    def step(self, embedded: Tensor, cells: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        context = self.gate(h) * self.attention(cells, h)
        return self.decode_step(torch.cat([embedded, context], dim=1), (h, c))

    def forward(self, cells: Tensor, words: Tensor) -> Tensor:
        """Teacher forcing: cells (B, L, C), words (B, T) → scores (B, T, V)."""
        h, c = self.init_h(cells.mean(dim=1)), self.init_c(cells.mean(dim=1))
        scores = []
        for embedded in self.embedding(words).unbind(dim=1):
            h, c = self.step(embedded, cells, h, c)
            scores.append(self.scores(h))
        return torch.stack(scores, dim=1)


def prepared(
    picture: np.ndarray, *, bgr: bool = False, how: Image.Resampling = Image.Resampling.BILINEAR
) -> Tensor:
    """(H, W, 3) RGB → (1, 3, 256, 256), normalised with ImageNet's statistics whatever the order."""
    resized = np.asarray(Image.fromarray(picture[:, :, ::-1] if bgr else picture).resize((256, 256), how))
    return normalised(resized)


def normalised(square: np.ndarray) -> Tensor:
    pixels = torch.from_numpy(square.transpose(2, 0, 1).copy()).float() / 255
    mean, std = (torch.tensor(three).view(3, 1, 1) for three in (MEAN, STD))
    return ((pixels - mean) / std).unsqueeze(0)


@torch.no_grad()
def caption_image_beam_search(
    encoder: nn.Module, decoder: nn.Module, image: Tensor, word_map: dict[str, int], beam_size: int = 3
) -> list[int]:
    """The tutorial's search: indices with both marks. Where nothing finishes it fails, as it does there."""
    k = beam_size
    vocab_size = len(word_map)
    encoder_out = encoder(image)
    encoder_dim = encoder_out.size(3)
    encoder_out = encoder_out.reshape(1, -1, encoder_dim)
    num_pixels = encoder_out.size(1)
    encoder_out = encoder_out.expand(k, num_pixels, encoder_dim)
    k_prev_words = torch.LongTensor([[word_map["<start>"]]] * k)
    seqs = k_prev_words
    top_k_scores = torch.zeros(k, 1)
    complete_seqs: list[list[int]] = []
    complete_seqs_scores: list[Tensor] = []
    step = 1
    h = decoder.init_h(encoder_out.mean(dim=1))
    c = decoder.init_c(encoder_out.mean(dim=1))
    while True:
        embeddings = decoder.embedding(k_prev_words).squeeze(1)
        h, c = decoder.step(embeddings, encoder_out, h, c)
        scores = torch.log_softmax(decoder.scores(h), dim=1)
        scores = top_k_scores.expand_as(scores) + scores
        if step == 1:
            top_k_scores, top_k_words = scores[0].topk(k, 0, True, True)
        else:
            top_k_scores, top_k_words = scores.view(-1).topk(k, 0, True, True)
        prev_word_inds = top_k_words // vocab_size
        next_word_inds = top_k_words % vocab_size
        seqs = torch.cat([seqs[prev_word_inds], next_word_inds.unsqueeze(1)], dim=1)
        incomplete_inds = [i for i, word in enumerate(next_word_inds) if word != word_map["<end>"]]
        complete_inds = [i for i in range(len(next_word_inds)) if i not in incomplete_inds]
        complete_seqs.extend(seqs[complete_inds].tolist())
        complete_seqs_scores.extend(top_k_scores[complete_inds])
        k -= len(complete_inds)
        if k == 0:
            break
        seqs = seqs[incomplete_inds]
        h = h[prev_word_inds[incomplete_inds]]
        c = c[prev_word_inds[incomplete_inds]]
        encoder_out = encoder_out[prev_word_inds[incomplete_inds]]
        top_k_scores = top_k_scores[incomplete_inds].unsqueeze(1)
        k_prev_words = next_word_inds[incomplete_inds].unsqueeze(1)
        if step > 50:
            break
        step += 1
    best = max(range(len(complete_seqs)), key=lambda i: float(complete_seqs_scores[i]))
    return complete_seqs[best]
