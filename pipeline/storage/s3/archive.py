"""Objects in storage classes that must be restored, for hours and for money, before they can be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ARCHIVES = frozenset({"GLACIER", "DEEP_ARCHIVE"})
"""GLACIER_IR is none: what lies there is read at once."""
ARCHIVED = frozenset({"InvalidObjectState", "ObjectNotInActiveTierError"})
"""What stores answer where such an object is to be read, or copied."""
_MAY_HOLD = _ARCHIVES | {"INTELLIGENT_TIERING"}


def may_be_archived(item: Mapping[str, Any]) -> bool:
    """Whether an object may be archived, by the storage class that a listing or HEAD tells.

    Only HEAD tells that a copy of it has been restored, and in which tier Intelligent-Tiering has it.
    """
    return item.get("StorageClass") in _MAY_HOLD


def why_archived(head: Mapping[str, Any]) -> str | None:
    """Why an object with these headers is out of reach; None where it is not."""
    kind, tier, restore = (head.get(name, "") for name in ("StorageClass", "ArchiveStatus", "Restore"))
    if not tier and kind not in _ARCHIVES:
        return None
    if 'ongoing-request="false"' in restore:
        return None
    advice = "it is being restored" if 'ongoing-request="true"' in restore else "restore it first"
    return _in_words(kind, tier, advice)


def why_refused(answer: Mapping[str, Any]) -> str:
    """The same of an answer with one of these codes."""
    return _in_words(answer.get("StorageClass", ""), answer.get("AccessTier", ""), "restore it first")


def _in_words(kind: str, tier: str, advice: str) -> str:
    where = f" in storage class {kind}" if kind else ""
    return f"archived{where}{f', tier {tier}' if tier else ''}; {advice}"
