"""The benchmark runs, compares what it says it compares, and writes what it promises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from model.captioner import load_captioner, load_network
from model.decoders.attention_lstm import AttentionLSTM
from model.training.loss import caption_loss
from pipeline.media.images import decode_still
from tests.benchmarks import __main__ as benchmarks
from tests.benchmarks import (
    captioning,
    growth,
    machine,
    measuring,
    plain_loop,
    plain_training,
    reading,
    remote,
    results,
    serving,
    training,
)
from tests.benchmarks.samples import random_checkpoint, write_photographs
from tests.model.tiny import make_tiny_checkpoint

pytestmark = pytest.mark.slow

SIZES = benchmarks.Sizes(
    captioning.Amounts({"fp32": 2, "bf16": 1}, plain=3, batch_size=2, rounds=1),
    captioning.Amounts({"fp32": 1, "bf16": 1}, plain=1, batch_size=1, rounds=1),
    reading.FilmAmounts(seconds=2, rounds=1),
    reading.PictureAmounts(4, rounds=2),
    growth.Amounts(frames=2, stills=2, rounds=1),
    remote.Amounts(4, batch_size=2, rounds=1),
    remote.Amounts(1, rounds=1),
    remote.KeyAmounts(1500),
    remote.StartAmounts(rounds=1),
    training.Amounts(pictures=2, steps=2, grid=2, words=40, size=8, image_size=64, rounds=1),
    serving.Amounts(pictures=20, single=2, requests=20, rounds=1),
)


@pytest.mark.slow
@pytest.mark.parametrize("decoder", [{}, {"attention": "dot", "feature_size": 24}])
def test_the_plain_loop_says_what_the_batched_search_says(
    tmp_path: Path, decoder: dict[str, int | str]
) -> None:
    checkpoint = random_checkpoint(tmp_path / "model", "mobilenet_v2", words=60, options=decoder, size=64)
    config, vocabulary, network = load_network(checkpoint)
    captioner = load_captioner(checkpoint, device="cpu", precision="fp32")
    paths = write_photographs(tmp_path / "stills", 6)
    pictures = [captioner.prepare(decode_still(path.read_bytes(), path.name)) for path in paths]
    for beam, limit in ((1, 40), (5, 40), (5, 4)):
        batched = [c.text for c in captioner.caption(pictures, beam_size=beam, max_length=limit)]
        plain = [
            plain_loop.caption_file(path, config, vocabulary, network, beam_size=beam, max_length=limit)
            for path in paths
        ]
        assert plain == batched


@pytest.mark.parametrize("options", [{}, {"attention_activation": "tanh"}])
def test_the_plain_training_step_finds_the_same_loss(options: dict[str, str]) -> None:
    torch.manual_seed(0)
    sizes = {"embedding_size": 8, "hidden_size": 12, "attention_size": 10}
    decoder = AttentionLSTM(40, 16, **sizes, **options).eval()
    features, lengths = torch.rand(3, 2, 2, 16), torch.randint(2, 9, (3, 5))
    captions = torch.randint(1, 40, (3, 5, 10))
    forced = decoder(features, captions, lengths)
    ours, _ = caption_loss(forced, lengths, label_smoothing=0.0, attention_regularisation=1.0)
    copies = features.repeat_interleave(5, dim=0)
    plain = plain_training.loss(decoder, copies, captions.flatten(0, 1), lengths.flatten())
    torch.testing.assert_close(ours, plain)


@pytest.mark.slow
def test_random_weights_make_captions_of_a_usual_length(tmp_path: Path) -> None:
    checkpoint = random_checkpoint(tmp_path / "model", "mobilenet_v2", words=500, size=64)
    captioner = load_captioner(checkpoint, device="cpu", precision="fp32")
    paths = write_photographs(tmp_path / "stills", 9)
    pictures = [captioner.prepare(decode_still(path.read_bytes(), path.name)) for path in paths]
    captions = captioner.caption(pictures)
    lengths = [len(caption.words) for caption in captions]
    assert 7 <= sum(lengths) / len(lengths) <= 13
    assert len({caption.text for caption in captions}) > len(paths) / 2


@pytest.mark.slow
def test_one_small_run_writes_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = make_tiny_checkpoint(tmp_path / "model")
    monkeypatch.setattr(benchmarks, "bundled_or_like_it", lambda folder: checkpoint)
    monkeypatch.setattr(benchmarks, "quick_sizes", lambda: SIZES)
    out = tmp_path / "bench.json"
    monkeypatch.setattr(benchmarks, "random_checkpoint", lambda folder, encoder, words: checkpoint)
    wanted = (
        "bundled",
        "video",
        "video-baseline",
        "hdf5",
        "growth",
        "s3-bundled",
        "listing",
        "start",
        "train",
        "serve",
    )
    cases = [name for case in wanted for name in ("--only", case)]
    benchmarks.main(["--quick", "--out", str(out), *cases])
    written = json.loads(out.read_text(encoding="utf-8"))
    assert written["format"] == results.FORMAT
    assert written["machine"].keys() == machine.facts().keys()
    rows = {row["name"]: row for row in written["rows"]}
    assert {
        "bundled/fp32/of encoder",
        "bundled/fp32/times plain loop",
        "bundled/bf16/of encoder",
        "bundled/bf16/times plain loop",
        "bundled/fp32/same captions",
        "video/every second",
        "video/every frame",
        "video-baseline/every 1 s",
        "video-baseline/every 10 s",
        "hdf5/of cores",
        "hdf5/times serial",
        "growth/video/time",
        "growth/video/memory",
        "growth/stills/time",
        "growth/stills/memory",
        "s3/bundled/time",
        "listing/memory",
        "train/times plain step",
        "train/times plain decoder",
        "train/data wait",
        "serve/latency",
        "serve/of job",
        "serve/p99",
        "serve/answered",
        "serve/memory",
        "start/bundled/seconds",
        "start/resnext101_32x8d/seconds",
    } <= rows.keys()
    for row in rows.values():
        assert (row["value"] is None) == bool(row["why_not"])
        assert row["value"] is None or row["value"] > 0
    assert rows["bundled/fp32/same captions"]["value"] == 1
    assert len(rows["hdf5/of cores"]["samples"]) == 2


def test_contenders_take_turns_and_are_compared_within_a_round() -> None:
    order: list[str] = []
    times = {"fast": iter([1.0, 2.0]), "slow": iter([2.0, 8.0])}

    def contender(name: str) -> measuring.Contender:
        def run() -> float:
            order.append(name)
            return next(times[name])

        return measuring.Contender(name, 4, run)

    rates = measuring.in_turns([contender("fast"), contender("slow")], 2)
    assert order == ["fast", "slow", "slow", "fast"]
    assert rates.of == {"fast": [4.0, 2.0], "slow": [2.0, 0.5]}
    assert rates.ratios("fast", "slow") == [2.0, 4.0]


def test_a_row_knows_whether_its_goal_is_reached() -> None:
    assert results.Row("a", "", 0.9, results.Goal("least", 0.85)).reached is True
    assert results.Row("a", "", 10.6, results.Goal("most", 10.5)).reached is False
    assert results.Row("a", "", 1.0).reached is None
    assert "left out: no ffmpeg" in results.table([results.skipped("video", "frames", "no ffmpeg")])
