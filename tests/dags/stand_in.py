"""Stands in for gpucapt where a test needs it to fail: ``stand_in.py PLAN.json ingest plan|shard|finish …``.

PLAN.json holds ``{"shards": [...], "fail": {"plan"|URI|"finish": exit code}}``. Calls are added to the file
PLAN.json.calls.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> int:
    """Do as the plan says."""
    plan, arguments = Path(sys.argv[1]), sys.argv[2:]
    wanted = json.loads(plan.read_text(encoding="utf-8"))
    with Path(f"{plan}.calls").open("a", encoding="utf-8") as calls:
        print(json.dumps(arguments), file=calls)
    verb = arguments[1]
    name = arguments[-1] if verb == "shard" else verb
    print("gpucapt: this goes to the log", file=sys.stderr)
    if code := wanted.get("fail", {}).get(name, 0):
        print(f"gpucapt: {name} cannot be done", file=sys.stderr)
        return int(code)
    if verb == "plan":
        print("looking around")
        print(wanted.get("says") or json.dumps({"run": str(plan), "shards": wanted["shards"]}))
    else:
        print("done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
