"""Stands in for gpucapt: ``scripted.py SCRIPT.json preprocess|train|evaluate|promote …``.

SCRIPT.json holds ``{"says": {command: its last line}, "fail": {command: exit code}}``. Calls are added to the
file SCRIPT.json.calls.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> int:
    """Do as the script says."""
    script, arguments = Path(sys.argv[1]), sys.argv[2:]
    wanted = json.loads(script.read_text(encoding="utf-8"))
    with Path(f"{script}.calls").open("a", encoding="utf-8") as calls:
        print(json.dumps(arguments), file=calls)
    command = arguments[0]
    if code := wanted.get("fail", {}).get(command, 0):
        print(f"gpucapt: {command} cannot be done", file=sys.stderr)
        return int(code)
    said = wanted["says"].get(command, {})
    print(said if isinstance(said, str) else json.dumps(said))
    return 0


if __name__ == "__main__":
    sys.exit(main())
