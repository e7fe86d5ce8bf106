"""The gate that keeps a worse model out: real evaluations of small models on a small dataset."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model import metrics
from model.checkpoint import BUNDLED, CONFIG
from model.errors import GpucaptError
from pipeline.evaluation.evaluate import SCORES, Evaluating, evaluate
from pipeline.evaluation.promote import Gate, promote
from pipeline.models.registry import Registry
from pipeline.models.resolve import resolve_model
from pipeline.storage.open import open_storage
from pipeline.storage.staging import local
from tests.pipeline.captioned import make_dataset
from tests.pipeline.jobs import command, run
from tests.pipeline.registries import damage, register, two_models

pytestmark = pytest.mark.slow

__all__ = ["two_models"]

pytest.importorskip("pycocoevalcap")

HOW = Evaluating(beam_size=2, max_length=8, device="cpu", precision="fp32")
METRIC = "BLEU-1"

Two = tuple[Path, Path]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A preprocessed dataset of six test pictures."""
    folder = tmp_path_factory.mktemp("gate")
    dataset, pictures = make_dataset(folder)
    out = folder / "data"
    done = run(command("preprocess", dataset, pictures, out, "--min-word-freq=1", "--image-size=64"))
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def ranked(data: Path, two_models: Two) -> tuple[Path, Path]:
    """The better and the worse of two models."""
    scores = {model: score(model, data) for model in two_models}
    assert scores[two_models[0]] != scores[two_models[1]]
    worse, better = sorted(scores, key=scores.__getitem__)
    return better, worse


@pytest.fixture(scope="module", autouse=True)
def no_java() -> Iterator[None]:
    """Without METEOR, which takes its time to start: an evaluation does without where there is no Java."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "has_java", lambda: False)
        yield


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    (tmp_path / "registry").mkdir()
    monkeypatch.setenv("GPUCAPT_MODELS", str(tmp_path / "registry"))
    return Registry.required()


def score(model: Path | str, data: Path) -> float:
    found: float = evaluate(resolve_model(str(model)), str(data), HOW)["scores"][METRIC]
    return found


def gate(data: Path, least_gain: float = 0.0, metric: str = METRIC) -> Gate:
    return Gate(str(data), metric, least_gain, HOW)


def test_a_better_model_becomes_champion_and_the_run_says_why(
    registry: Registry, data: Path, ranked: Two
) -> None:
    better, worse = ranked
    register(worse, "pets", "v1")
    told = promote(str(better), name="pets", version="v2", gate=gate(data))
    assert told["promoted"] is True
    assert told["champion"] == told["version"] == "pets/v2"
    gain = told["score"] - told["champion_score"]
    assert told["score"] == score(better, data) and told["champion_score"] == score(worse, data)
    base = json.loads((data / "dataset.json").read_text())["base"]
    expected = (
        f"BLEU-1 {told['score']:.4f} against {told['champion_score']:.4f} of pets/v1,"
        f" on the test split of {base} (6 pictures): better by {gain:.4f}"
    )
    assert told["why"] == expected
    champions = registry.champions()
    assert champions.champion is not None and champions.champion.why == expected


def test_a_worse_model_is_registered_and_kept_back(registry: Registry, data: Path, ranked: Two) -> None:
    better, worse = ranked
    register(better, "pets", "v1")
    told = promote(str(worse), name="pets", version="v2", gate=gate(data))
    assert (told["promoted"], told["champion"]) == (False, "pets/v1")
    assert "worse by" in told["why"]
    assert resolve_model(None).version == "v1"
    kept = registry.find("pets", "v2")
    assert kept is not None and kept.metrics[METRIC] == told["score"]


def test_the_gain_that_is_asked_for_counts(registry: Registry, data: Path, ranked: Two) -> None:
    better, worse = ranked
    register(worse, "pets", "v1")
    gain = round(score(better, data) - score(worse, data), 4)
    told = promote(str(better), name="pets", version="v2", gate=gate(data, gain + 0.0001))
    assert not told["promoted"]
    assert f"better by {gain:.4f}, less than the" in told["why"]
    assert promote("pets/v2", gate=gate(data, gain))["promoted"]


def test_the_same_weights_are_no_better(registry: Registry, data: Path, ranked: Two) -> None:
    register(ranked[0], "pets", "v1")
    told = promote(str(ranked[0]), name="pets", version="again", gate=gate(data))
    assert not told["promoted"]
    assert "the same weights as the champion" in told["why"]


def test_without_a_champion_the_bundled_model_is_the_one_to_beat(
    registry: Registry, data: Path, ranked: Two
) -> None:
    told = promote(str(ranked[1]), name="pets", version="v1", gate=gate(data, least_gain=1.1))
    assert (told["promoted"], told["champion"]) == (False, "bundled")
    assert "the bundled model, as there is no champion that can be used" in told["why"]
    assert told["champion_score"] == score("bundled", data)
    assert resolve_model(None).directory == BUNDLED
    assert promote("pets/v1", gate=gate(data, least_gain=-1.1))["champion"] == "pets/v1"


def test_what_was_evaluated_before_is_not_evaluated_again(
    registry: Registry, data: Path, ranked: Two, tmp_path: Path
) -> None:
    better, worse = ranked
    done = tmp_path / "evaluation"
    facts = evaluate(resolve_model(str(better)), str(data), HOW, str(done))
    register(worse, "pets", "v1")
    told = promote(str(better), name="pets", version="v2", gate=gate(data), evaluation=str(done))
    assert told["promoted"] and told["score"] == facts["scores"][METRIC]
    only_facts = tmp_path / "data"
    only_facts.mkdir()
    shutil.copy(data / "dataset.json", only_facts)  # there are no pictures that could be captioned
    assert not promote("pets/v1", gate=gate(only_facts))["promoted"]
    again = promote(str(better), name="pets", version="v3", gate=gate(only_facts), evaluation=str(done))
    assert "the same weights" in again["why"]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"weights": "0" * 12}, "is of another model"),
        ({"beam_size": 3}, "has beam_size 3, where --if-better asks for 2"),
        ({"split": "val"}, "has split 'val', where --if-better asks for 'test'"),
        ({"dataset_fingerprint": "other"}, "has dataset_fingerprint 'other'"),
        ({"limit": 2}, "has limit 2"),
        ({"scores": None}, "is not what `gpucapt evaluate` writes"),
    ],
)
def test_an_evaluation_of_something_else_is_refused(
    registry: Registry, data: Path, ranked: Two, tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    facts = evaluate(resolve_model(str(ranked[0])), str(data), HOW, str(tmp_path / "evaluation"))
    (tmp_path / "evaluation" / SCORES).write_text(json.dumps({**facts, **changed}))
    with pytest.raises(GpucaptError, match=reason):
        promote(str(ranked[0]), gate=gate(data), evaluation=str(tmp_path / "evaluation"))
    assert list(registry.versions()) == []


def test_a_damaged_champion_does_not_stand_in_the_way_of_a_better_one(
    registry: Registry, data: Path, ranked: Two
) -> None:
    register(ranked[1], "pets", "v1")
    shutil.rmtree(local(registry.url) / "pets" / "v1")
    told = promote(str(ranked[0]), name="pets", version="v2", gate=gate(data, least_gain=-1))
    assert told["promoted"] and told["champion"] == "pets/v2"
    damage(registry, "pets/v2")
    assert promote(str(ranked[1]), name="pets", version="v3")["champion"] == "pets/v3"


def test_a_champion_that_this_version_cannot_load_is_named(
    registry: Registry, data: Path, ranked: Two, tmp_path: Path
) -> None:
    old = Path(shutil.copytree(ranked[1], tmp_path / "old"))
    config = json.loads((old / CONFIG).read_text())
    config["decoder"]["options"]["hidden_size"] = 5
    (old / CONFIG).write_text(json.dumps(config))
    register(old, "pets", "v1")
    with pytest.raises(GpucaptError, match=r"the champion pets/v1 cannot be evaluated: .* roll back"):
        promote(str(ranked[0]), name="pets", version="v2", gate=gate(data))
    assert resolve_model(None).id == "pets/v1"
    assert [version.id for version in registry.versions()] == ["pets/v1", "pets/v2"]


def test_everything_may_lie_in_an_object_store(
    bucket: str, data: Path, ranked: Two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    better, worse = ranked
    place = f"s3://{bucket}"
    monkeypatch.setenv("GPUCAPT_MODELS", f"{place}/models")
    monkeypatch.setenv("GPUCAPT_CACHE", str(tmp_path / "cache"))
    for folder, url in ((data, f"{place}/data"), (better, f"{place}/run/checkpoint")):
        for path in folder.iterdir():
            open_storage(url).upload(path, path.name)
    register(worse, "pets", "v1")
    model = resolve_model(f"{place}/run/checkpoint")
    evaluate(model, f"{place}/data", HOW, f"{place}/run/test")
    there = Gate(f"{place}/data", METRIC, 0.0, HOW)
    told = promote(
        f"{place}/run/checkpoint", name="pets", version="v2", gate=there, evaluation=f"{place}/run/test"
    )
    assert told["promoted"] and told["champion_score"] == score(worse, data)
    version = Registry.required().find("pets", "v2")
    assert version is not None and version.origin == f"{place}/run/checkpoint"
    assert resolve_model(None).id == "pets/v2"


def test_the_commands_as_users_run_them(registry: Registry, data: Path, ranked: Two) -> None:
    better, worse = ranked
    env = {"GPUCAPT_MODELS": registry.url, "GPUCAPT_DEVICE": "cpu", "GPUCAPT_PRECISION": "fp32"}
    env["PATH"] = "/nowhere"  # no Java here either
    asked = ["--if-better", data, "--metric=bleu-1", "--beam-size=2", "--max-length=8"]
    first = run(command("promote", worse, "--name=pets", "--version=v1"), **env)
    assert first.returncode == 0, first.stderr
    second = run(command("promote", better, "--name=pets", "--version=v2", *asked), **env)
    assert json.loads(second.stdout.splitlines()[-1])["promoted"], second.stderr
    third = run(command("promote", "pets/v1", *asked), **env)
    assert third.returncode == 0, third.stderr
    told = json.loads(third.stdout.splitlines()[-1])
    assert (told["promoted"], told["champion"]) == (False, "pets/v2")
    assert f"kept back pets/v1: {told['why']}" in third.stderr
    table = run(command("models"), **env).stdout.splitlines()
    [row] = [line.split() for line in table if line.startswith("champion")]
    assert row[1] == "pets/v2"
    listed = json.loads(run(command("models", "--json"), **env).stdout)
    assert {one["id"] for one in listed["models"]} == {"pets/v1", "pets/v2"}
    assert listed["champion"]["version"] == "v2"
    back = run(command("rollback"), **env)
    assert json.loads(back.stdout) == {"champion": "pets/v1", "withdrawn": "pets/v2"}
    wrong = run(command("promote", better, "--metric=SPICE"), **env)
    assert wrong.returncode == 2 and "BLEU-1, BLEU-2" in wrong.stderr
    twice = run(command("rollback"), **env)
    assert (twice.returncode, twice.stderr.count("\n")) == (1, 1)
