"""Training the decoder on stored features against a training step as earlier captioners take it."""

from __future__ import annotations

import shutil
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.captioner import CaptionNetwork, build_network
from model.training.epoch_log import Listeners, read_rows
from model.training.lightning_modules import StagePlan
from model.training.recipe import Recipe
from model.training.run_stage import run_stage
from pipeline.datasets.captioned_pictures import (
    CaptionedPictures,
    read_manifest,
    read_wordmap,
    store_features,
)
from pipeline.training.dataloaders import load_data
from pipeline.training.run import plan_stages
from tests.benchmarks import plain_training
from tests.benchmarks.measuring import Contender, in_turns
from tests.benchmarks.results import Goal, Row
from tests.pipeline.written_dataset import write_dataset

CAPTIONS = 5  # of a picture


@dataclass(frozen=True, slots=True)
class Amounts:
    """Batches of `pictures` pictures, `steps` of them; the grid, the words and the decoder's sizes of the
    captioner that most earlier ones grew from, unless a test wants less."""

    pictures: int = 6
    steps: int = 4
    grid: int = 14
    words: int = 9490
    size: int = 512
    image_size: int = 256
    rounds: int = 3


def measure(amounts: Amounts, scratch: Path) -> list[Row]:
    """How many captions a second, and what of a step is waiting for data."""
    # As many words as captions of COCO have.
    data = write_dataset(
        scratch / "data",
        pictures=amounts.pictures * amounts.steps,
        validation=1,
        size=amounts.image_size,
        words=amounts.words - 4,
        captions=CAPTIONS,
    )
    recipe = _recipe(amounts)
    config, vocabulary = _plan(scratch / "run", recipe, data).config, read_wordmap(data)
    torch.manual_seed(0)
    network = build_network(config, vocabulary)
    _store(data, scratch / "run" / ".training", network, amounts)
    captions = amounts.pictures * CAPTIONS * amounts.steps
    waits: list[float] = []

    def ours() -> float:
        shutil.rmtree(scratch / "run" / ".training" / "decoder", ignore_errors=True)
        plan = _plan(scratch / "run", recipe, data)
        source = load_data(data, recipe, scratch / "run" / ".training")
        run_stage(plan, network, source, Listeners(), resume=False)
        [row] = read_rows(plan.metrics)
        waits.append(float(row["data_s"]) / float(row["batch_s"]))
        return float(row["batch_s"]) * amounts.steps

    stored = scratch / "run" / ".training" / "features-train.hdf5"
    contenders = [
        Contender("ours", captions, ours),
        Contender("plain", captions, lambda: _train_plainly(network, data, None, amounts)),
        Contender("plain decoder", captions, lambda: _train_plainly(network, data, stored, amounts)),
    ]
    rates = in_turns(contenders, amounts.rounds)
    whole, decoder = rates.ratios("ours", "plain"), rates.ratios("ours", "plain decoder")
    figures = {
        "captions_a_s": rates.median("ours"),
        "plain_captions_a_s": rates.median("plain"),
        "plain_decoder_captions_a_s": rates.median("plain decoder"),
        "captions_a_step": amounts.pictures * CAPTIONS,
        "cells": amounts.grid**2,
        "words": amounts.words,
    }
    return [
        Row(
            "train/times plain step",
            "training on stored features, in steps of earlier captioners, which encode pictures each time",
            statistics.median(whole),
            Goal("least", 3.0),
            whole,
            figures,
        ),
        Row(
            "train/times plain decoder",
            "the same, were their features stored, too",
            statistics.median(decoder),
            samples=decoder,
        ),
        Row(
            "train/data wait",
            "share of a training step that is waiting for data",
            statistics.median(waits),
            Goal("most", 0.05),
            waits,
        ),
    ]


def _recipe(amounts: Amounts) -> Recipe:
    return Recipe.from_dict(
        {
            "encoder": "resnet50",
            "encoder_weights": None,
            "grid": amounts.grid,
            **dict.fromkeys(("embedding_size", "hidden_size", "attention_size"), amounts.size),
            "epochs": 1,
            "finetune_epochs": 0,
            "batch_size": amounts.pictures,
            "validation_beam": 1,
            "max_length": 20,
            "sample_captions": 0,
            "precision": "fp32",
            "device": "cpu",
        }
    )


def _plan(out: Path, recipe: Recipe, data: Path) -> StagePlan:
    out.mkdir(parents=True, exist_ok=True)
    return plan_stages(out, recipe, read_wordmap(data), read_manifest(data))[0]


def _store(data: Path, folder: Path, network: CaptionNetwork, amounts: Amounts) -> None:
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        store_features(
            lambda pictures, first: generator.random(
                (len(pictures), 1, amounts.grid, amounts.grid, network.encoder.channels), np.float32
            ).astype(np.float16),
            CaptionedPictures(data, split),
            folder / f"features-{split}.hdf5",
            made_by="the benchmark",
        )


def _train_plainly(network: CaptionNetwork, data: Path, stored: Path | None, amounts: Amounts) -> None:
    """An item of their datasets is a caption with its picture, which is encoded without being trained."""
    decoder: Any = network.decoder
    decoder.train()
    network.encoder.eval()
    optimizer = torch.optim.Adam(decoder.parameters(), lr=4e-4)
    pictures = CaptionedPictures(data, "train", features=stored)
    for first in range(0, amounts.pictures * amounts.steps, amounts.pictures):
        batch = pictures.batch(range(first, first + amounts.pictures))
        seen = torch.from_numpy(batch["pictures"]).repeat_interleave(CAPTIONS, dim=0)
        if stored is None:
            with torch.no_grad():
                seen = network.encoder(seen)
        captions = torch.from_numpy(batch["captions"]).flatten(0, 1)
        lengths = torch.from_numpy(batch["lengths"]).flatten()
        plain_training.step(decoder, optimizer, seen.float(), captions, lengths)
