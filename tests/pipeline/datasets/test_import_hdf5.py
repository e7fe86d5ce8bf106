"""HDF5 files that the Show-Attend-and-Tell tutorial's own program has written are trained on as they are."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from model.errors import GpucaptError
from model.training.recipe import Recipe
from pipeline.cli.main import app
from pipeline.datasets.captioned_pictures import CaptionedPictures, read_manifest, read_wordmap
from pipeline.datasets.job import run_import_dataset, run_preprocess
from pipeline.evaluation.evaluate import Evaluating, run_evaluate
from pipeline.training.job import run_train
from tests.pipeline.captioned import ENDINGS, SUBJECTS, make_dataset

BASE = "mini_5_cap_per_img_5_min_word_freq"
SIZE = 64


def create_input_files(karpathy: Path, pictures: Path, out: Path, *, bgr: bool = False) -> None:
    """The tutorial's preprocessing, step by step: words counted over all splits, pictures one by one."""
    content = json.loads(karpathy.read_text())
    counts: Counter[str] = Counter()
    for image in content["images"]:
        for sentence in image["sentences"]:
            counts.update(sentence["tokens"])
    word_map = {word: number + 1 for number, word in enumerate(w for w in counts if counts[w] > 5)}
    for mark in ("<unk>", "<start>", "<end>"):
        word_map[mark] = len(word_map) + 1
    word_map["<pad>"] = 0
    out.mkdir()
    (out / f"WORDMAP_{BASE}.json").write_text(json.dumps(word_map))
    chooser = random.Random(123)
    for split in ("TRAIN", "VAL", "TEST"):
        named = {"restval": "TRAIN"}
        images = [one for one in content["images"] if named.get(one["split"], one["split"].upper()) == split]
        encoded, lengths = [], []
        with h5py.File(out / f"{split}_IMAGES_{BASE}.hdf5", "a") as file:
            file.attrs["captions_per_image"] = 5
            stored = file.create_dataset("images", (len(images), 3, SIZE, SIZE), dtype="uint8")
            for number, image in enumerate(images):
                array = np.asarray(Image.open(pictures / image["filename"]).resize((SIZE, SIZE)))
                stored[number] = (array[:, :, ::-1] if bgr else array).transpose(2, 0, 1)
                for sentence in chooser.sample(image["sentences"], k=5):
                    words = [word_map.get(word, word_map["<unk>"]) for word in sentence["tokens"]]
                    padding = [word_map["<pad>"]] * (50 - len(words))
                    encoded.append([word_map["<start>"], *words, word_map["<end>"], *padding])
                    lengths.append(len(words) + 2)
        (out / f"{split}_CAPTIONS_{BASE}.json").write_text(json.dumps(encoded))
        (out / f"{split}_CAPLENS_{BASE}.json").write_text(json.dumps(lengths))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_dataset(tmp_path_factory.mktemp("source"))


@pytest.fixture
def earlier(tmp_path: Path, source: tuple[Path, Path]) -> Path:
    create_input_files(*source, tmp_path / "earlier")
    return tmp_path / "earlier"


def test_what_the_tutorial_has_written_is_a_dataset_here(earlier: Path) -> None:
    before = {path.name: path.read_bytes() for path in earlier.iterdir()}
    told = run_import_dataset(str(earlier), "rgb")
    assert told["pictures"] == {"train": 18, "val": 6, "test": 6}
    assert {name: (earlier / name).read_bytes() for name in before} == before, "nothing is changed"
    train = CaptionedPictures(earlier, "train")
    assert len(train) == 18 and train.captions.shape == (18, 5, 52)
    # Endings are rarer than the word map knows; a reference is as long as the caption was.
    cat = [train.references[str(number)] for number in range(3, 6)]
    assert all(sorted(said)[0].startswith(SUBJECTS["cat"]) for said in cat)
    assert {len(said.split()) for said in cat[0]} == {
        len((SUBJECTS["cat"] + ending).split()) for ending in ENDINGS
    }
    assert read_wordmap(earlier).words[0] == "<pad>"
    assert run_import_dataset(str(earlier), "rgb") == told, "the same again is the same"


def test_pictures_that_opencv_left_as_bgr_come_as_rgb(tmp_path: Path, source: tuple[Path, Path]) -> None:
    create_input_files(*source, tmp_path / "rgb")
    create_input_files(*source, tmp_path / "bgr", bgr=True)
    fingerprints = {
        kind: run_import_dataset(str(tmp_path / kind), kind)["fingerprint"] for kind in ("rgb", "bgr")
    }
    one, other = (
        CaptionedPictures(tmp_path / kind, "train").batch([0, 7])["pictures"] for kind in ("rgb", "bgr")
    )
    assert np.array_equal(one, other)
    assert one[0, 0].mean() > one[0, 2].mean() + 10, "the astronaut's suit is orange"
    assert fingerprints["rgb"] != fingerprints["bgr"]


@pytest.mark.slow
def test_it_is_trained_on_and_evaluated(earlier: Path, tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    small = {"encoder": "shufflenet_v2_x0_5", "embedding_size": 8, "hidden_size": 16, "attention_size": 8}
    short = {"epochs": 1, "finetune_epochs": 0, "feature_views": 1, "batch_size": 9, "sample_captions": 1}
    recipe = Recipe.from_dict(
        {**small, **short, "encoder_weights": "none", "device": "cpu", "precision": "fp32"}
    )
    with pytest.raises(GpucaptError, match="import-dataset makes an earlier captioner's files usable"):
        run_train(str(earlier), str(tmp_path / "run"), recipe)
    done = CliRunner().invoke(app, ["import-dataset", str(earlier)])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["pictures"]["train"] == 18
    trained = run_train(str(earlier), str(tmp_path / "run"), recipe)
    config = json.loads((tmp_path / "run" / "checkpoint" / "config.json").read_text())
    assert config["training"]["dataset"] == BASE and config["preparation"]["channels"] == "rgb"
    how = Evaluating(beam_size=1, device="cpu", precision="fp32")
    assert "BLEU-4" in run_evaluate(trained.checkpoint, str(earlier), how)


def drop(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def write(name: str, content: Any) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(json.dumps(content))


def cut_short(folder: Path) -> None:
    path = folder / f"VAL_IMAGES_{BASE}.hdf5"
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (drop(f"WORDMAP_{BASE}.json"), "there is no WORDMAP_….json"),
        (drop(f"VAL_CAPLENS_{BASE}.json"), f"lacks VAL_CAPLENS_{BASE}.json"),
        (drop(f"TEST_CAPTIONS_{BASE}.json"), f"lacks TEST_CAPTIONS_{BASE}.json"),
        (write("WORDMAP_other.json", {}), "several datasets"),
        (
            write(f"WORDMAP_{BASE}.json", {"<pad>": 0, "<unk>": 1, "<start>": 2, "<end>": 3}),
            "another dataset",
        ),
        (write(f"WORDMAP_{BASE}.json", ["a"]), "is not a vocabulary"),
        (write(f"VAL_CAPTIONS_{BASE}.json", [[1, 2], [3]]), "lists of whole numbers"),
        (write(f"VAL_CAPLENS_{BASE}.json", [5] * 7), "not of one dataset"),
        (write(f"VAL_CAPLENS_{BASE}.json", [5] * 29 + [99]), "lengths that no caption can have"),
        (write(f"VAL_CAPLENS_{BASE}.json", [5] * 29 + [1e999]), "lists of whole numbers"),
        (write(f"VAL_IMAGES_{BASE}.hdf5", "no HDF5"), "cannot be read as HDF5"),
        (cut_short, "cut short"),
        (write("dataset.json", {"base": BASE}), "of gpucapt preprocess already"),
    ],
)
def test_files_that_do_not_go_together_are_one_line(
    earlier: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    spoil(earlier)
    with pytest.raises(GpucaptError) as caught:
        run_import_dataset(str(earlier), "rgb")
    assert reason in str(caught.value) and str(earlier) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (earlier / "dataset.json").is_file() or not read_manifest(earlier).get("imported")


def test_another_dataset_never_takes_its_place(earlier: Path, source: tuple[Path, Path]) -> None:
    run_import_dataset(str(earlier), "rgb")
    with pytest.raises(GpucaptError, match="holds the files of an earlier captioner"):
        run_preprocess(str(source[0]), str(source[1]), str(earlier), min_word_freq=1, image_size=SIZE)
    assert (earlier / f"TRAIN_IMAGES_{BASE}.hdf5").is_file()
