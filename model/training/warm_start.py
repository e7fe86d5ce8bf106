"""Beginning with what another network has learned, also where its vocabulary or its decoder is another."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from model.captioner import CaptionNetwork
from model.errors import GpucaptError
from model.vocabulary import END, PAD, START, UNKNOWN, Vocabulary

MARKS = (PAD, UNKNOWN, START, END)
VECTORS = "decoder.embedding.weight"


@dataclass(frozen=True, slots=True)
class Transferred:
    """What came over: `words` shared by both vocabularies, without the marks, and the target's tensors by
    name."""

    words: int
    kept: tuple[str, ...]
    left: tuple[str, ...]

    @property
    def whole_encoder(self) -> bool:
        return not any(name.startswith("encoder.") for name in self.left)

    def __str__(self) -> str:
        """One line for the log."""
        encoder = "the encoder" if self.whole_encoder else "not the encoder, which is another"
        left = [name.removeprefix("decoder.") for name in self.left if name.startswith("decoder.")]
        line = f"taken over: {self.words:,} words, {len(self.kept)} of "
        line += f"{len(self.kept) + len(self.left)} tensors; {encoder}"
        if left:
            line += f"; anew in the decoder: {', '.join(left[:6])}{', …' if len(left) > 6 else ''}"
        return line


def transfer(
    source: CaptionNetwork, source_words: Vocabulary, target: CaptionNetwork, target_words: Vocabulary
) -> Transferred:
    """Copy into `target` what fits of `source`; the rest of it stays as it was made.

    Of tensors with a row a word, the rows of the words in both vocabularies are copied, to their new
    places. The encoder comes over as a whole or not at all: another one's weights are meaningless, even
    where some shapes agree. Of a decoder of another kind only the word vectors come over. GpucaptError
    where nothing fits.
    """
    ours, theirs = target.state_dict(), source.state_dict()
    same_encoder = _shapes(source.encoder) == _shapes(target.encoder)
    same_decoder = type(source.decoder) is type(target.decoder)
    of_words = {f"decoder.{name}" for name in target.decoder.of_words}
    shared = [word for word in target_words.words if word in source_words.index]
    to = torch.tensor([target_words.index[word] for word in shared])
    origin = torch.tensor([source_words.index[word] for word in shared])
    kept = []
    for name, tensor in ours.items():
        other = theirs.get(name)
        same_part = same_encoder if name.startswith("encoder.") else same_decoder or name == VECTORS
        if other is None or not same_part:
            continue
        if name in of_words and tensor.shape[1:] == other.shape[1:]:
            tensor[to] = other[origin]
        elif name not in of_words and tensor.shape == other.shape:
            tensor.copy_(other)
        else:
            continue
        kept.append(name)
    if not kept:
        raise GpucaptError(
            "Nothing of that checkpoint fits this recipe: encoder, decoder and sizes are others."
        )
    left = tuple(name for name in ours if name not in kept)
    return Transferred(sum(word not in MARKS for word in shared), tuple(kept), left)


def _shapes(part: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in part.state_dict().items()}
