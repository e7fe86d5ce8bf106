"""The stages of training as Lightning modules: what a step is, and validation by real decoding.

`decoder`        teacher forcing on stored features, the encoder stays as it is
`finetune`       teacher forcing on pictures, the encoder learns as well
`self_critical`  on stored features, drawn captions learn from their CIDEr-D

What is validated and saved is the running mean of the weights; of `self_critical`, weights between those that
the stage began with and the running mean.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.beam_search import Hypotheses, Search, beam_search
from model.captioner import CaptionNetwork, CheckpointConfig, save_network
from model.confidence import UNSURE_BELOW, confidence
from model.metrics import cider
from model.training.augmentation import augment
from model.training.distributed import gather, mean_of_all
from model.training.freezing import train_embeddings, train_part
from model.training.loss import Mean, caption_loss, mean_here
from model.training.optimizers import build_optimizer, rate_at
from model.training.recipe import Recipe
from model.training.rewards import CiderD
from model.training.running_means import Figures
from model.training.self_critical import draw_captions, policy_loss, score_drawn
from model.vocabulary import Vocabulary

log = logging.getLogger(__name__)

Stage = Literal["decoder", "finetune", "self_critical"]
UNSURE = 1 / 6
"""Of the validation captions, those that a network was least sure of set what counts as unsure."""
BeforeGoingOn = Callable[[int, int], None]
"""Told, before a stage goes on, in which epoch (from 0) and after how many of its batches."""


@dataclass(slots=True)
class CaptionBatch:
    """`pictures`: (B, 3, S, S) uint8, or stored features (B, rows, columns, channels) in fp16.
    `captions`: (B, K, T) word indices, `<start>` first; `lengths`: (B, K) words to predict, `<end>`
    included, 0 where a picture has fewer captions. `index`: (B,) positions in the dataset."""

    pictures: Tensor
    captions: Tensor
    lengths: Tensor
    index: Tensor

    def pin_memory(self) -> CaptionBatch:
        return CaptionBatch(
            *(t.pin_memory() for t in (self.pictures, self.captions, self.lengths, self.index))
        )


@dataclass(frozen=True)
class StagePlan:
    """One Lightning run. `trained` adds to what the checkpoint says about its training."""

    stage: Stage
    recipe: Recipe
    epochs: int
    out: Path
    config: CheckpointConfig
    vocabulary: Vocabulary
    trained: dict[str, Any] = field(default_factory=dict)

    @property
    def directory(self) -> Path:
        """Where the stage keeps its state and its logs."""
        return self.out / ".training" / self.stage

    @property
    def state(self) -> Path:
        """All of the state after the last epoch, or where the stage was stopped."""
        return self.directory / "last.ckpt"

    @property
    def best(self) -> Path:
        """The network of the best epoch, as a checkpoint."""
        return self.directory / "best"

    @property
    def last(self) -> Path:
        """The network of the last epoch."""
        return self.out / "last"

    @property
    def steps(self) -> Path:
        """The figures of single steps."""
        return self.out / "steps.csv"

    @property
    def metrics(self) -> Path:
        """The figures of all stages, a row an epoch."""
        return self.out / "metrics.csv"

    def kept(self, epoch: int) -> Path:
        """The network of an epoch that `save_every` keeps."""
        return self.out / "epochs" / f"{self.stage}-{epoch:03d}"

    @property
    def done(self) -> Path:
        return self.directory / "done.json"

    @property
    def learning_rate(self) -> float:
        """Of the decoder."""
        return float(
            {
                "decoder": self.recipe.learning_rate,
                "finetune": self.recipe.finetune_learning_rate,
                "self_critical": self.recipe.self_critical_learning_rate,
            }[self.stage]
        )


@dataclass(frozen=True, slots=True)
class Sample:
    """A validation picture's caption: its position, words, and attention (words, rows, columns), or (0, rows,
    columns) from a decoder that does not attend."""

    index: int
    words: tuple[str, ...]
    attention: NDArray[np.float32]


class CaptioningModule(L.LightningModule):
    """Optimiser, running mean and validation of a stage; teacher forcing on stored features."""

    def __init__(
        self,
        plan: StagePlan,
        network: CaptionNetwork,
        references: Mapping[str, Sequence[str]],
        go_on: BeforeGoingOn = lambda epoch, batches: None,
    ) -> None:
        super().__init__()
        self.go_on = go_on
        self.plan = plan
        self.recipe = plan.recipe
        self.network = network
        self.references = references
        self.best = -1.0
        self.samples: list[Sample] = []
        self.updates = 0
        self.of_step: Mapping[str, Tensor] = {}
        self._said: dict[str, str] = {}
        self._sure: list[float] = []
        self._trained, self._validated = Figures(), Figures()
        self._unsure_below = UNSURE_BELOW
        self._since_best = 0
        self._cuts = 0
        for parameter in network.encoder.parameters():
            parameter.requires_grad_(False)
        train_embeddings(network.decoder, plan.recipe.embeddings_trained)
        self.encoder_trained = self.choose_encoder_part()
        # What is not trained is the same in both, so the mean holds no copy of it.
        fixed = [p for p in network.parameters() if not p.requires_grad]
        self.average = copy.deepcopy(network, {id(p): p for p in fixed}).requires_grad_(False).eval()

    def choose_encoder_part(self) -> list[nn.Parameter]:
        """The parameters of the encoder that learn in this stage, set to require gradients."""
        return []

    def train(self, mode: bool = True) -> CaptioningModule:
        """BatchNorm keeps ImageNet's statistics: batches here are too small and too alike for new ones."""
        super().train(mode)
        self.average.eval()
        for module in self.network.encoder.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def configure_optimizers(self) -> Any:
        recipe = self.recipe
        groups = [
            {
                "params": [p for p in self.network.decoder.parameters() if p.requires_grad],
                "lr": self.plan.learning_rate,
            }
        ]
        if self.encoder_trained:
            groups.append({"params": self.encoder_trained, "lr": recipe.encoder_learning_rate})
        fp16 = self.trainer.precision == "16-mixed"
        optimizer = build_optimizer(
            recipe.optimizer, groups, recipe.weight_decay, device=self.device, scaled=fp16
        )
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        warm = max(1, int(recipe.warmup * steps))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self._rate(step, warm, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def features(self, batch: CaptionBatch) -> Tensor:
        """What the decoder trains on, of a batch."""
        return batch.pictures.to(self.dtype)

    def plain_features(self, batch: CaptionBatch) -> Tensor:
        """What the running mean's decoder captions in validation."""
        return batch.pictures.to(self.dtype)

    def on_train_batch_start(self, batch: CaptionBatch, batch_idx: int) -> None:
        """What is random in a step depends on nothing that came before: a resumed run goes on alike."""
        place = [self.recipe.seed, self.current_epoch, batch_idx, self.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))

    def training_step(self, batch: CaptionBatch, batch_idx: int) -> Tensor:
        loss, figures, count = self.loss(self.features(batch), batch)
        self._trained.add(figures, count)
        self.of_step = figures
        return loss

    def so_far(self) -> dict[str, float]:
        """The means over the epoch's steps by now, of this process."""
        return self._trained.here()

    def _log(self, when: str, figures: Figures) -> None:
        for name, value in figures.means().items():
            self.log(f"{when}_{name}", value)

    def loss(self, features: Tensor, batch: CaptionBatch) -> tuple[Tensor, dict[str, Tensor], int]:
        """What to minimise, what to log, and of how many (words, captions) that is the mean."""
        return self._teacher_forcing(self.network, features, batch, mean_of_all)

    def _teacher_forcing(
        self, network: CaptionNetwork, features: Tensor, batch: CaptionBatch, mean: Mean
    ) -> tuple[Tensor, dict[str, Tensor], int]:
        forced = network.decoder(features, batch.captions, batch.lengths)
        loss, figures = caption_loss(
            forced,
            batch.lengths,
            label_smoothing=self.recipe.label_smoothing,
            attention_regularisation=self.recipe.attention_regularisation,
            mean=mean,
        )
        return loss, figures, len(forced.targets)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.updates += 1
        decay = min(self.recipe.average_decay, (1 + self.updates) / (10 + self.updates))
        pairs = zip(self.average.parameters(), self.network.parameters(), strict=True)
        moving = [(mean, now) for mean, now in pairs if now.requires_grad]
        with torch.no_grad():
            torch._foreach_lerp_([mean for mean, _ in moving], [now for _, now in moving], 1 - decay)

    def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        """Clip whatever the optimiser: Lightning refuses fused ones in any mixed precision, though only a
        gradient scaler, with which none is fused here, is at odds with them.
        """
        trained = (parameter for group in optimizer.param_groups for parameter in group["params"])
        torch.nn.utils.clip_grad_norm_(trained, self.recipe.clip_norm)

    @property
    def finished(self) -> CaptionNetwork:
        """The network that is validated and saved."""
        return self.average

    def on_validation_epoch_start(self) -> None:
        self._said, self._sure, self.samples, self._validated = {}, [], [], Figures()

    def validation_step(self, batch: CaptionBatch, batch_idx: int) -> None:
        """Caption as the finished model will; teacher-forced loss beside it."""
        features = self.plain_features(batch)
        _, figures, words = self._teacher_forcing(self.finished, features, batch, mean_here)
        self._validated.add(figures, words)
        found = beam_search(self.finished.decoder, features, self.search)
        self._keep(found, batch.index.tolist(), features.shape[1], features.shape[2])

    @property
    def search(self) -> Search:
        """How validation decodes."""
        words = self.plan.vocabulary
        return Search(
            start=words.start,
            end=words.end,
            forbidden=(words.pad, words.start, words.unknown),
            beam_size=self.recipe.validation_beam,
            max_length=self.recipe.max_length,
            length_penalty=self.recipe.length_penalty,
        )

    def _keep(self, found: Hypotheses, indices: list[int], rows: int, columns: int) -> None:
        log_probs = found.log_probs.tolist()
        said = zip(indices, found.words.tolist(), found.lengths.tolist(), log_probs, strict=True)
        for place, (index, words, length, log_prob) in enumerate(said):
            text = self.plan.vocabulary.decode(words[:length])
            self._said[str(index)] = " ".join(text)
            self._sure.append(confidence(log_prob, length))
            if len(self.samples) < self.recipe.sample_captions:
                seen = length if self.finished.decoder.attends else 0
                maps = found.attention[place, :seen].reshape(seen, rows, columns)
                self.samples.append(Sample(index, tuple(text), maps.float().cpu().numpy()))

    def on_validation_epoch_end(self) -> None:
        said = {index: text for part in gather(self._said) for index, text in part.items()}
        value = cider(said, self.references)
        sure = [one for part in gather(self._sure) for one in part]
        self._unsure_below = round(float(np.quantile(sure, UNSURE)), 3)
        self._log("train", self._trained)
        self._log("val", self._validated)
        self.log("val_cider", value)
        self._trained = Figures()
        self._cut_if_needed(value)
        if value >= self.best:  # of two alike the later one: it has seen more
            self.best = value
            self._save(self.plan.best, value)
        self._save(self.plan.last, value)
        if self.recipe.save_every and (self.current_epoch + 1) % self.recipe.save_every == 0:
            self._save(self.plan.kept(self.current_epoch + 1), value)

    def _cut_if_needed(self, value: float) -> None:
        self._since_best = 0 if value > self.best else self._since_best + 1
        if self.recipe.cut_patience and self._since_best == self.recipe.cut_patience:
            self._since_best = 0
            self._cuts += 1
            log.info("validation CIDEr has not risen: the learning rate is cut by %g", self.recipe.cut_factor)

    def _rate(self, step: int, warm: int, steps: int) -> float:
        falling = rate_at(self.recipe.rate_schedule, step, warm, steps)
        return float(falling * self.recipe.cut_factor**self._cuts)

    def _save(self, directory: Path, val_cider: float) -> None:
        """Write the running mean as a checkpoint, once."""
        if not self.trainer.is_global_zero:
            return
        trained = {
            **self.plan.trained,
            f"{self.plan.stage}_epoch": self.current_epoch + 1,
            "val_cider": val_cider,
        }
        config = replace(self.plan.config, training=trained, unsure_below=self._unsure_below)
        save_network(directory, config, self.plan.vocabulary, self.finished)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        progress: Any = self.trainer.fit_loop.epoch_loop.batch_progress.current
        done = progress.processed
        over = done >= self.trainer.num_training_batches
        checkpoint["gpucapt"] = {
            "best": self.best,
            "updates": self.updates,
            "since_best": self._since_best,
            "cuts": self._cuts,
            "next": [self.current_epoch + over, 0 if over else done],
            "trained": gather(self._trained.to_json()),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        kept = checkpoint["gpucapt"]
        self.best, self.updates = kept["best"], kept["updates"]
        self._since_best, self._cuts = kept["since_best"], kept["cuts"]
        epoch, batches = kept["next"]
        self.go_on(epoch, batches)
        if batches and len(kept["trained"]) == self.trainer.world_size:
            self._trained = Figures.from_json(kept["trained"][self.global_rank])


class Finetuning(CaptioningModule):
    """Teacher forcing on pictures, cropped and mirrored at random; the encoder learns as well."""

    def choose_encoder_part(self) -> list[nn.Parameter]:
        return train_part(self.network.encoder, self.recipe.encoder_trained)

    def features(self, batch: CaptionBatch) -> Tensor:
        features: Tensor = self.network.encoder(augment(batch.pictures))
        return features

    def plain_features(self, batch: CaptionBatch) -> Tensor:
        features: Tensor = self.average.encoder(batch.pictures)
        return features


class SelfCritical(CaptioningModule):
    """Captions drawn from the decoder learn from what they earn (model/training/self_critical.py)."""

    def __init__(
        self,
        plan: StagePlan,
        network: CaptionNetwork,
        references: Mapping[str, Sequence[str]],
        reward: CiderD,
        go_on: BeforeGoingOn = lambda epoch, batches: None,
    ) -> None:
        super().__init__(plan, network, references, go_on)
        self.reward = reward
        for module in network.decoder.modules():
            if isinstance(module, nn.Dropout):
                module.p = plan.recipe.self_critical_dropout
            elif isinstance(module, nn.LSTM):
                module.dropout = plan.recipe.self_critical_dropout
        fixed = {id(p): p for p in network.encoder.parameters()}
        self.begun, self.between = (copy.deepcopy(self.average, dict(fixed)) for _ in range(2))

    @property
    def finished(self) -> CaptionNetwork:
        """Rewards narrow what a decoder says to what earned them on the training pictures. Weights between
        those that only imitated and the rewarded ones caption unseen pictures better than either (Wortsman
        et al. 2022, "Robust fine-tuning of zero-shot models").
        """
        return self.between

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        decoders = (network.decoder.parameters() for network in (self.between, self.begun, self.average))
        for between, begun, now in zip(*decoders, strict=True):
            torch.lerp(begun, now, self.recipe.self_critical_share, out=between)

    def loss(self, features: Tensor, batch: CaptionBatch) -> tuple[Tensor, dict[str, Tensor], int]:
        words = self.plan.vocabulary
        forbidden = (words.pad, words.start, words.unknown)
        decoder = self.network.decoder
        training = decoder.training
        decoder.eval()
        drawn, lengths = draw_captions(
            decoder,
            features,
            count=self.recipe.self_critical_samples,
            start=words.start,
            end=words.end,
            forbidden=forbidden,
            # Longer than the longest of the batch's own captions earns nothing, and takes all the time.
            longest=min(self.recipe.max_length, batch.captions.shape[2]),
        )
        decoder.train(training)
        rewards = score_drawn(self.reward, batch.index, drawn, lengths)
        forced = decoder(features, drawn, lengths)
        loss = mean_of_all(policy_loss(forced, rewards, forbidden), len(forced.targets))
        return loss, {"reward": rewards.mean()}, rewards.numel()
