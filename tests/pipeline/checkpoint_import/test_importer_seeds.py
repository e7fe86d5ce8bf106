"""The commands of docs/seeds.md, run as they stand there, on files such as people have."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision import models
from typer.testing import CliRunner

from model.errors import GpucaptError
from model.vocabulary import END, PAD, START, UNKNOWN
from pipeline.cli.main import app
from pipeline.datasets.captioned_pictures import read_wordmap
from pipeline.datasets.job import run_preprocess
from tests.media import photograph
from tests.pipeline.captioned import make_dataset
from tests.pipeline.checkpoint_import.layouts.test_attend_and_tell import (
    MARKS,
    NAMES,
    WORD_MAP,
    checkpoint_of,
    word_map,
)
from tests.pipeline.checkpoint_import.layouts.test_attend_and_tell_kin import names_for
from tests.pipeline.checkpoint_import.originals import captionbot, img2story, show_and_tell, tutorial
from tests.pipeline.checkpoint_import.originals.lessons import WORDS, pickled
from tests.pipeline.checkpoint_import.saving import save, settle
from tests.pipeline.datasets.test_import_hdf5 import create_input_files

pytestmark = pytest.mark.slow

PAGE = Path(__file__).resolve().parents[3] / "docs" / "seeds.md"
TUTORIALS = "BEST_checkpoint_coco_5_cap_per_img_5_min_word_freq.pth.tar"


def commands(section: str) -> list[list[str]]:
    """The words of each gpucapt command of a section, those of its subsections included."""
    text = PAGE.read_text(encoding="utf-8")
    (_, _, rest) = text.partition(f"\n## {section}\n")
    assert rest, f"there is no section {section!r}"
    blocks = re.findall(r"```sh\n(.*?)```", rest.partition("\n## ")[0], re.DOTALL)
    lines = re.sub(r" *\\\n *", " ", "\n".join(blocks)).splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("gpucapt ")]


def run(words: list[str]) -> str:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, (words, done.output, done.exception)
    return done.stdout


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that commands are run in, by their paths as they are written."""
    for name, value in {"DEVICE": "cpu", "PRECISION": "fp32", "PROGRESS": "none"}.items():
        monkeypatch.setenv(f"GPUCAPT_{name}", value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_pictures(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True)
    for name in names:
        Image.fromarray(photograph(name, size=(96, 72))).save(folder / f"{name}.jpg")


def tutorials_files(folder: Path) -> None:
    torch.manual_seed(0)
    encoder = tutorial.Encoder("resnet18")
    settle(encoder, torch.rand(4, 3, 64, 64))
    decoder = tutorial.DecoderWithAttention(24, 20, 48, len(WORD_MAP), encoder_dim=512).eval()
    with torch.no_grad():  # one that has learned nothing may say nothing but marks
        decoder.fc.bias[[WORD_MAP[mark] for mark in MARKS]] = -100
    save(checkpoint_of(encoder, decoder), folder / TUTORIALS, NAMES, legacy=True)
    word_map(folder)


def img2storys_files(folder: Path) -> None:
    torch.manual_seed(0)
    encoder = img2story.Encoder()
    settle(encoder, torch.rand(4, 3, 64, 64))
    sizes = {"encoder_dim": img2story.CHANNELS, "tanh": True}
    decoder = img2story.DecoderWithAttention(24, 20, 48, len(WORD_MAP), **sizes).eval()
    save(checkpoint_of(encoder, decoder), folder / "BEST_checkpoint_mobilenet.pth", names_for("models"))
    word_map(folder)


def captionbots_files(folder: Path) -> None:
    vocabulary = captionbot.Vocab_Builder(WORDS)
    decoder = captionbot.Decoder(256, 48, 20, len(vocabulary.itos), 24)
    state = {"state_dict": decoder.state_dict(), "optimizer": {}, "step": 10}
    torch.save(state, folder / "Flickr30k_Decoder_10.pth.tar")
    torch.save(captionbot.EncoderCNN(models.resnet18()).state_dict(), folder / "resnet5010.pt")
    pickled(folder / "vocab.pickle", "vocab", vocabulary)


def tellers_files(folder: Path, layers: int, output: str, encoder: str, decoder: str) -> None:
    vocabulary = show_and_tell.Vocabulary(WORDS)
    size = len(vocabulary.idx2word)
    torch.save(show_and_tell.EncoderCNN(models.resnet18(), 512, 16).state_dict(), folder / encoder)
    torch.save(show_and_tell.DecoderRNN(16, 40, size, layers, output).state_dict(), folder / decoder)
    pickled(folder / "vocab.pkl", "vocabulary", vocabulary)


def two_layers(folder: Path) -> None:
    tellers_files(folder, 2, "fc1", "encoderEpoch_2.pth", "decoderEpoch_2.pth")


def one_layer(folder: Path) -> None:
    tellers_files(folder, 1, "linear", "encoder-3.pkl", "decoder-3.pkl")


def test_the_tutorials_two_files_and_two_commands_are_enough(here: Path) -> None:
    tutorials_files(here)
    write_pictures(here / "pictures", "astronaut", "cat", "rocket")
    lines = commands("With the tutorial's two files")
    assert [line[0] for line in lines] == ["import-checkpoint", "caption"]
    for line in lines:
        run(line)
    with (here / "captions" / "pictures" / "captions.csv").open(newline="", encoding="utf-8") as file:
        captioned = {row["frame"]: row["caption"] for row in csv.DictReader(file)}
    assert captioned.keys() == {"astronaut.jpg", "cat.jpg", "rocket.jpg"}
    assert all(captioned.values())
    assert (here / "captions" / "pictures" / "report.html").is_file()


def test_a_newcomers_mistakes_are_told_with_the_cure(here: Path) -> None:
    tutorials_files(here)
    words = str(word_map(here).name)
    for mistake, cure in (
        (["caption", "pictures", "captions", "--model", TUTORIALS], "import-checkpoint` makes a checkpoint"),
        (["import-checkpoint", TUTORIALS, words], "is a file: name the folder for the checkpoint last"),
        (["import-checkpoint", TUTORIALS, "mine"], "needs its vocabulary"),
        (["import-checkpoint", words, "mine"], "give the checkpoint that goes with it"),
        (["train", ".", "run"], "import-dataset makes an earlier captioner's files usable"),
    ):
        with pytest.raises(GpucaptError) as caught:
            CliRunner().invoke(app, mistake, catch_exceptions=False)
        assert cure in str(caught.value), mistake
    assert sorted(path.name for path in here.iterdir()) == sorted([TUTORIALS, words])


@pytest.mark.parametrize(
    ("section", "files"),
    [
        ("Img2Story", img2storys_files),
        ("CaptionBot", captionbots_files),
        ("Automatic-Image-Captioning", two_layers),
        ("image_captioning", one_layer),
        ("The tutorial, and Image Captioning with ResNeXt", tutorials_files),
    ],
)
def test_trained_files_are_imported_as_it_says(
    here: Path, section: str, files: Callable[[Path], None]
) -> None:
    files(here)
    write_pictures(here / "photographs", "cat")
    (imported, *_) = lines = [line for line in commands(section) if line[0] == "import-checkpoint"]
    assert len(lines) == 1
    run(imported)
    assert {path.name for path in (here / imported[-1]).iterdir()} >= {"config.json", "model.safetensors"}
    for line in commands(section):
        if line[:2] == ["caption", "photographs/"]:
            run(line)
            assert (here / "captions" / "photographs" / "captions.csv").is_file()


def flickrs_tables(folder: Path, dataset: Path, pictures: Path) -> None:
    images = json.loads(dataset.read_text())["images"]
    shutil.copytree(pictures, folder / "Images")
    shutil.copytree(pictures, folder / "flickr30k_images")
    one = [f"{image['filename']},{said['raw']}\n" for image in images for said in image["sentences"]]
    (folder / "captions.txt").write_text("image,caption\n" + "".join(one))
    other = [
        f"{image['filename']}| {number}| {said['raw']}\n"
        for image in images
        for number, said in enumerate(image["sentences"])
    ]
    (folder / "results.csv").write_text("image_name| comment_number| comment\n" + "".join(other))


def cocos_files(folder: Path, dataset: Path, pictures: Path) -> None:
    """Annotations and pictures as the two that train on COCO's own files have them."""
    images = json.loads(dataset.read_text())["images"]
    for root, beside in (("Data", "Data/annotations"), ("cocoapi/images", "cocoapi/annotations")):
        (folder / beside).mkdir(parents=True)
        for split in ("train", "val"):
            chosen = [image for image in images if (image["split"] == "val") == (split == "val")]
            (folder / root / f"{split}2014").mkdir(parents=True)
            for image in chosen:
                shutil.copy(pictures / image["filename"], folder / root / f"{split}2014")
            content = {
                "images": [{"id": n, "file_name": image["filename"]} for n, image in enumerate(chosen)],
                "annotations": [
                    {"image_id": n, "caption": said["raw"]}
                    for n, image in enumerate(chosen)
                    for said in image["sentences"]
                ],
            }
            (folder / beside / f"captions_{split}2014.json").write_text(json.dumps(content))
            (folder / beside / f"instances_{split}2014.json").write_text("{}")


def karpathys_files(folder: Path, dataset: Path, pictures: Path) -> None:
    content = json.loads(dataset.read_text())
    for place in ("caption_data", "mscoco"):
        for split in ("train2014", "val2014"):
            (folder / place / split).mkdir(parents=True)
    for number, image in enumerate(content["images"]):
        image["filepath"] = ("train2014", "val2014")[number % 2]
        for place in ("caption_data", "mscoco"):
            shutil.copy(pictures / image["filename"], folder / place / image["filepath"])
    for place in ("caption_data", "."):
        (folder / place / "dataset_coco.json").write_text(json.dumps({**content, "dataset": "coco"}))
    create_input_files(dataset, pictures, folder / "mscoco" / "caption_data", bgr=True)


@pytest.mark.parametrize(
    ("section", "files", "sets"),
    [
        ("Img2Story", karpathys_files, {"data"}),
        ("CaptionBot", flickrs_tables, {"flickr8k", "flickr30k"}),
        ("Automatic-Image-Captioning", cocos_files, {"data"}),
        ("image_captioning", cocos_files, {"data"}),
        ("The tutorial, and Image Captioning with ResNeXt", karpathys_files, {"data", "mscoco/caption_data"}),
    ],
)
def test_datasets_are_prepared_as_it_says(
    here: Path, section: str, files: Callable[[Path, Path, Path], None], sets: set[str]
) -> None:
    dataset, pictures = make_dataset(here / "made")
    files(here, dataset, pictures)
    for line in commands(section):
        if line[0] in ("preprocess", "import-dataset"):
            assert json.loads(run(line).splitlines()[-1])["pictures"]["train"] > 10
    assert {path.parent.relative_to(here).as_posix() for path in here.rglob("dataset.json")} - {
        "made"
    } == sets


@pytest.mark.parametrize(
    ("files", "vocabulary"), [(captionbots_files, "vocab.pickle"), (one_layer, "vocab.pkl")]
)
def test_a_pickled_vocabulary_is_taken_for_another_dataset(
    here: Path, files: Callable[[Path], None], vocabulary: str
) -> None:
    files(here)
    dataset, pictures = make_dataset(here / "made")
    run(["preprocess", str(dataset), str(pictures), "data", "--vocabulary", vocabulary, "--image-size", "32"])
    words = read_wordmap(here / "data").words
    assert set(words) == {PAD, UNKNOWN, START, END, *WORDS}
    (here / "evil.pkl").write_bytes(b"\x80\x04cos\nsystem\n(V touch ran\ntR.")
    with pytest.raises(GpucaptError, match=r"evil\.pkl.*os\.system"):
        run_preprocess(str(dataset), str(pictures), "other", vocabulary="evil.pkl")
    assert not (here / "ran").exists()


def test_every_training_that_it_proposes_has_a_network(here: Path) -> None:
    """What `gpucapt train` is told there are options of recipes that exist, and names of encoders."""
    from model.encoders.backbones import TORCHVISION_ENCODERS
    from model.training.recipe import Recipe

    proposed = [
        line
        for section in re.findall(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
        for line in commands(section)
        if line[0] == "train"
    ]
    assert len(proposed) >= 6
    for line in proposed:
        given = dict(zip(line[3::2], line[4::2], strict=True))
        given.pop("--init-from", None)
        fields = {name.removeprefix("--").replace("-", "_"): value for name, value in given.items()}
        typed = {name: int(value) if value.isdigit() else value for name, value in fields.items()}
        recipe = Recipe.from_dict(typed)
        assert recipe.encoder in TORCHVISION_ENCODERS or recipe.encoder.startswith("timm/")
