from __future__ import annotations

import logging
from pathlib import Path

import pytest

from model import metrics
from model.metrics import score_captions

pytest.importorskip("pycocoevalcap")

REFERENCES = {
    "1": ["a dog runs on the grass", "the dog is running over a lawn"],
    "2": ["two children play in the water", "children splash in a pool"],
    "3": ["a man rides a red bicycle", "a cyclist on a street"],
}


def test_a_caption_that_is_a_reference_scores_best() -> None:
    right = score_captions({name: texts[0] for name, texts in REFERENCES.items()}, REFERENCES, meteor=False)
    wrong = score_captions(dict.fromkeys(REFERENCES, "a cat sleeps"), REFERENCES, meteor=False)
    assert right.corpus["BLEU-4"] == pytest.approx(1.0, abs=1e-6)
    assert right.corpus["ROUGE-L"] == pytest.approx(1.0)
    assert right.corpus["CIDEr"] > wrong.corpus["CIDEr"]
    assert right.pictures["2"]["CIDEr"] > wrong.pictures["2"]["CIDEr"]


def test_the_numbers_are_pycocoevalcaps_own() -> None:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider

    said = {"1": "a dog runs", "2": "children in the water", "3": "a man on a bicycle"}
    ours = score_captions(said, REFERENCES, meteor=False).corpus
    theirs = {name: [text] for name, text in said.items()}
    bleu, _ = Bleu(4).compute_score(REFERENCES, theirs, verbose=0)
    assert [ours[f"BLEU-{n}"] for n in range(1, 5)] == bleu
    assert ours["CIDEr"] == Cider().compute_score(REFERENCES, theirs)[0]
    assert metrics.cider(said, REFERENCES) == ours["CIDEr"]


@pytest.mark.needs("java")
@pytest.mark.slow
def test_meteor_is_counted_where_java_is_whatever_language_it_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Java of somebody who writes 0,5 for 0.5 cannot be read, nor does it read what it is given."""
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Duser.language=de -Duser.country=DE")
    scores = score_captions({name: texts[0] for name, texts in REFERENCES.items()}, REFERENCES)
    assert scores.corpus["METEOR"] == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("there", [True, False], ids=["a shim that fails", "none"])
def test_without_java_meteor_is_said_to_be_left_out(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if there:
        (tmp_path / "java").write_text("#!/bin/sh\nexit 127\n")
        (tmp_path / "java").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        scores = score_captions({"1": "a dog"}, REFERENCES)
    assert "METEOR" not in scores.corpus
    assert "METEOR is left out" in caplog.text
