"""What `gpucapt promote` and `rollback` do: which version of a model jobs use from now on, and why.

The gate (`--if-better`) has candidate and champion caption the same split in the same way. Where there is no
champion yet it compares with the bundled model, as that is what jobs use until then.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field, replace
from typing import Any

from model.checkpoint import BUNDLED
from model.errors import GpucaptError
from pipeline.errors import StorageUnavailable
from pipeline.evaluation.evaluate import SCORES, Evaluating, evaluate
from pipeline.models.registry import Champions, Registry, Version, new_version
from pipeline.models.resolve import Model, champion_of, registered, resolve_model
from pipeline.storage import staging
from pipeline.storage.open import location
from pipeline.version import code_version

METRICS = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr")

_COMPARED = ("dataset", "dataset_fingerprint", "split", "pictures", "beam_size", "max_length", "precision")
"""What must be the same for two scores to be compared."""

log = logging.getLogger("gpucapt")


@dataclass(frozen=True, slots=True)
class Gate:
    """Promote only what beats the champion on a dataset by at least so much."""

    data: str
    metric: str = "CIDEr"
    least_gain: float = 0.0
    how: Evaluating = field(default_factory=Evaluating)

    def opened_by(self, gain: float) -> bool:
        """Whether so much is enough; a tie never is, unless a loss would be borne, too."""
        return gain > 0 if self.least_gain == 0 else gain >= self.least_gain


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether to promote, and why; with the scores that it rests on."""

    promote: bool
    why: str
    scores: dict[str, Any] = field(default_factory=dict)


def promote(
    model: str,
    *,
    name: str | None = None,
    version: str | None = None,
    gate: Gate | None = None,
    evaluation: str | None = None,
) -> dict[str, Any]:
    """Register a model, unless it is, and make it the champion if the gate opens; what came of it, for JSON.

    ``evaluation`` is the OUT of an earlier `gpucapt evaluate` of it. Raises GpucaptError where another
    promotion came first, and where the evaluation is of something else.
    """
    registry = Registry.required()
    champions = registry.champions()
    there = registered(registry, model)
    if there is not None and (name or version):
        raise GpucaptError(f"{there.id} is registered already; leave --name and --version out")
    found = resolve_model(model)
    candidate = there or new_version(
        found.directory, name, version, origin=_origin(model), code_version=code_version()
    )
    before = champions.champion
    is_champion = before is not None and before.id == candidate.id
    facts = _scores(registry, found, there, None if is_champion else gate, evaluation)
    if there is None:
        if facts is not None:
            about = {key: value for key, value in facts.items() if key != "scores"}
            candidate = replace(candidate, metrics=facts["scores"], evaluation=about)
        candidate = registry.register(found.directory, candidate)
        log.info("registered %s in %s", candidate.id, registry.url)
    if facts is not None:
        _keep(registry, candidate, facts)
    if is_champion:
        verdict = Verdict(False, f"{candidate.id} is the champion already")
    elif gate is None:
        verdict = Verdict(True, "it was promoted without a comparison")
    else:
        verdict = _compare(registry, gate, candidate, facts or {}, _current(registry, champions))
    if verdict.promote:
        champions = champions.promoted(candidate, verdict.why)
        registry.crown(champions)
    best = champions.champion
    log.info("%s %s: %s", "promoted" if verdict.promote else "kept back", candidate.id, verdict.why)
    return {
        "promoted": verdict.promote,
        "version": candidate.id,
        "champion": best.id if best else "bundled",
        "why": verdict.why,
        **verdict.scores,
    }


def rollback() -> dict[str, Any]:
    """Make the previous champion the champion again; what came of it, as JSON types.

    Raises GpucaptError where there was none, or it is missing or damaged.
    """
    registry = Registry.required()
    champions = registry.champions()
    if champions.champion is None or not champions.previous:
        raise GpucaptError(f"there is no previous champion in {registry.url} to go back to")
    back = champions.previous[0]
    if registered(registry, back.id) is None:
        raise GpucaptError(
            f"the previous champion {back.id} is missing from {registry.url}; promote another version"
        )
    registry.crown(champions.rolled_back())
    log.info("rolled back from %s to %s", champions.champion.id, back.id)
    return {"champion": back.id, "withdrawn": champions.champion.id}


def _current(registry: Registry, champions: Champions) -> Version | None:
    """The champion's version; a champion that is damaged does not stand in the way of another."""
    try:
        return None if champions.champion is None else champion_of(registry)
    except GpucaptError as error:
        log.warning("%s", error)
        return None


def _scores(
    registry: Registry, model: Model, there: Version | None, gate: Gate | None, evaluation: str | None
) -> dict[str, Any] | None:
    """What an evaluation of the candidate found, as far as one is given or the gate needs it."""
    facts = None if evaluation is None else _read_evaluation(evaluation, model)
    if gate is None:
        return facts
    if facts is not None:
        _expect_of_gate(facts, gate, evaluation)
        return facts
    known = None if there is None else _known(registry, there, gate)
    return known or evaluate(model, gate.data, gate.how)


def _origin(model: str) -> str:
    return "bundled" if model == "bundled" else location(model)


def _read_evaluation(folder: str, model: Model) -> dict[str, Any]:
    place = f"{folder.rstrip('/')}/{SCORES}"
    with staging.input_file(place) as path:
        try:
            facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            weights, scores = facts["weights"], facts["scores"]
            [float(value) for value in scores.values()]
        except FileNotFoundError:
            raise GpucaptError(f"{place} is missing; give the --out of `gpucapt evaluate`") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise GpucaptError(f"{place} is not what `gpucapt evaluate` writes; evaluate again") from error
    if weights != model.weights:
        raise GpucaptError(f"{place} is of another model ({facts.get('model')} {weights}); evaluate this one")
    return facts


def _expect_of_gate(facts: dict[str, Any], gate: Gate, evaluation: str | None) -> None:
    asked = {**_identity(gate.data), "split": gate.how.split, "beam_size": gate.how.beam_size}
    asked |= {"max_length": gate.how.max_length, "limit": gate.how.limit}
    for key, value in asked.items():
        if facts.get(key) != value:
            raise GpucaptError(
                f"{evaluation or 'the evaluation'} has {key} {facts.get(key)!r}, where --if-better asks for"
                f" {value!r}; evaluate again in that way, or leave --evaluation out"
            )


def _identity(data: str) -> dict[str, Any]:
    """What tells one dataset from another."""
    from pipeline.datasets.captioned_pictures import MANIFEST, read_manifest

    with staging.input_folder(data, wanted=lambda key: key == MANIFEST) as folder:
        manifest = read_manifest(folder)
    return {"dataset": manifest["base"], "dataset_fingerprint": manifest.get("fingerprint")}


def _compare(
    registry: Registry,
    gate: Gate,
    candidate: Version,
    facts: dict[str, Any],
    current: Version | None,
) -> Verdict:
    score = _score(facts, gate.metric)
    if current is None and not BUNDLED.is_dir():
        why = f"{gate.metric} {score:.4f}; there is no champion that can be used, nor a bundled model"
        return Verdict(True, why, {"metric": gate.metric, "score": score})
    rival = "the bundled model, as there is no champion that can be used" if current is None else current.id
    if current is not None and current.weights == candidate.weights:
        return Verdict(False, f"it has the same weights as the champion {current.id}")
    theirs = _of_champion(registry, gate, current, facts)
    other = _score(theirs, gate.metric)
    gain = round(score - other, 4)
    how = "better" if gain > 0 else "worse"
    where = f"{facts['split']} split of {facts['dataset']} ({facts['pictures']} pictures)"
    why = f"{gate.metric} {score:.4f} against {other:.4f} of {rival}, on the {where}: "
    why += f"{how} by {abs(gain):.4f}" if gain else "no better"
    opened = gate.opened_by(gain)
    if gain > 0 and not opened:
        why += f", less than the {gate.least_gain:g} asked for"
    return Verdict(opened, why, {"metric": gate.metric, "score": score, "champion_score": other})


def _of_champion(
    registry: Registry, gate: Gate, current: Version | None, facts: dict[str, Any]
) -> dict[str, Any]:
    """The champion's scores, in the way that the candidate's were found."""
    found = None if current is None else _known(registry, current, gate)
    if found is not None and all(found.get(key) == facts.get(key) for key in _COMPARED):
        return found
    how = replace(gate.how, precision=facts["precision"])
    rival = "bundled" if current is None else current.id
    try:
        found = evaluate(resolve_model(rival), gate.data, how)
    except StorageUnavailable:
        raise
    except GpucaptError as error:
        raise GpucaptError(
            f"the champion {rival} cannot be evaluated: {error}; roll back, or promote without --if-better"
        ) from error
    different = [key for key in _COMPARED if found.get(key) != facts.get(key)]
    if different:
        raise GpucaptError(
            f"the scores cannot be compared, as they differ in {', '.join(different)};"
            " evaluate the candidate again"
        )
    if current is not None:
        _keep(registry, current, found)
    return found


def _known(registry: Registry, version: Version, gate: Gate) -> dict[str, Any] | None:
    """What an earlier evaluation of a version found that the gate can use."""
    identity = _identity(gate.data)
    if identity["dataset_fingerprint"] is None or gate.how.limit is not None:
        return None
    how = gate.how
    key = _key(identity["dataset_fingerprint"], how.split, how.beam_size, how.max_length)
    found = registry.evaluation(version, key)
    return found if found is not None and found.get("weights") == version.weights else None


def _keep(registry: Registry, version: Version, facts: dict[str, Any]) -> None:
    fingerprint = facts.get("dataset_fingerprint")
    if fingerprint is not None and facts.get("limit") is None:
        key = _key(fingerprint, facts["split"], facts["beam_size"], facts["max_length"])
        registry.keep_evaluation(version, key, facts)


def _key(fingerprint: str, split: str, beam_size: int, max_length: int) -> str:
    return f"{fingerprint[:16]}-{split}-beam{beam_size}-words{max_length}"


def _score(facts: dict[str, Any], metric: str) -> float:
    try:
        return float(facts["scores"][metric])
    except KeyError:
        told = ", ".join(facts["scores"])
        raise GpucaptError(f"the evaluation has no {metric}, only {told}; choose another --metric") from None
