"""Which model: what `--model` and ``GPUCAPT_MODEL`` name, looked up once at the beginning of a job.

nothing          the champion under ``GPUCAPT_MODELS``; the bundled one where there is none
champion         the same, but there must be one
bundled          the checkpoint that comes with gpucapt
name/version     a version in the registry
name             the version of it that was promoted last; where none was, the newest
anything else    a checkpoint directory, or one in an object store
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from model.checkpoint import BUNDLED, checkpoint_version, read_config
from model.confidence import UNSURE_BELOW
from model.errors import GpucaptError
from pipeline.models.checkpoint_cache import checkpoint_folder
from pipeline.models.registry import CHECKPOINT_FILES, Registry, Version, parse_id
from pipeline.storage.base import sha256

_log = logging.getLogger("gpucapt")


@dataclass(frozen=True, slots=True)
class Model:
    """A checkpoint that is within reach, and what reports call it."""

    directory: Path
    name: str
    version: str
    """What a registry calls it, else its weights."""
    weights: str
    """The first 12 hex digits of the SHA-256 of its tensors: the same weights, the same captions."""
    id: str
    """What names it wherever jobs run: as it was given, or ``name/version``, or ``bundled``."""

    @property
    def sees_whole(self) -> bool:
        """Whether it wants large photographs decoded whole (`Preparation.whole`); without loading it."""
        from model.preprocessing import Preparation

        try:
            return Preparation(**read_config(self.directory)["preparation"]).whole
        except (KeyError, TypeError):  # an incomplete config; loading it says so
            return False

    @property
    def unsure_below(self) -> float:
        """The confidence below which its captions are marked; without loading it."""
        try:
            return float(read_config(self.directory).get("unsure_below", UNSURE_BELOW))
        except (TypeError, ValueError):  # loading it says so
            return UNSURE_BELOW


def pinned(model: str | None) -> str:
    """What will name the same model later, whoever is promoted meanwhile. Fetches nothing.

    Raises GpucaptError where a registered model is missing or damaged.
    """
    found = _choose(model)
    return found if isinstance(found, str) else found[1].id


def resolve_model(model: str | None) -> Model:
    """The model that a name, a path or an s3:// URL means; of one in an object store a copy.

    Raises GpucaptError when there is no such model or it is no checkpoint.
    """
    found = _choose(model)
    if not isinstance(found, str):
        return _registered(*found)
    directory = BUNDLED if found == "bundled" else checkpoint_folder(found)
    if not directory.is_dir():
        if found == "bundled":
            raise GpucaptError("this installation brings no model along; name a checkpoint with --model DIR")
        wrong = f"there is no model {found}"
        if directory.exists():
            cure = "of an earlier captioner's files `gpucapt import-checkpoint` makes a checkpoint"
            wrong = f"{found} is a file; {cure}"
        raise GpucaptError(f"{wrong}; name a checkpoint directory{_or_where()}")
    name = str(read_config(directory).get("name", directory.name))
    weights = checkpoint_version(directory)
    return Model(directory, name, weights, weights, found)


def champion_of(registry: Registry) -> Version | None:
    """The version that jobs use; None where none was promoted. Raises GpucaptError where it is damaged."""
    best = registry.champions().champion
    if best is None:
        return None
    found = registry.find(best.name, best.version)
    if found is None:
        raise GpucaptError(
            f"the champion {best.id} is missing from {registry.url}; promote another version,"
            " or go back with `gpucapt rollback`"
        )
    return registry.whole(found)


def registered(registry: Registry, which: str) -> Version | None:
    """The version that ``name`` or ``name/version`` means in a registry; None where it has none such."""
    parts = parse_id(which)
    if parts is None:
        return None
    name, version = parts
    found = registry.find(name, version) if version else _latest(registry, name)
    return None if found is None else registry.whole(found)


def _choose(model: str | None) -> str | tuple[Registry, Version]:
    registry = Registry.configured()
    if model is None or model == "champion":
        best = None if registry is None else champion_of(registry)
        if registry is not None and best is not None:
            return registry, best
        if model == "champion":
            where = Registry.required().url
            raise GpucaptError(f"there is no champion in {where}; promote one with `gpucapt promote MODEL`")
        if registry is not None:
            _log.info("there is no champion in %s yet: the bundled model is used", registry.url)
        return "bundled"
    found = None if registry is None else registered(registry, model)
    return model if registry is None or found is None else (registry, found)


def _latest(registry: Registry, name: str) -> Version | None:
    champions = registry.champions()
    for one in (champions.champion, *champions.previous):
        if one is not None and one.name == name and (found := registry.find(name, one.version)):
            return found
    return max(registry.versions(name), key=lambda version: version.registered_at, default=None)


def _registered(registry: Registry, version: Version) -> Model:
    directory = checkpoint_folder(registry.folder(version))
    read_config(directory)
    for name in CHECKPOINT_FILES:
        if sha256(directory / name) != version.files[name]["sha256"]:
            raise GpucaptError(
                f"the model {version.id} in {registry.url} is damaged: its {name} is not what was"
                " registered; choose another version, or go back with `gpucapt rollback`"
            )
    return Model(directory, version.name, version.version, version.weights, version.id)


def _or_where() -> str:
    registry = Registry.configured()
    return "" if registry is None else f", or a model in {registry.url}"
