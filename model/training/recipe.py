"""What a training run is made of: every number in one place, each with its default."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

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


_Value = TypeVar("_Value")


def _option(default: _Value, help: str, *, unset: str = "") -> _Value:
    """A field with its help. `unset`: what None as the default stands for."""
    return field(default=default, metadata={"help": help, "unset": unset})


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A training run in stages: the decoder on stored features, then all layers on pictures, then the decoder
    on what its captions earn. A stage of 0 epochs is left out.
    """

    name: str = _option("gpucapt", "Name of the model.")
    # the captioner
    encoder: str = _option(
        "resnext101_32x8d", "Backbone of the encoder, by name; timm/NAME is one of timm's."
    )
    encoder_weights: str | None = _option(
        "imagenet", "Initial weights of the encoder: imagenet, a file, or none for random ones."
    )
    encoder_stages: int | None = _option(
        None, "Number of a ResNet's four blocks to keep, counted from the input.", unset="all"
    )
    grid: int | None = _option(None, "Side of the feature grid, in cells.", unset="the encoder's own")
    decoder: str = _option(
        "attention_lstm", "Architecture of the decoder: attention_lstm, lstm or transformer."
    )
    embedding_size: int = _option(512, "Dimension of the word embeddings.")
    embeddings: str | None = _option(
        None, "File of pretrained word vectors, in GloVe's text format.", unset="random embeddings"
    )
    embeddings_trained: bool = _option(True, "Train the word embeddings as well; off: they stay frozen.")
    hidden_size: int = _option(512, "Dimension of the decoder's hidden state.")
    attention: str = _option(
        "additive", "Scoring function of the attention in attention_lstm: additive or dot."
    )
    attention_size: int = _option(512, "Dimension of the attention layer in attention_lstm.")
    feature_size: int | None = _option(
        None, "Dimension to which attention_lstm projects each cell's features.", unset="no projection"
    )
    layers: int | None = _option(
        None, "Number of layers of lstm or transformer.", unset="lstm 1, transformer 3"
    )
    heads: int = _option(8, "Number of attention heads of transformer.")
    dropout: float | None = _option(None, "Dropout rate of the decoder.", unset="0.5, transformer 0.2")
    # stage one: the encoder stays as it is
    epochs: int = _option(12, "Epochs of stage one, which trains the decoder on stored features.")
    learning_rate: float = _option(5e-4, "Peak learning rate of stage one.")
    # stage two: the encoder as well
    encoder_trained: str = _option(
        "all",
        "Part of the encoder that stage two trains: none, block4, blocks3-4, blocks2-4, blocks1-4 or all.",
    )
    finetune_epochs: int = _option(
        6, "Epochs of stage two, which fine-tunes encoder and decoder on pictures."
    )
    finetune_learning_rate: float = _option(1e-4, "Peak learning rate of the decoder in stage two.")
    encoder_learning_rate: float = _option(1e-4, "Peak learning rate of the encoder in stage two.")
    # stage three: captions drawn from the decoder learn from their CIDEr
    self_critical_epochs: int = _option(
        0, "Epochs of stage three, self-critical training with CIDEr as the reward."
    )
    self_critical_learning_rate: float = _option(1e-4, "Peak learning rate of stage three.")
    self_critical_samples: int = _option(5, "Captions sampled of each picture in stage three, at least 2.")
    self_critical_dropout: float = _option(0.0, "Dropout rate of the decoder in stage three.")
    self_critical_share: float = _option(
        0.5, "Interpolation from the weights before stage three (0) to those after it (1)."
    )
    # all
    feature_views: int = _option(2, "Stored views of each picture: as it is, mirrored, then random crops.")
    batch_size: int = _option(64, "Pictures in a batch; each brings all its captions.")
    accumulate: int = _option(1, "Batches whose gradients are accumulated for one step of the optimiser.")
    rate_schedule: str = _option(
        "cosine", "Decay of the learning rate after the warm-up: cosine, linear or constant."
    )
    warmup: float = _option(0.05, "Fraction of a stage's steps in which the learning rate rises.")
    weight_decay: float = _option(0.01, "Weight decay of the optimiser.")
    label_smoothing: float = _option(0.1, "Label smoothing of the cross-entropy loss.")
    attention_regularisation: float = _option(1.0, "Coefficient of the doubly stochastic attention penalty.")
    clip_norm: float = _option(5.0, "Largest norm of the gradients; larger ones are clipped to it.")
    average_decay: float = _option(
        0.995, "Decay of the moving average of the weights, which is what gets saved."
    )
    patience: int = _option(4, "Epochs without a better validation CIDEr before a stage ends.")
    cut_patience: int = _option(
        2, "Epochs without a better validation CIDEr before the learning rate is cut; 0: never."
    )
    cut_factor: float = _option(0.5, "Factor by which the learning rate is multiplied when it is cut.")
    save_every: int = _option(
        0, "Epochs between checkpoints that are kept beside the best and the last; 0: none."
    )
    log_every: int = _option(20, "Steps between the rows of steps.csv.")
    sample_captions: int = _option(6, "Validation pictures whose captions are drawn after each epoch.")
    # the search, in validation and as the checkpoint's own
    validation_beam: int = _option(3, "Beam size in validation.")
    max_length: int = _option(40, "Maximum length of a caption, in words.")
    length_penalty: float = _option(0.7, "Exponent of the beam search's length normalisation; 0: none.")
    precision: str = _option("auto", "Floating-point precision: auto, fp32, bf16 or fp16.")
    optimizer: str = _option(
        "auto", "Optimiser: adamw, apex (Apex's fused AdamW), or auto for apex where it is installed."
    )
    device: str = _option("auto", "Device to train on: auto, cpu, cuda or cuda:N.")
    seed: int = _option(0, "Seed of the random numbers.")
    workers: int = _option(0, "Processes that load the data; 0: the training process itself.")

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
        known = {one.name for one in fields(cls)}
        unknown = sorted(map(str, set(values) - known))
        if unknown:
            raise GpucaptError(
                f"The recipe has no {', '.join(unknown)}. Known are: {', '.join(sorted(known))}."
            )
        for one in fields(cls):
            if one.name in values:
                values[one.name] = _checked(one.name, str(one.type), values[one.name])
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
