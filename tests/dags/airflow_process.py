"""A process that parses and runs DAGs: one JSON line in, one JSON line out. Started by conftest.py.

Airflow configures logging and its database for the process that imports it, so that is not the one of pytest.
"""

from __future__ import annotations

import asyncio
import copy
import importlib
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Parse the DAGs with these environment variables, then run one, or validate configurations of it."""
    from airflow.dag_processing.dagbag import BundleDagBag

    os.environ.update(request["env"])
    folder = os.environ["AIRFLOW__CORE__DAGS_FOLDER"]
    bag = BundleDagBag(folder, bundle_path=Path(folder), bundle_name="dags-folder")
    errors = list(bag.import_errors.values())
    if "conf" in request and not errors:
        return run(bag.dags[request["dag_id"]], request["conf"])
    return {
        "errors": errors,
        "modules": sorted({name.split(".")[0] for name in sys.modules}),
        **described(bag),
    }


def run(dag: Any, conf: dict[str, Any]) -> dict[str, Any]:
    """Run a DAG with ``dag.test()``; its state, those of its tasks, and what they returned."""
    found = dag.test(run_conf=conf)
    instances = found.get_task_instances()
    tasks = [[ti.task_id, ti.map_index, str(ti.state)] for ti in instances]
    returned = {ti.task_id: ti.xcom_pull(task_ids=ti.task_id) for ti in instances if ti.map_index < 0}
    return {"state": str(found.state), "tasks": tasks, "returned": returned, "events": events(found)}


def events(run: Any) -> dict[str, Any]:
    """What a run told of assets: the extra of each one's event."""
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    wanted = (AssetEvent.source_dag_id == run.dag_id) & (AssetEvent.source_run_id == run.run_id)
    told = select(AssetModel.name, AssetEvent.extra).join(AssetEvent, AssetEvent.asset_id == AssetModel.id)
    with create_session() as session:
        return {row.name: row.extra for row in session.execute(told.where(wanted))}


def described(bag: Any) -> dict[str, Any]:
    """The DAGs as the scheduler gets them."""
    from airflow.serialization.serialized_objects import DagSerialization

    found = {name: DagSerialization.to_dict(dag)["dag"] for name, dag in bag.dags.items()}
    return {"dags": json.loads(json.dumps(found, default=str))}


def fire(request: dict[str, Any]) -> dict[str, Any]:
    """Run a trigger, as the triggerer does, until it has fired so often: it is made anew after each event."""
    from airflow.serialization.serialized_objects import BaseSerialization

    os.environ.update(request["env"])
    module, _, name = request["trigger"].rpartition(".")
    kind = getattr(importlib.import_module(module), name)
    kwargs = {name: BaseSerialization.deserialize(value) for name, value in request["kwargs"].items()}

    async def run() -> list[Any]:
        async with asyncio.timeout(60):
            return [(await anext(kind(**kwargs).run())).payload for _ in range(request["events"])]

    return {"events": asyncio.run(run())}


def refusals(request: dict[str, Any]) -> dict[str, Any]:
    """Why each of these configurations is refused; None for one that is not."""
    from airflow.dag_processing.dagbag import BundleDagBag

    folder = os.environ["AIRFLOW__CORE__DAGS_FOLDER"]
    dag = BundleDagBag(folder, bundle_path=Path(folder), bundle_name="dags-folder").dags[request["dag_id"]]
    found: dict[str, str | None] = {}
    for name, conf in request["validate"].items():
        params = copy.deepcopy(dag.params)
        try:
            params.update(conf)
            params.validate()
            found[name] = None
        except ValueError as error:
            found[name] = str(error)
    return found


def main() -> None:
    """Answer until the input ends; the answers have a file of their own, so that nothing else is mixed in."""
    with os.fdopen(int(sys.argv[1]), "w", encoding="utf-8") as answers:
        for line in sys.stdin:
            request = json.loads(line)
            before = dict(os.environ)
            try:
                kinds = {"validate": refusals, "trigger": fire}
                found = next((kinds[name] for name in kinds if name in request), answer)(request)
            except BaseException as error:
                traceback.print_exc()
                found = {"error": f"{type(error).__name__}: {error}"}
            finally:
                os.environ.clear()
                os.environ.update(before)
            print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main()
