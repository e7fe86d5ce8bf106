"""From captions in Hindi and Chinese to a model that says them: no word is torn, no sentence is one word."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from model import metrics
from model.metrics import score_captions
from model.words import join, tokenize
from pipeline.evaluation.evaluate import Evaluating, evaluate
from pipeline.models.resolve import resolve_model
from tests.model.tiny import WORDS, make_tiny_checkpoint
from tests.pipeline.jobs import caption, command, rows, run, write_still

pytest.importorskip("lightning")
pytest.importorskip("pycocoevalcap")

pytestmark = pytest.mark.slow

SAID = {
    "hi": ("एक कुत्ता समुद्र तट पर दौड़ रहा है", "भूरी बिल्ली रेत में सोती है"),
    "zh": ("一只狗在海滩上奔跑", "棕色的猫穿T恤睡觉"),
}
RECIPE = """
name: scripts
encoder: shufflenet_v2_x0_5
encoder_weights: null
embedding_size: 16
hidden_size: 64
attention_size: 16
feature_size: 24
dropout: 0.0
epochs: 12
patience: 12
cut_patience: 0
finetune_epochs: 0
feature_views: 1
batch_size: 4
learning_rate: 0.02
label_smoothing: 0.0
average_decay: 0.5
max_length: 16
validation_beam: 1
precision: fp32
"""


@pytest.fixture(scope="module", params=SAID)
def road(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `captions.csv`, `pictures`, `data` (preprocessed) and `trained`, in one language."""
    folder = tmp_path_factory.mktemp(request.param)
    with (folder / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "caption", "split"])
        for number in range(16):
            name = write_still(folder / "pictures" / f"{number:02}.png", number).name
            split = {14: "val", 15: "val", 12: "test", 13: "test"}.get(number, "train")
            table.writerows([name, f"{text}。", split] for text in SAID[request.param])
    (folder / "recipe.yaml").write_text(RECIPE)
    gpucapt("preprocess", folder / "captions.csv", folder / "pictures", folder / "data", *PREPROCESSING)
    gpucapt("train", folder / "data", folder / "trained", "--recipe", folder / "recipe.yaml")
    return folder


PREPROCESSING = ("--min-word-freq=1", "--image-size=64", "--captions-per-image=2", "--workers=1")


def gpucapt(*arguments: str | Path) -> str:
    """What a command that succeeds says on its standard error."""
    done = run(command(*arguments))
    assert done.returncode == 0, done.stderr
    return done.stderr


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def language(road: Path) -> str:
    return "zh" if road.name.startswith("zh") else "hi"


@pytest.fixture(scope="module")
def captioned(road: Path) -> Path:
    """What `gpucapt caption` with the trained model leaves for the pictures."""
    assert caption(road / "pictures", road / "out", road / "trained" / "checkpoint") == 0
    return road / "out" / "pictures"


def test_the_model_says_whole_words_and_writes_them_as_people_do(road: Path, captioned: Path) -> None:
    found = rows(road / "out", "pictures")
    assert len(found) == 16
    for row in found:
        assert row["words"] == tokenize(row["caption"])
        # It has learned them by heart; the job of these tests ends captions after eight words.
        assert row["caption"] in {join(tokenize(text)[:8]) for text in SAID[language(road)]}


def test_stories_and_pages_write_it_so_too(road: Path, captioned: Path) -> None:
    texts = {row["caption"] for row in rows(road / "out", "pictures")}
    story, told = (captioned / "story.md").read_text(encoding="utf-8"), read(captioned / "story.json")
    assert all(text in story for text in texts)
    kept = {one["caption"] for scene in told["material"]["scenes"] for one in scene["captions"]}
    assert kept == texts
    page = (road / "data" / "dataset.html").read_text(encoding="utf-8")
    assert all(join(tokenize(text)) in page for text in SAID[language(road)])


def test_scores_are_of_the_same_words_and_meteor_is_left_out(road: Path) -> None:
    told = gpucapt("evaluate", road / "trained" / "checkpoint", road / "data", "--out", road / "scores")
    assert "METEOR is left out: it knows English" in told
    scores = read(road / "scores" / "scores.json")["scores"]
    assert set(scores) == {*(f"BLEU-{n}" for n in range(1, 5)), "ROUGE-L", "CIDEr"}
    assert scores["BLEU-4"] == scores["ROUGE-L"] == 1.0
    lines = (road / "scores" / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    for row in map(json.loads, lines):
        assert row["references"] == [join(tokenize(text)) for text in SAID[language(road)]]
        assert row["caption"] in row["references"]


def test_dataset_and_checkpoint_say_how_words_were_made(road: Path) -> None:
    assert read(road / "data" / "dataset.json")["settings"]["tokenizer"] == "auto"
    assert read(road / "trained" / "checkpoint" / "config.json")["training"]["tokenizer"] == "auto"


def test_words_and_characters_are_compared_where_they_can_be(
    road: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if language(road) != "zh":
        pytest.skip("there words are words with either tokenizer")
    monkeypatch.setattr(metrics, "has_java", lambda: False)
    model = make_tiny_checkpoint(tmp_path / "words")
    vocabulary = (model / "vocabulary.json").read_text(encoding="utf-8")
    for number, word in enumerate(WORDS):
        vocabulary = vocabulary.replace(f'"{word}"', f'"狗{chr(0x4E00 + number)}"')
    (model / "vocabulary.json").write_text(vocabulary, encoding="utf-8")
    how = Evaluating(beam_size=2, max_length=8, device="cpu", precision="fp32")
    # A model of words, references of characters: its words become characters.
    evaluate(resolve_model(str(model)), str(road / "data"), how, str(tmp_path / "scores"))
    lines = (tmp_path / "scores" / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    found = {str(number): json.loads(line) for number, line in enumerate(lines)}
    scores = score_captions(
        {name: " ".join(row["caption"]) for name, row in found.items()},
        {name: [" ".join(tokenize(text)) for text in row["references"]] for name, row in found.items()},
    )
    assert all(len(row["caption"]) > 2 and " " not in row["caption"] for row in found.values())
    assert read(tmp_path / "scores" / "scores.json")["scores"] == {
        name: round(value, 4) for name, value in scores.corpus.items()
    }
    assert "the model says" not in caplog.text
    # A model of characters, references of words: that is said.
    words = Path(shutil.copytree(road / "data", tmp_path / "data"))
    told = read(words / "dataset.json")
    told["settings"]["tokenizer"] = "words"
    (words / "dataset.json").write_text(json.dumps(told))
    evaluate(resolve_model(str(road / "trained" / "checkpoint")), str(words), how)
    assert "the model says characters where the references" in caplog.text
