from __future__ import annotations

import logging
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model import metrics
from model.metrics import Scores, score_captions

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


LINE_BREAKS = "\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\u2028\u2029"
ODD = st.text(
    st.one_of(st.sampled_from(f"ab |{LINE_BREAKS}\t\xa0\u3000\0\ud800"), st.characters()), max_size=12
)
PICTURES = st.lists(st.tuples(ODD, st.lists(ODD, min_size=1, max_size=3)), min_size=1, max_size=4)


def clean(text: str) -> str:
    """On one line, without what METEOR's lines are parted by."""
    blank = {"Cc", "Cs", "Zs", "Zl", "Zp"}
    kept = (" " if unicodedata.category(char) in blank else char for char in re.sub(r"\|{3,}", " ", text))
    return " ".join("".join(kept).split())


def scored(pictures: list[tuple[str, list[str]]], *, meteor: bool) -> Scores:
    said = {str(number): text for number, (text, _) in enumerate(pictures)}
    return score_captions(said, {str(n): texts for n, (_, texts) in enumerate(pictures)}, meteor=meteor)


@given(PICTURES)
def test_any_text_has_the_scores_of_its_words(pictures: list[tuple[str, list[str]]]) -> None:
    found = scored(pictures, meteor=False)
    assert list(found.pictures) == [str(number) for number in range(len(pictures))]
    assert found == scored(
        [(clean(said), [clean(text) for text in texts]) for said, texts in pictures], meteor=False
    )


@pytest.mark.needs("java")
@pytest.mark.slow
@settings(max_examples=3, deadline=None)
@given(st.lists(st.tuples(ODD, st.lists(ODD, min_size=1, max_size=3)), min_size=20, max_size=40))
def test_any_text_has_its_own_meteor(pictures: list[tuple[str, list[str]]]) -> None:
    """METEOR reads lines, parted by |||: a caption that ends one would leave the rest to the next."""
    odd = [(said, ["a dog", "a dog", *texts]) for said, texts in pictures]
    plain = [(clean(said), [clean(text) for text in texts]) for said, texts in odd]
    found = scored([*odd, *plain, ("a dog runs", ["a dog runs"])], meteor=True).pictures
    *each, last = [found[str(number)]["METEOR"] for number in range(len(found))]
    assert each[: len(odd)] == each[len(odd) :]
    assert last == pytest.approx(1.0, abs=0.02)


@pytest.mark.needs("java")
@pytest.mark.slow
def test_what_ends_or_parts_lines_shifts_no_score() -> None:
    """Right and wrong captions by turns, the right ones with all that ends lines, or in their references."""
    ends = [*LINE_BREAKS, "\r\n", "|||", " ||| "]
    texts = {f"{number:02}": f"a dog{end}runs" for number, end in enumerate(ends)}
    said = {**texts, **{f"{name}x": "two children play" for name in texts}}
    references = {name: [text, "the lawn"] for name, text in texts.items()}
    references |= {f"{name}x": ["a man rides a bicycle"] for name in texts}
    said |= dict.fromkeys(list(texts)[::2], "a dog runs")
    found = score_captions(said, references).pictures
    for name in texts:
        assert found[name]["METEOR"] == pytest.approx(1.0, abs=0.02)
        assert found[f"{name}x"]["METEOR"] < 0.1
        assert found[name]["BLEU-1"] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("references", "counted"),
    [
        (["एक कुत्ता दौड़ रहा है"], False),
        (["一 只 狗", "一 只 棕 色 的 狗"], False),
        (["собака бежит", "a dog runs", "собака"], False),
        (["un chien court sur l'herbe", "ça c'est l'été"], True),
        (["a dog runs", "a dog named 小 狗"], True),
        (["", "3 4"], True),
    ],
)
def test_meteor_is_counted_of_latin_letters_alone(
    references: list[str], counted: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(metrics, "has_java", lambda: True)
    monkeypatch.setattr(metrics, "_meteor", lambda truth, said: (0.5, [0.5] * len(said)))
    scores = score_captions({"1": references[0]}, {"1": references})
    assert ("METEOR" in scores.corpus) is counted
    assert ("METEOR is left out: it knows English" in caplog.text) is not counted
    assert scores.corpus["ROUGE-L"] == 1.0
