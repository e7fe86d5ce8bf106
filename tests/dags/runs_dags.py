"""A process that runs DAGs with ``dag.test()``: one JSON line in, one JSON line out. Started by conftest.py.

Airflow configures logging and its database for the process that imports it, so that is not the one of pytest.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Run a DAG with these environment variables and this configuration; its state and those of its tasks."""
    from airflow.dag_processing.dagbag import BundleDagBag

    os.environ.update(request["env"])
    folder = os.environ["AIRFLOW__CORE__DAGS_FOLDER"]
    bag = BundleDagBag(folder, bundle_path=Path(folder), bundle_name="dags-folder")
    if bag.import_errors:
        return {"import_errors": list(bag.import_errors.values())}
    run = bag.dags[request["dag_id"]].test(run_conf=request["conf"])
    return {
        "state": str(run.state),
        "tasks": [[ti.task_id, ti.map_index, str(ti.state)] for ti in run.get_task_instances()],
    }


def main() -> None:
    """Answer until the input ends; the answers have a file of their own, so that nothing else is mixed in."""
    with open(int(sys.argv[1]), "w", encoding="utf-8") as answers:  # noqa: PTH123
        for line in sys.stdin:
            request = json.loads(line)
            before = dict(os.environ)
            try:
                found = answer(request)
            except BaseException as error:
                traceback.print_exc()
                found = {"error": f"{type(error).__name__}: {error}"}
            finally:
                os.environ.clear()
                os.environ.update(before)
            print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main()
