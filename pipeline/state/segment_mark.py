"""What is said beside the parts of a segment: enough to publish them when the run that watched is gone."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from pipeline.records.source_info import SourceInfo
from pipeline.state.parts import Parts


@dataclass(frozen=True, slots=True)
class SegmentMark:
    """What the segment is, and the facts of it that its manifest is to tell."""

    info: SourceInfo
    facts: dict[str, object]

    def write(self, parts: Parts) -> None:
        """Put it beside the parts."""
        content = {"format": 1, "info": asdict(self.info), "facts": self.facts}
        parts.mark((json.dumps(content) + "\n").encode())

    @classmethod
    def read(cls, parts: Parts) -> SegmentMark | None:
        """The mark of these parts; None where there is none that can be read."""
        content = parts.read_mark()
        try:
            fields = json.loads(content or b"")
            return cls(SourceInfo(**fields["info"]), dict(fields["facts"]))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
