"""What the benchmark found, as JSON and as a table."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Goal:
    """A number to reach: at least (`least`) or at most (`most`) so much."""

    kind: Literal["least", "most"]
    value: float

    def is_reached(self, value: float) -> bool:
        """Whether a measured value is good enough."""
        return value >= self.value if self.kind == "least" else value <= self.value

    def __str__(self) -> str:
        return f"{'≥' if self.kind == 'least' else '≤'} {self.value:g}"


@dataclass(frozen=True, slots=True)
class Row:
    """One number.

    `value` is the median of `samples`, None when it was not measured; `why_not` says why then. `figures` are
    what it was made from or what explains it: medians, with the unit in the name.
    """

    name: str
    what: str
    value: float | None
    goal: Goal | None = None
    samples: Sequence[float] = ()
    figures: dict[str, Any] = field(default_factory=dict)
    why_not: str | None = None

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None without a goal or a value."""
        return None if self.goal is None or self.value is None else self.goal.is_reached(self.value)

    def to_json(self) -> dict[str, Any]:
        """As it stands in the file."""
        return {**asdict(self), "samples": list(self.samples), "reached": self.reached}


def skipped(name: str, what: str, reason: str) -> Row:
    """A row that this machine cannot measure."""
    return Row(name, what, None, why_not=reason)


def write(path: Path, machine: dict[str, Any], options: dict[str, Any], rows: Sequence[Row]) -> None:
    """Write all rows with the facts that they depend on; numbers are rounded to what they can mean."""
    content = {
        "format": FORMAT,
        "machine": machine,
        "options": options,
        "rows": [_rounded(row.to_json()) for row in rows],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def table(rows: Sequence[Row]) -> str:
    """The rows for people to read."""
    width = max(len(row.name) for row in rows)
    lines = [f"{'':{width}}  {'measured':>8}  {'reach':>7}"]
    for row in rows:
        measured = "–" if row.value is None else _short(row.value)
        goal = "" if row.goal is None else str(row.goal)
        verdict = {True: "yes", False: "NO", None: ""}[row.reached]
        lines.append(f"{row.name:{width}}  {measured:>8}  {goal:>7}  {verdict:3}  {row.what}".rstrip())
        if row.why_not:
            lines.append(f"{'':{width}}  left out: {row.why_not}")
    return "\n".join(lines)


def figures(rows: Sequence[Row]) -> str:
    """What the rows were made from, for people to read."""
    lines = []
    for row in rows:
        told = ", ".join(f"{name} {_short(value)}" for name, value in row.figures.items())
        lines.append(f"{row.name}: {told}")
    return "\n".join(lines)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) and abs(value) < 1000 else str(_rounded(value))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else None
    return value
