"""Decoders by name: features of a picture in, a distribution over the next word out, one word at a time."""

from __future__ import annotations

from typing import Any

from model.decoders.attention_lstm import AttentionLSTM
from model.decoders.base import Decoder, DecoderState, TeacherForced
from model.decoders.lstm import LSTM
from model.decoders.transformer import Transformer
from model.errors import GpucaptError

__all__ = ["DECODERS", "AttentionLSTM", "Decoder", "DecoderState", "TeacherForced", "build_decoder"]

DECODERS: dict[str, type[AttentionLSTM] | type[LSTM] | type[Transformer]] = {
    "attention_lstm": AttentionLSTM,
    "lstm": LSTM,
    "transformer": Transformer,
}


def build_decoder(name: str, vocabulary_size: int, channels: int, options: dict[str, Any]) -> Decoder:
    """Build a decoder by name; `options` are its keyword arguments."""
    if name not in DECODERS:
        raise GpucaptError(f"There is no decoder {name!r}. Known are: {', '.join(DECODERS)}.")
    try:
        return DECODERS[name](vocabulary_size, channels, **options)
    except TypeError as error:
        raise GpucaptError(f"The decoder {name} does not take these options ({error}).") from error
