"""What a training run is made of: every number in one place, each with its default."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from model.errors import GpucaptError

SCHEDULES = ("cosine", "linear", "constant")
"""How the learning rate falls, once it has risen."""

ENCODER_PARTS = ("none", "block4", "blocks3-4", "blocks2-4", "blocks1-4", "all")
"""How much of an encoder is trained. Its last four stages by the size of their grid are blocks 1 to 4."""

_DECODER_FIELDS = {
    "attention_lstm": ("attention", "attention_size", "feature_size", "dropout"),
    "lstm": ("layers", "dropout"),
    "transformer": ("layers", "heads", "dropout"),
}
_OF_ALL_DECODERS = ("embedding_size", "hidden_size")
_DECODER_DEFAULTS: dict[str, dict[str, Any]] = {
    "attention_lstm": {"dropout": 0.5},
    "lstm": {"layers": 1, "dropout": 0.5},
    "transformer": {"layers": 3, "dropout": 0.2},
}
"""What a recipe's None stands for. It is written into the checkpoint, which so outlives other defaults."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A training run in stages: the decoder on stored features, then all layers on pictures, then the decoder
    on what its captions earn. A stage of 0 epochs is left out.
    """

    name: str = "gpucapt"
    # the captioner
    encoder: str = "resnext101_32x8d"
    encoder_weights: str | None = "imagenet"
    encoder_stages: int | None = None  # of a ResNet's four blocks, the first so many; None: all
    grid: int | None = None
    decoder: str = "attention_lstm"
    embedding_size: int = 512
    embeddings: str | None = None  # a file of word vectors as GloVe writes them
    embeddings_trained: bool = True
    hidden_size: int = 512
    attention: str = "additive"  # this and the next two: attention_lstm
    attention_size: int = 512
    feature_size: int | None = None
    layers: int | None = None  # lstm (None: 1) and transformer (None: 3)
    heads: int = 8  # transformer
    dropout: float | None = None  # None: 0.5, transformer 0.2
    # stage one: the encoder stays as it is
    epochs: int = 12
    learning_rate: float = 5e-4
    # stage two: the encoder as well
    encoder_trained: str = "all"
    finetune_epochs: int = 6
    finetune_learning_rate: float = 1e-4
    encoder_learning_rate: float = 1e-4
    # stage three: captions drawn from the decoder learn from their CIDEr
    self_critical_epochs: int = 0
    self_critical_learning_rate: float = 1e-4
    self_critical_samples: int = 5  # captions drawn of a picture
    self_critical_dropout: float = 0.0
    self_critical_share: float = 0.5  # of the way from the weights before to those after, taken to be saved
    # all
    feature_views: int = 2  # stored of each picture: as it is, mirrored, then random crops
    batch_size: int = 64  # pictures; each brings all its captions
    accumulate: int = 1
    rate_schedule: str = "cosine"
    warmup: float = 0.05  # share of a stage's steps in which the learning rate rises
    weight_decay: float = 0.01
    label_smoothing: float = 0.1
    attention_regularisation: float = 1.0
    clip_norm: float = 5.0
    average_decay: float = 0.995  # of the running mean of the weights, which is what gets saved
    patience: int = 4  # epochs without a better validation CIDEr before a stage ends
    cut_patience: int = 2  # and before the learning rate is cut; 0: never
    cut_factor: float = 0.5
    save_every: int = 0  # epochs between checkpoints that are kept beside the best and the last; 0: none
    log_every: int = 20  # steps between the rows of steps.csv
    sample_captions: int = 6  # validation pictures whose captions are drawn after each epoch
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
        for name in (
            *("batch_size", "accumulate", "patience", "validation_beam", "max_length", "feature_views"),
            "log_every",
            *("embedding_size", "hidden_size", "attention_size", "feature_size", "layers", "heads"),
            *("encoder_stages", "grid"),
        ):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise GpucaptError(f"The recipe's {name} must be at least 1, not {getattr(self, name)}.")
        if self.self_critical_samples < 2:
            raise GpucaptError("The recipe's self_critical_samples must be at least 2: they are compared.")
        for name in (
            *("epochs", "finetune_epochs", "self_critical_epochs"),
            *("sample_captions", "workers", "cut_patience", "save_every"),
        ):
            if getattr(self, name) < 0:
                raise GpucaptError(f"The recipe's {name} must not be negative.")
        for name, choices in (
            ("rate_schedule", SCHEDULES),
            ("decoder", tuple(_DECODER_FIELDS)),
            ("encoder_trained", ENCODER_PARTS),
        ):
            if getattr(self, name) not in choices:
                raise GpucaptError(
                    f"The recipe's {name} cannot be {getattr(self, name)!r}. Known are: {', '.join(choices)}."
                )
        if not 0 < self.self_critical_share <= 1:
            raise GpucaptError("The recipe's self_critical_share must be above 0 and at most 1.")
        if self.length_penalty < 0:
            raise GpucaptError("The recipe's length_penalty must not be negative.")
        for name in (
            *("dropout", "self_critical_dropout", "label_smoothing"),
            *("warmup", "average_decay", "cut_factor"),
        ):
            if getattr(self, name) is not None and not 0 <= getattr(self, name) < 1:
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
        """The keyword arguments of the decoder: those that it has."""
        options = {name: getattr(self, name) for name in _OF_ALL_DECODERS + _DECODER_FIELDS[self.decoder]}
        for name, default in _DECODER_DEFAULTS[self.decoder].items():
            if options[name] is None:
                options[name] = default
        return options


def _checked(name: str, kind: str, value: Any) -> Any:
    if value is None and "None" in kind:
        return None
    first = kind.split(" ")[0]
    if first == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    expected = {"int": int, "float": float, "str": str, "bool": bool}[first]
    if not isinstance(value, expected) or (isinstance(value, bool) and first != "bool"):
        raise GpucaptError(f"The recipe's {name} must be {kind}, not {value!r}.")
    return value
