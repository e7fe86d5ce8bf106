"""Training that is stopped in the middle of an epoch, and what goes on from there."""

from __future__ import annotations

import csv
import logging
import math
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lightning")

from torch.utils.data import DataLoader

from model.beam_search import Search, beam_search
from model.captioner import CheckpointConfig, SearchDefaults, build_network, load_network
from model.checkpoint import read_tensors
from model.confidence import confidence
from model.preprocessing import Preparation
from model.training.epoch_log import Listeners, read_rows
from model.training.lightning_modules import CaptionBatch, Stage, StagePlan
from model.training.recipe import Recipe
from model.training.run_stage import Data, run_stage
from model.training.stop_on_signal import StoppedBySignal
from model.vocabulary import END, PAD, START, UNKNOWN, Vocabulary
from pipeline.datasets.batch_sampler import EpochBatches, Pick
from tests.model.tiny import WORDS

pytestmark = pytest.mark.slow

PICTURES = 18
RECIPE = Recipe.from_dict(
    {
        "encoder": "shufflenet_v2_x0_5",
        "encoder_weights": None,
        "embedding_size": 8,
        "hidden_size": 16,
        "attention": "dot",
        "attention_size": 8,
        "feature_size": 16,
        "dropout": 0.3,
        "batch_size": 4,
        "learning_rate": 0.01,
        "self_critical_learning_rate": 0.01,
        "self_critical_dropout": 0.3,
        "average_decay": 0.8,
        "max_length": 6,
        "patience": 9,
        "precision": "fp32",
        "device": "cpu",
    }
)
VOCABULARY = Vocabulary((PAD, *WORDS, UNKNOWN, START, END))


class Interrupting(EpochBatches):
    """Sends this process a signal when it is asked for a certain batch."""

    at: tuple[int, int] | None = None

    def __iter__(self) -> Iterator[list[Pick]]:
        for number, batch in enumerate(super().__iter__()):
            if (self.epoch, number) == self.at:
                os.kill(os.getpid(), signal.SIGINT)
            yield batch


class Features:
    """Random features, with captions of words that go with them."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        self.features = torch.rand(PICTURES, 2, 2, 1024, generator=generator).half()
        words = torch.randint(1, len(WORDS), (PICTURES, 3, 5), generator=generator)
        words[:, :, 0], words[:, :, 4] = VOCABULARY.start, VOCABULARY.end
        self.captions = words
        said = [[" ".join(VOCABULARY.decode(row[1:])) for row in rows] for rows in words.tolist()]
        self.references = {str(index): texts for index, texts in enumerate(said)}

    def __getitems__(self, picks: list[Pick]) -> CaptionBatch:
        index = torch.tensor([position for position, _ in picks])
        lengths = torch.full((len(picks), 3), 4)
        return CaptionBatch(self.features[index], self.captions[index], lengths, index)

    def __getitem__(self, index: int) -> Any: ...


def run(
    out: Path,
    stage: Stage,
    *,
    at: tuple[int, int] | None = None,
    resume: bool = False,
    epochs: int = 3,
    recipe: Recipe = RECIPE,
) -> list[dict[str, str]]:
    """Epochs of five steps; a signal before the batch `at` (epoch, number), each from 0."""
    out.mkdir(exist_ok=True)
    config = CheckpointConfig(
        "stopped",
        {"name": RECIPE.encoder, "grid": None},
        {"name": RECIPE.decoder, "options": RECIPE.decoder_options()},
        Preparation(64),
        SearchDefaults(),
        {},
    )
    plan = StagePlan(stage, recipe, epochs, out, config, VOCABULARY)
    torch.manual_seed(0)
    network = build_network(config, VOCABULARY)
    source: Any = Features()
    order = Interrupting(PICTURES, RECIPE.batch_size, seed=0, shuffle=True)
    order.at = at
    plain = EpochBatches(PICTURES, RECIPE.batch_size, seed=0, shuffle=False)

    def load(batches: EpochBatches) -> DataLoader[CaptionBatch]:
        return DataLoader(source, batch_sampler=batches, collate_fn=lambda batch: batch)

    data = Data(load(order), load(plain), source.references, source.references)
    run_stage(plan, network, data, Listeners(), resume=resume)
    return figures(plan.metrics)


def figures(metrics: Path) -> list[dict[str, str]]:
    times = ("seconds", "batch_s", "data_s")
    return [{name: value for name, value in row.items() if name not in times} for row in read_rows(metrics)]


@pytest.mark.parametrize("stage", ["decoder", "self_critical"])
def test_a_stage_goes_on_from_the_step_it_was_stopped_at(tmp_path: Path, stage: Stage) -> None:
    whole = run(tmp_path / "whole", stage)
    assert len(whole) == 3
    assert len({row["val_loss"] for row in whole}) == 3
    for at, epochs in (((1, 2), 1), ((2, 4), 3)):
        out = tmp_path / f"stopped {at}"
        with pytest.raises(StoppedBySignal, match="SIGINT"):
            run(out, stage, at=at)
        assert figures(out / "metrics.csv") == whole[:epochs]
        assert run(out, stage, resume=True) == whole


def test_rewarded_weights_are_saved_a_share_of_the_way_from_where_they_began(tmp_path: Path) -> None:
    saved = {}
    for share in (0.25, 0.5, 1.0):
        run(tmp_path / str(share), "self_critical", recipe=replace(RECIPE, self_critical_share=share))
        saved[share] = read_tensors(tmp_path / str(share) / "last")
    moved = 0
    for name, half in saved[0.5].items():
        quarter, whole = saved[0.25][name].float(), saved[1.0][name].float()
        assert torch.allclose((whole + quarter * 2) / 3, half.float(), atol=1e-3), name
        moved += not torch.equal(quarter, whole)
    assert moved > 10


def test_a_checkpoint_says_of_which_captions_it_is_unsure(tmp_path: Path) -> None:
    run(tmp_path, "decoder")
    config, _, network = load_network(tmp_path / "last")
    forbidden = (VOCABULARY.pad, VOCABULARY.start, VOCABULARY.unknown)
    search = Search(
        VOCABULARY.start, VOCABULARY.end, forbidden, beam_size=3, max_length=6, length_penalty=0.7
    )
    found = beam_search(network.decoder, Features().features.float(), search)
    sure = [confidence(*one) for one in zip(found.log_probs.tolist(), found.lengths.tolist(), strict=True)]
    assert sum(one < config.unsure_below for one in sure) == PICTURES // 6


def steps(out: Path) -> list[dict[str, str]]:
    with (out / "steps.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_steps_are_written_down_once_each_also_by_a_run_that_was_stopped(tmp_path: Path) -> None:
    recipe = replace(RECIPE, log_every=2)
    run(tmp_path / "whole", "decoder", recipe=recipe)
    whole = steps(tmp_path / "whole")
    assert [(row["epoch"], row["step"]) for row in whole] == [(e, s) for e in "123" for s in "24"]
    for row in whole:
        assert float(row["perplexity"]) == pytest.approx(math.exp(float(row["loss"])), rel=1e-4)
        assert 0 <= float(row["top5"]) <= 1 and float(row["learning_rate"]) > 0 and not row["reward"]
    out = tmp_path / "stopped"
    with pytest.raises(StoppedBySignal):
        run(out, "decoder", at=(1, 3), recipe=recipe)
    with (out / "steps.csv").open("a") as file:
        file.write("decoder,3,2,1.0\ndecoder,3,")  # of a process that went on, and was killed
    run(out, "decoder", resume=True, recipe=recipe)
    assert steps(out) == whole


def test_a_long_epoch_tells_how_it_goes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.training.epoch_log._LINE_EVERY_S", 0.0)
    with caplog.at_level(logging.INFO):
        run(tmp_path, "decoder", epochs=1)
    lines = [line for line in caplog.messages if line.startswith("epoch 1/1: batch 3/5, ")]
    assert len(lines) == 1
    told = re.search(r"waiting for data, loss (\S+), perplexity (\S+), top5 (\S+)$", lines[0])
    assert told and float(told[2]) == pytest.approx(math.exp(float(told[1])), rel=1e-3)


def test_stopping_does_not_lose_the_signal_handlers_that_were_there(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(StoppedBySignal):
        run(tmp_path, "decoder", at=(0, 1))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_without_a_better_score_the_learning_rate_is_cut_and_then_the_stage_ends(tmp_path: Path) -> None:
    constant = replace(RECIPE, learning_rate=1e-9, rate_schedule="constant", warmup=0.0)
    rows = run(tmp_path, "decoder", epochs=50, recipe=replace(constant, patience=4, cut_patience=2))
    assert len({row["val_cider"] for row in rows}) == 1
    rates = [float(row["learning_rate"]) for row in rows]
    assert rates == pytest.approx([1e-9, 1e-9, 1e-9, 0.5e-9, 0.5e-9])


def test_the_learning_rate_rises_first_and_falls_then(tmp_path: Path) -> None:
    rates = {}
    for schedule in ("constant", "linear", "cosine"):
        recipe = replace(RECIPE, rate_schedule=schedule, warmup=0.5, cut_patience=0)
        rows = run(tmp_path / schedule, "decoder", epochs=6, recipe=recipe)
        rates[schedule] = [float(row["learning_rate"]) / RECIPE.learning_rate for row in rows]
    for of in rates.values():
        assert of[:2] == pytest.approx([6 / 15, 11 / 15])
    assert rates["constant"][2:] == [1, 1, 1, 1]
    assert rates["linear"][3] > rates["linear"][4] > rates["linear"][5] == pytest.approx(0.05)
    assert rates["cosine"][3] > rates["cosine"][4] > rates["cosine"][5] == pytest.approx(0.05)


def test_mixed_precision_learns_as_single_precision_does(tmp_path: Path) -> None:
    losses = {}
    for precision in ("fp32", "bf16"):
        rows = run(tmp_path / precision, "decoder", recipe=replace(RECIPE, precision=precision, dropout=0.0))
        losses[precision] = [float(row["val_loss"]) for row in rows]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.01)
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"][2] < losses["bf16"][0]


def test_gradients_longer_than_the_limit_are_shortened(tmp_path: Path) -> None:
    unclipped = run(tmp_path / "unclipped", "decoder", recipe=replace(RECIPE, clip_norm=1e9))
    clipped = run(tmp_path / "clipped", "decoder", recipe=replace(RECIPE, clip_norm=1e-12))
    assert float(unclipped[2]["val_loss"]) < float(clipped[2]["val_loss"]) - 0.05
