"""The registry of models, as a folder and in an object store: what it keeps, and who is champion."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest

from model.captioner import load_captioner
from model.checkpoint import BUNDLED, CONFIG, TENSORS, VOCABULARY
from model.errors import GpucaptError
from pipeline.evaluation.promote import promote, rollback
from pipeline.models.registry import CHAMPION, Champions, Registry
from pipeline.models.resolve import pinned, resolve_model
from pipeline.storage.open import open_storage
from tests.pipeline.registries import damage, register, registry, two_models

__all__ = ["registry", "two_models"]

Two = tuple[Path, Path]


def test_a_registered_model_is_kept_with_what_is_known_of_it(registry: Registry, two_models: Two) -> None:
    told = promote(str(two_models[0]), name="pets")
    version = registry.find(*told["version"].split("/"))
    assert version is not None
    weights = resolve_model(str(two_models[0])).weights
    assert told["version"] == f"pets/{weights}"
    assert version.weights == weights
    assert version.origin == str(two_models[0])
    assert version.code_version
    keys = {entry.key for entry in registry.storage.list()}
    names = (CONFIG, VOCABULARY, TENSORS, "version.json")
    assert keys == {CHAMPION, *(f"pets/{weights}/{name}" for name in names)}


def test_a_version_says_what_it_was_trained_on(registry: Registry, two_models: Two, tmp_path: Path) -> None:
    trained = Path(shutil.copytree(two_models[0], tmp_path / "trained"))
    config = json.loads((trained / CONFIG).read_text())
    config["training"] = {
        "dataset": "pets_5",
        "dataset_fingerprint": "ab12",
        "recipe": {"epochs": 3},
        "val_cider": 0.5,
    }
    (trained / CONFIG).write_text(json.dumps(config))
    name, _, number = promote(str(trained), name="pets")["version"].partition("/")
    version = registry.find(name, number)
    assert version is not None
    assert version.dataset == {"name": "pets_5", "fingerprint": "ab12"}
    assert version.recipe == {"epochs": 3}
    assert version.training == {"val_cider": 0.5}


def test_the_champion_is_what_no_name_means(registry: Registry, two_models: Two) -> None:
    assert resolve_model(None).directory == BUNDLED
    register(two_models[0], "pets", "v1")
    found = resolve_model(None)
    assert (found.name, found.version, found.id) == ("pets", "v1", "pets/v1")
    assert (found.directory / TENSORS).read_bytes() == (two_models[0] / TENSORS).read_bytes()
    assert load_captioner(found.directory, device="cpu").version == found.weights
    assert resolve_model("bundled").directory == BUNDLED
    assert resolve_model("champion").id == "pets/v1"


def test_a_version_is_found_by_its_name_and_a_path_by_its_path(registry: Registry, two_models: Two) -> None:
    for model, name in zip(two_models, ("v1", "v2"), strict=True):
        register(model, "pets", name)
    assert resolve_model("pets/v1").version == "v1"
    assert resolve_model("pets").version == "v2"
    rollback()
    assert resolve_model("pets").version == "v1", "a version that was withdrawn is not what a name means"
    assert resolve_model(str(two_models[1])).directory == two_models[1]
    with pytest.raises(GpucaptError, match=r"there is no model pets/v3; .* or a model in"):
        resolve_model("pets/v3")


def test_the_same_checkpoint_is_registered_once(registry: Registry, two_models: Two) -> None:
    for _ in range(2):
        told = promote(str(two_models[0]), name="pets", version="v1")
    assert told["promoted"] is False
    assert "champion already" in told["why"]
    with pytest.raises(GpucaptError, match="pets/v1 is registered already, with other content"):
        promote(str(two_models[1]), name="pets", version="v1")
    assert [version.id for version in registry.versions()] == ["pets/v1"]


def test_a_training_that_was_resumed_is_no_other_model(
    registry: Registry, two_models: Two, tmp_path: Path
) -> None:
    register(two_models[0], "pets", "v1")
    again = Path(shutil.copytree(two_models[0], tmp_path / "again"))
    config = json.loads((again / CONFIG).read_text())
    (again / CONFIG).write_text(json.dumps({**config, "training": {"seconds": 7}}))
    assert "champion already" in promote(str(again), name="pets", version="v1")["why"]
    (again / CONFIG).write_text(json.dumps({**config, "search": {"max_length": 3}}))
    with pytest.raises(GpucaptError, match="with other content"):
        promote(str(again), name="pets", version="v1")


def test_what_others_do_to_the_checkpoint_later_does_not_reach_the_registry(
    registry: Registry, two_models: Two, tmp_path: Path
) -> None:
    mine = Path(shutil.copytree(two_models[0], tmp_path / "mine"))
    register(mine, "pets", "v1")
    with (mine / CONFIG).open("a") as file:  # in place, as some editors write
        file.write("\n\n")
    assert resolve_model(None).id == "pets/v1"


def test_rolling_back_goes_back_one_champion_at_a_time(registry: Registry, two_models: Two) -> None:
    for model, version in zip((*two_models, BUNDLED), ("v1", "v2", "v3"), strict=True):
        register(model, "pets", version)
    assert rollback() == {"champion": "pets/v2", "withdrawn": "pets/v3"}
    assert rollback() == {"champion": "pets/v1", "withdrawn": "pets/v2"}
    with pytest.raises(GpucaptError, match="no previous champion"):
        rollback()
    champions = registry.champions()
    assert champions.champion is not None and champions.champion.id == "pets/v1"
    assert [one.id for one in champions.withdrawn] == ["pets/v2", "pets/v3"]
    assert promote("pets/v3")["champion"] == "pets/v3"


def test_of_two_promotions_at_once_one_wins_and_the_other_says_so(
    registry: Registry, two_models: Two
) -> None:
    register(BUNDLED, "first", "v1")
    seen = registry.champions()
    wanted = [
        seen.promoted(version, "") for version in (registry.find("first", "v1"),) * 4 if version is not None
    ]
    refused: list[str] = []

    def crown(champions: Champions) -> None:
        try:
            Registry(open_storage(registry.url)).crown(champions)
        except GpucaptError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=crown, args=(one,)) for one in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 3
    assert all("another promotion came first: the champion is first/v1 now" in reason for reason in refused)
    assert len(registry.champions().previous) == 1


def test_the_first_champion_of_all_is_one_of_two_as_well(registry: Registry, two_models: Two) -> None:
    seen = registry.champions()
    register(two_models[0], "pets", "v1")
    version = registry.find("pets", "v1")
    assert version is not None
    with pytest.raises(GpucaptError, match="another promotion came first"):
        registry.crown(seen.promoted(version, ""))


@pytest.mark.parametrize("name", [CONFIG, VOCABULARY, TENSORS])
def test_a_damaged_champion_is_one_line_that_says_what_to_do(
    registry: Registry, two_models: Two, name: str
) -> None:
    register(two_models[0], "pets", "v1")
    register(two_models[1], "pets", "v2")
    if name == VOCABULARY:
        registry.storage.delete(f"pets/v2/{name}")
    else:
        damage(registry, "pets/v2", name)
    with pytest.raises(GpucaptError, match=rf"pets/v2 .* is damaged: its {name}.*rollback") as told:
        resolve_model(None)
    assert "\n" not in str(told.value)
    rollback()
    assert resolve_model(None).id == "pets/v1"


def test_a_missing_champion_and_a_damaged_list_are_told(registry: Registry, two_models: Two) -> None:
    register(two_models[0], "pets", "v1")
    for key in [entry.key for entry in registry.storage.list("pets/")]:
        registry.storage.delete(key)
    for call in (resolve_model, pinned):
        with pytest.raises(GpucaptError, match="the champion pets/v1 is missing from"):
            call(None)
    for content in (b"{", b"[]", b"{}", b'{"format": 2}', b'{"format": 1, "champion": 5}'):
        registry.storage.write(CHAMPION, content)
        with pytest.raises(GpucaptError, match=r"champion\.json is damaged .*--model") as told:
            resolve_model(None)
        assert "\n" not in str(told.value)
    assert resolve_model(str(two_models[0])).directory == two_models[0]


def test_a_broken_off_registration_can_be_done_again(registry: Registry, two_models: Two) -> None:
    name = "pets/v1"
    registry.storage.write(f"{name}/.registering", b"{}")
    with pytest.raises(GpucaptError, match="something else is being registered as pets/v1"):
        promote(str(two_models[0]), name="pets", version="v1")
    registry.storage.delete_folder(name)
    registry.storage.write(f"{name}/{CONFIG}", b"half")
    register(two_models[0], "pets", "v1")
    assert resolve_model(name).version == "v1"


@pytest.mark.parametrize("name", ["../up", "a b", "champion", "", ".hidden", "x" * 101])
def test_a_name_that_cannot_be_one_is_refused(registry: Registry, two_models: Two, name: str) -> None:
    if name:
        with pytest.raises(GpucaptError, match=r"--name takes letters"):
            promote(str(two_models[0]), name=name)
    with pytest.raises(GpucaptError, match=r"--version takes letters|registered already"):
        promote(str(two_models[0]), name="pets", version=name or "a/b")
    assert list(registry.storage.list()) == []


def test_without_a_registry_commands_say_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GPUCAPT_MODELS", raising=False)
    for call in (lambda: promote(str(tmp_path)), rollback):
        with pytest.raises(GpucaptError, match="set GPUCAPT_MODELS"):
            call()
    assert resolve_model(None).id == "bundled"
