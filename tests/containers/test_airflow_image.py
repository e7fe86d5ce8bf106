"""The image of the scheduler's side: the DAGs parse in it, and there is no torch."""

from __future__ import annotations

import json

import pytest

from tests.services.engine import Engine, base_image, closure, installed

pytestmark = pytest.mark.slow

PROVIDERS = ("amazon", "cncf-kubernetes", "common-messaging", "docker", "standard")

USER = """
RUN echo 'airflow:x:50000:0:airflow:/home/airflow:/bin/sh' >> /etc/passwd \\
    && install -d -o 50000 -g 0 /home/airflow /opt/airflow
ENV HOME=/home/airflow AIRFLOW_HOME=/opt/airflow
USER airflow
"""

PARSE = """
import importlib.util, json, os
from pathlib import Path
from airflow.dag_processing.dagbag import BundleDagBag

def parse(runner):
    os.environ["GPUCAPT_RUNNER"] = runner
    folder = Path("/opt/airflow/dags")
    bag = BundleDagBag(str(folder), bundle_path=folder, bundle_name="dags-folder")
    return [sorted(bag.dags), list(bag.import_errors.values())]

torch = [name for name in ("torch", "torchvision", "cv2") if importlib.util.find_spec(name)]
print(json.dumps({"torch": torch, **{name: parse(name) for name in ("local", "docker", "kubernetes")}}))
"""


@pytest.fixture(scope="module")
def airflow_image(engine: Engine) -> str:
    """The image, on a stand-in for Airflow's own."""
    wanted = closure(
        "apache-airflow", "aiobotocore", "pip", *(f"apache-airflow-providers-{name}" for name in PROVIDERS)
    )
    base = base_image(engine, "airflow", without=installed() - wanted, dockerfile=USER)
    engine.build("gpucapt-test-airflow", "containers/airflow/Dockerfile", BASE_IMAGE=base)
    return "gpucapt-test-airflow"


def test_the_dags_parse_for_every_runner_without_torch(engine: Engine, airflow_image: str) -> None:
    said = engine.client.containers.run(airflow_image, ["python3", "-c", PARSE], stderr=False, remove=True)
    found = json.loads(said.splitlines()[-1])
    assert found.pop("torch") == []
    for dags, errors in found.values():
        assert errors == []
        assert dags == ["caption_frames", "preprocess_hdf5", "retrain_captioner"]


def test_gpucapt_plans_in_it_and_says_what_it_cannot_do(engine: Engine, airflow_image: str) -> None:
    config = engine.client.images.get(airflow_image).attrs["Config"]
    assert config["User"] == "airflow"
    script = (
        "mkdir -p /tmp/in/album && echo picture > /tmp/in/album/1.png"
        " && gpucapt ingest plan --settle=0 /tmp/in /tmp/out;"
        " gpucapt caption /tmp/in /tmp/out; python3 -c 'import sys; print(sys.prefix)'"
    )
    said = engine.client.containers.run(airflow_image, ["sh", "-c", script], stderr=True, remove=True)
    plan, missing, prefix = said.decode().splitlines()
    assert len(json.loads(plan)["shards"]) == 1
    assert missing == "gpucapt: this needs torch, which is not installed: pip install 'gpucapt[worker]'"
    assert prefix != "/opt/gpucapt", "Airflow's python stays the python"
