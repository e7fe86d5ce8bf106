"""What a training run is made of: every number in one place, each with its default."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from model.errors import GpucaptError


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A training run in two stages: the decoder on stored features, then all layers on pictures."""

    name: str = "gpucapt"
    # the captioner
    encoder: str = "resnext101_32x8d"
    encoder_weights: str | None = "imagenet"
    grid: int | None = None
    decoder: str = "attention_lstm"
    embedding_size: int = 512
    hidden_size: int = 512
    attention: str = "additive"
    attention_size: int = 512
    feature_size: int | None = None
    dropout: float = 0.5
    # stage one: the encoder stays as it is
    epochs: int = 12
    learning_rate: float = 5e-4
    # stage two: all layers; 0 epochs leave it out
    finetune_epochs: int = 6
    finetune_learning_rate: float = 1e-4
    encoder_learning_rate: float = 1e-4
    # both
    batch_size: int = 64  # pictures; each brings all its captions
    accumulate: int = 1
    warmup: float = 0.05  # share of a stage's steps in which the learning rate rises
    weight_decay: float = 0.01
    label_smoothing: float = 0.1
    attention_regularisation: float = 1.0
    clip_norm: float = 5.0
    average_decay: float = 0.995  # of the running mean of the weights, which is what gets saved
    patience: int = 4  # epochs without a better validation CIDEr
    # the search, in validation and as the checkpoint's own
    validation_beam: int = 3
    max_length: int = 40
    length_penalty: float = 0.7
    precision: str = "auto"
    optimizer: str = "auto"
    device: str = "auto"
    seed: int = 0
    workers: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "accumulate", "patience", "validation_beam", "max_length"):
            if getattr(self, name) < 1:
                raise GpucaptError(f"The recipe's {name} must be at least 1, not {getattr(self, name)}.")
        for name in ("epochs", "finetune_epochs", "workers"):
            if getattr(self, name) < 0:
                raise GpucaptError(f"The recipe's {name} must not be negative.")
        if self.length_penalty < 0:
            raise GpucaptError("The recipe's length_penalty must not be negative.")
        for name in ("dropout", "warmup", "label_smoothing", "average_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise GpucaptError(f"The recipe's {name} must be from 0 to below 1.")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """Build from a mapping; a name that is not a field is an error, not ignored."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise GpucaptError(
                f"The recipe has no {', '.join(unknown)}. Known are: {', '.join(sorted(known))}."
            )
        for field in fields(cls):
            if field.name in values:
                values[field.name] = _checked(field.name, str(field.type), values[field.name])
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def decoder_options(self) -> dict[str, Any]:
        """The keyword arguments of the decoder."""
        return {
            "embedding_size": self.embedding_size,
            "hidden_size": self.hidden_size,
            "attention": self.attention,
            "attention_size": self.attention_size,
            "feature_size": self.feature_size,
            "dropout": self.dropout,
        }


def _checked(name: str, kind: str, value: Any) -> Any:
    if value is None and "None" in kind:
        return None
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    expected = {"int": int, "float": float, "str": str}[kind.split(" ")[0]]
    if not isinstance(value, expected) or isinstance(value, bool):
        raise GpucaptError(f"The recipe's {name} must be {kind}, not {value!r}.")
    return value
