"""evaluation.html: how good a model is, in one file that asks nothing of the network.

Its scores beside published ones, how they spread over the pictures, and the captions that score worst and
best, with their pictures and references.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from model.words import join
from pipeline.reports.text import printable, single_spaced

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

METRICS = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr")

_SHOWN = 24
"""Pictures in each of the two lists."""
_THUMBNAIL = 224  # pixels
_BINS, _BIN = 20, 0.1
"""Of the histogram of CIDEr; what is beyond the last is counted in it."""
_SORTED_BY = ("CIDEr", "ROUGE-L", "BLEU-4")

ReadPicture = Callable[[int], "NDArray[np.uint8]"]


@dataclass(frozen=True, slots=True)
class Captioned:
    """One picture of the split by its place in it: what was said of it, and how good that is.

    Caption and references are words with blanks between them in any script; ``sentence`` writes them.
    """

    index: int
    image: str
    caption: str
    references: tuple[str, ...]
    scores: dict[str, float]


def sentence(text: str) -> str:
    """Words with blanks between them as people write them."""
    return join(text.split(" "))


def write_page(
    path: Path, facts: dict[str, Any], dataset: str, rows: Sequence[Captioned], picture: ReadPicture
) -> None:
    """Write the page.

    Args:
        facts: what scores.json holds.
        dataset: what the dataset calls itself, to find published results of.
        rows: every picture of the split.
        picture: (3, H, W) uint8 RGB of a picture by its place in the split.
    """
    by_score = sorted(rows, key=lambda row: [row.scores.get(name, 0.0) for name in _SORTED_BY])
    half = min(_SHOWN, (len(rows) + 1) // 2)
    worst, best = by_score[:half], by_score[len(by_score) - min(half, len(rows) - half) :][::-1]
    style = _style()
    html = _template().render(
        style=style,
        style_hash=_digest(style),
        title=_shown(facts["model"]),
        facts=facts,
        left_out=[name for name in METRICS if name not in facts["scores"]],
        tiles=[(name, _percent(facts["scores"][name])) for name in METRICS if name in facts["scores"]],
        metrics=METRICS,
        ours={name: _percent(value) for name, value in facts["scores"].items()},
        published=_published(dataset, facts),
        bars=_bars([row.scores.get("CIDEr", 0.0) for row in rows]),
        variety=_variety(rows),
        lists=[(name, title, [_shot(row, picture) for row in chosen]) for name, title, chosen in (
            ("worst", "Worst", worst),
            ("best", "Best", best),
        )],
    )  # fmt: skip
    path.write_text(html, encoding="utf-8")


def published_results(dataset: str) -> list[dict[str, Any]]:
    """The results of others on the test split of a dataset, by their BLEU-4; scores in percent."""
    text = (
        resources.files("pipeline.evaluation").joinpath("published_results.json").read_text(encoding="utf-8")
    )
    found = [one for one in json.loads(text)["results"] if one["dataset"] == dataset.lower()]
    return sorted(found, key=lambda one: one["scores"].get("BLEU-4", 0.0))


def _published(dataset: str, facts: dict[str, Any]) -> list[dict[str, Any]]:
    if facts["split"] != "test":
        return []
    return [
        {**one, "scores": {name: f"{value:.1f}" for name, value in one["scores"].items()}}
        for one in published_results(dataset)
    ]


def _bars(scores: Sequence[float]) -> list[dict[str, Any]]:
    counts = Counter(min(_BINS - 1, int(score / _BIN)) for score in scores)
    highest = max(counts.values(), default=1)
    bars = []
    for place in range(_BINS):
        first = 100 * _BIN * place
        label = f"{first:.0f} and more" if place == _BINS - 1 else f"{first:.0f} to {first + 100 * _BIN:.0f}"
        bars.append({"label": label, "count": counts[place], "height": counts[place] / highest})
    return bars


def _variety(rows: Sequence[Captioned]) -> dict[str, Any]:
    """How much the captions differ from each other, beside the references."""
    said = Counter(row.caption for row in rows)
    words = [len(row.caption.split()) for row in rows]
    theirs = [len(text.split()) for row in rows for text in row.references]
    [(most, times)] = said.most_common(1)
    return {
        "pictures": len(rows),
        "different": len(said),
        "words": len({word for row in rows for word in row.caption.split()}),
        "length": sum(words) / len(words),
        "their_length": sum(theirs) / max(1, len(theirs)),
        "most": _shown(sentence(most)),
        "times": times,
        "zero": sum(row.scores.get("CIDEr", 0.0) < 0.005 for row in rows),
    }


def _shot(row: Captioned, picture: ReadPicture) -> dict[str, Any]:
    return {
        "name": _shown(row.image),
        "caption": _shown(sentence(row.caption)) or "(no words)",
        "references": [_shown(sentence(text)) for text in row.references],
        "scores": [(name, _percent(row.scores[name])) for name in METRICS[3:] if name in row.scores],
        "jpeg": _jpeg(picture(row.index)),
    }


def _jpeg(picture: NDArray[np.uint8]) -> str:
    from PIL import Image

    image = Image.fromarray(picture.transpose(1, 2, 0))
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return base64.b64encode(file.getvalue()).decode("ascii")


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _shown(value: object) -> str:
    return printable(single_spaced(str(value)))


@cache
def _style() -> str:
    folder = resources.files("pipeline").joinpath("templates")
    names = ("report.css", "dataset.css", "evaluation.css")
    return "".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names)


@cache
def _template() -> jinja2.Template:
    text = resources.files("pipeline").joinpath("templates", "evaluation.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(text)


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
