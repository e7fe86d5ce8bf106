"""JSON Schemas (draft 2020-12) of the files that gpucapt writes; docs/formats.md tells what they mean."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any, Literal

SchemaName = Literal["captions", "captions-row", "manifest", "story", "summary"]


def load_schema(name: SchemaName) -> dict[str, Any]:
    """Return one schema: of captions.json, of a line of captions.jsonl, of manifest.json, and so on."""
    text = resources.files(__name__).joinpath(f"{name}.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema
