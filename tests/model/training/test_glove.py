from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.errors import GpucaptError
from model.training.glove import read_glove
from model.vocabulary import END, PAD, START, UNKNOWN, Vocabulary

WORDS = ("a", "dog", "runs", "café", "unheard")
VOCABULARY = Vocabulary((PAD, *WORDS, UNKNOWN, START, END))
LINES = [
    "the 1 2 3 4",
    "dog 0.5 -0.25 1e-1 2",
    "a b@example.org 9 9 9 9",  # a word with a space, as the largest of GloVe's files have some
    "a 10 20 30 40",
    "café -1 -2 -3 -4",
    "dog 7 7 7 7",  # a second time
    "runs 1 1 1 1",
]


def glove(folder: Path, lines: list[str] = LINES) -> Path:
    path = folder / "glove.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_words_get_their_vectors_and_the_others_their_own(tmp_path: Path) -> None:
    vectors, coverage = read_glove(glove(tmp_path), VOCABULARY, 4)
    assert vectors.shape == (len(VOCABULARY), 4)
    expected = {"dog": [0.5, -0.25, 0.1, 2], "a": [10, 20, 30, 40], "café": [-1, -2, -3, -4], "runs": [1] * 4}
    for word, values in expected.items():
        torch.testing.assert_close(vectors[VOCABULARY.index[word]], torch.tensor(values, dtype=torch.float))
    own = vectors[[VOCABULARY.index[word] for word in ("unheard", UNKNOWN, START, END)]]
    assert len({tuple(row) for row in own.tolist()}) == 4
    assert own.abs().sum() > 0
    assert not vectors[VOCABULARY.pad].any()
    assert (coverage.words, coverage.found, coverage.missing) == (5, 4, ("unheard",))
    assert str(coverage) == "vectors for 4 of 5 words (80.0%); the others begin with their own: unheard"


def test_own_vectors_are_like_those_of_the_file(tmp_path: Path) -> None:
    words = [f"word{i}" for i in range(400)]
    vocabulary = Vocabulary((PAD, *words, UNKNOWN, START, END))
    torch.manual_seed(0)
    rows = torch.randn(200, 3) * torch.tensor([0.1, 1, 5]) + torch.tensor([3, 0, -2])
    lines = [f"{word} {' '.join(map(str, row))}" for word, row in zip(words, rows.tolist(), strict=False)]
    vectors, _ = read_glove(glove(tmp_path, lines), vocabulary, 3)
    own = vectors[201:401]
    torch.testing.assert_close(own.mean(dim=0), rows.mean(dim=0), atol=1, rtol=0.1)
    torch.testing.assert_close(own.std(dim=0), rows.std(dim=0), atol=0.05, rtol=0.2)


def test_files_that_begin_with_counts_are_read_too(tmp_path: Path) -> None:
    plain, _ = read_glove(glove(tmp_path), VOCABULARY, 4)
    counted, _ = read_glove(glove(tmp_path, ["7 4", *LINES]), VOCABULARY, 4)
    known = [VOCABULARY.index[word] for word in ("a", "dog", "runs", "café")]
    assert torch.equal(plain[known], counted[known])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"the 1 2 3\ndog 1 2 3\n",
            "vectors of 3 numbers, and the recipe's embedding_size is 4: set it to 3",
        ),
        (b"the 1 2 3 4 5\n", "set it to 5"),
        (b"the 1 2 3 4\ndog 1 2\n", "vector 2: it is not a word and 4 numbers"),
        (b"the 1 2 3 4\ndog 1 2 x 4\n", "vector 2: it is not a word and 4 numbers"),
        (b"the 1 2 3 4\ndog 1 2 nan 4\n", "vector 2"),
        (b"the 1 2 3 4\n", "no vector for any of the 5 words"),
        (b"", "does not hold word vectors|no vector for any"),
        (b"Dear reader, this is a letter.\n", "does not hold word vectors"),
        (b"\x00\xff\x01\x02" * 50, "does not hold word vectors"),
        (b"PK\x03\x04 ...", "unpack"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "vectors"
    path.write_bytes(content)
    with pytest.raises(GpucaptError, match=message) as caught:
        read_glove(path, VOCABULARY, 4)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(GpucaptError, match="No such file"):
        read_glove(tmp_path / "nowhere.txt", VOCABULARY, 4)
    with pytest.raises(GpucaptError, match="directory"):
        read_glove(tmp_path, VOCABULARY, 4)
