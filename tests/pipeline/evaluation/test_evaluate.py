"""What `gpucapt evaluate` finds and writes: real captions, pycocoevalcap's numbers, a page of both."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from model import metrics
from model.captioner import load_captioner
from model.checkpoint import CONFIG
from pipeline.evaluation.evaluate import Evaluating, evaluate
from pipeline.evaluation.page import METRICS, Captioned, published_results, write_page
from pipeline.media.images import decode_still
from pipeline.models.resolve import resolve_model
from tests.pipeline.captioned import SUBJECTS, make_dataset
from tests.pipeline.jobs import command, run
from tests.services.browser import chromium
from tests.services.programs import works

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytest.importorskip("pycocoevalcap")

pytestmark = pytest.mark.slow

HOW = Evaluating(beam_size=2, max_length=8, device="cpu", precision="fp32", batch_size=4)


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pictures and `data`, a dataset of six test pictures."""
    folder = tmp_path_factory.mktemp("evaluation")
    dataset, pictures = make_dataset(folder)
    line = command("preprocess", dataset, pictures, folder / "data", "--min-word-freq=1", "--image-size=64")
    done = run(line)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def facts(road: Path, tiny_model: Path) -> dict[str, Any]:
    """What an evaluation into `out` told."""
    return evaluate(resolve_model(str(tiny_model)), str(road / "data"), HOW, str(road / "out"))


@pytest.fixture
def rows(road: Path, facts: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (road / "out" / "captions.jsonl").read_text().splitlines()]


def test_the_captions_are_those_of_a_beam_search(
    road: Path, tiny_model: Path, rows: list[dict[str, Any]]
) -> None:
    captioner = load_captioner(tiny_model, device="cpu", precision="fp32")
    for row in rows:
        picture = decode_still((road / "pictures" / row["image"]).read_bytes(), row["image"])
        [wanted] = captioner.caption([captioner.prepare(picture)], beam_size=2, max_length=8)
        assert row["caption"] == wanted.text


def test_the_scores_are_pycocoevalcaps_own(
    facts: dict[str, Any], rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge

    truth = {row["image"]: row["references"] for row in rows}
    said = {row["image"]: [row["caption"]] for row in rows}
    assert [len(texts) for texts in truth.values()] == [5] * 6
    bleu, each_bleu = Bleu(4).compute_score(truth, said, verbose=0)
    theirs = {f"BLEU-{n + 1}": (bleu[n], each_bleu[n]) for n in range(4)}
    theirs["ROUGE-L"] = Rouge().compute_score(truth, said)
    theirs["CIDEr"] = Cider().compute_score(truth, said)
    if works("java"):
        monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Duser.language=en -Duser.country=US")  # where it is right
        meteor = Meteor()
        theirs["METEOR"] = meteor.compute_score(truth, said)
        with meteor.meteor_p as process:
            process.kill()
    assert facts["scores"] == {name: round(float(total), 4) for name, (total, _) in theirs.items()}
    for name, (_, each) in theirs.items():
        assert [row["scores"][name] for row in rows] == [round(float(one), 4) for one in each], name


def test_scores_json_says_of_what_they_are(road: Path, tiny_model: Path, facts: dict[str, Any]) -> None:
    assert json.loads((road / "out" / "scores.json").read_text()) == facts
    manifest = json.loads((road / "data" / "dataset.json").read_text())
    model = resolve_model(str(tiny_model))
    wanted = {
        "model": model.name,
        "model_version": model.weights,
        "weights": model.weights,
        "dataset": manifest["base"],
        "dataset_fingerprint": manifest["fingerprint"],
        "split": "test",
        "pictures": 6,
        "limit": None,
        "beam_size": 2,
        "max_length": 8,
        "precision": "fp32",
    }
    assert {name: facts[name] for name in wanted} == wanted


def test_pictures_reach_a_model_in_its_own_order_of_channels(
    road: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "has_java", lambda: False)  # Java takes its time
    other = Path(shutil.copytree(tiny_model, tmp_path / "bgr"))
    config = json.loads((other / CONFIG).read_text())
    config["preparation"]["channels"] = "bgr"
    (other / CONFIG).write_text(json.dumps(config))
    evaluate(resolve_model(str(other)), str(road / "data"), HOW, str(tmp_path / "out"))
    told = [json.loads(line) for line in (tmp_path / "out" / "captions.jsonl").read_text().splitlines()]
    captioner = load_captioner(other, device="cpu", precision="fp32")
    pictures = [
        captioner.prepare(decode_still((road / "pictures" / row["image"]).read_bytes(), "")) for row in told
    ]
    wanted = captioner.caption(pictures, beam_size=2, max_length=8)
    assert [row["caption"] for row in told] == [caption.text for caption in wanted]


def test_the_page_shows_worst_and_best_with_their_pictures(road: Path, rows: list[dict[str, Any]]) -> None:
    page = (road / "out" / "evaluation.html").read_text()
    worst, best = page.split('id="worst-title"')[1].split('id="best-title"')
    by_cider = sorted(rows, key=lambda row: row["scores"]["CIDEr"])
    for part, wanted in ((worst, by_cider[:3]), (best, by_cider[3:])):
        assert sorted(re.findall(r'class="name">(.+?)<', part)) == sorted(row["image"] for row in wanted)
        assert part.count("data:image/jpeg;base64,/9j/") == 3
        for row in wanted:
            assert f'class="first">{row["caption"]}<' in part
            assert all(f"<li>{text}</li>" in part for text in row["references"])


def test_the_page_asks_nothing_of_the_network(road: Path, facts: dict[str, Any]) -> None:
    page = (road / "out" / "evaluation.html").read_text()
    assert "default-src 'none'" in page
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)="(?!data:|#|captions\.jsonl|https://arxiv\.org/)[^"]*"', page)


def page_of(tmp_path: Path, dataset: str, **changed: Any) -> str:
    """The page of one picture, for facts that are changed."""
    import numpy as np

    facts = {
        "model": "pets <b>",
        "model_version": "v1",
        "weights": "0123456789ab",
        "dataset": f"{dataset}_5",
        "split": "test",
        "pictures": 1,
        "limit": None,
        "beam_size": 5,
        "precision": "fp32",
        "evaluated_at": "2026-01-02T03:04:05Z",
        "code_version": "1",
        "scores": {"BLEU-4": 0.2345, "CIDEr": 0.6},
        **changed,
    }
    row = Captioned(0, "<i>.jpg", "<script>alert(1)</script>", ("a & b",), {"CIDEr": 0.6, "BLEU-4": 0.2})
    write_page(tmp_path / "page.html", facts, dataset, [row], lambda index: np.zeros((3, 64, 64), np.uint8))
    return (tmp_path / "page.html").read_text()


def test_scores_stand_beside_published_ones_of_the_same_dataset(tmp_path: Path) -> None:
    page = page_of(tmp_path, "flickr8k")
    table = page.split("<tbody>")[1].split("</tbody>")[0]
    rows = [re.sub("<[^>]+>", " ", row).split() for row in table.split("<tr")[1:]]
    assert any({"Show,", "hard", "21.3", "20.3"} <= set(row) for row in rows)
    assert {"23.4", "60.0"} <= set(rows[-1])
    assert "M² Transformer" not in page
    assert "None are known here" in page_of(tmp_path, "pets")
    assert "Published results are of test splits" in page_of(tmp_path, "flickr8k", split="val")


def test_every_published_result_has_its_source(tmp_path: Path) -> None:
    for dataset in ("flickr8k", "flickr30k", "coco"):
        found = published_results(dataset)
        assert len(found) >= 3
        for one in found:
            assert one["source"]
            assert set(one["scores"]) <= set(METRICS)
            assert all(1 < value < 150 for value in one["scores"].values()), "scores are in percent"


def test_what_names_and_captions_hold_is_shown_as_text(tmp_path: Path) -> None:
    page = page_of(tmp_path, "pets")
    assert "&lt;script&gt;alert(1)" in page and "<script>alert" not in page
    assert "<h1>pets &lt;b&gt;</h1>" in page


def test_only_the_first_pictures_can_be_evaluated(road: Path, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = command("evaluate", tiny_model, road / "data", "--limit=2", "--out", out, "--beam-size=1")
    done = run(line, PATH="/nowhere")
    assert done.returncode == 0, done.stderr
    assert "METEOR is left out" in done.stderr
    assert set(json.loads(done.stdout)) == set(METRICS) - {"METEOR"}
    rows = (out / "captions.jsonl").read_text().splitlines()
    assert [json.loads(row)["image"] for row in rows] == [f"{subject} 4.jpg" for subject in [*SUBJECTS][:2]]
    page = (out / "evaluation.html").read_text()
    assert "Only the first 2 pictures were captioned" in page and "METEOR is left out" in page


@pytest.fixture
def browser() -> Iterator[Browser]:
    with chromium() as launched:
        yield launched


@pytest.mark.needs("chromium")
@pytest.mark.parametrize("width", [1280, 360])
def test_the_page_fits_its_window_and_shows_its_pictures(
    road: Path, facts: dict[str, Any], browser: Browser, width: int
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto((road / "out" / "evaluation.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("document.querySelectorAll('img').forEach(image => { image.loading = 'eager' })")
    page.wait_for_function("[...document.images].every(image => image.complete)")
    assert page.evaluate("[...document.images].map(image => image.naturalWidth)") == [64] * 6
    assert complaints == []


def test_a_picture_is_shown_in_its_colours(road: Path, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    import base64
    import io

    page = (road / "out" / "evaluation.html").read_text()
    name, data = next(
        (found[1], found[0])
        for found in re.findall(r'base64,([^"]+)".+?class="name">(.+?)<', page, re.DOTALL)
    )
    shown = Image.open(io.BytesIO(base64.b64decode(data))).resize((1, 1))
    there = Image.open(road / "pictures" / name).resize((1, 1))
    differences = [abs(a - b) for a, b in zip(shown.getpixel((0, 0)), there.getpixel((0, 0)), strict=True)]  # type: ignore[arg-type]
    assert max(differences) < 12
