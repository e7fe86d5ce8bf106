"""The kubernetes runner: the pods that the DAG would create, field by field. (There is no cluster here.)"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.dags.conftest import REPOSITORY, airflow_environment
from tests.services.kubernetes import Pod, running_cluster

URIS = ["s3://out/.gpucapt/{{ ds }} $(AWS_SECRET_ACCESS_KEY).json", "s3://out/.gpucapt/$$ 'b'.json"]

SETTINGS = {
    "GPUCAPT_RUNNER": "kubernetes",
    "GPUCAPT_IMAGE": "registry/gpucapt:1",
    "GPUCAPT_GPU_POOL": "default_pool",
    "GPUCAPT_RETRIES": "0",
    "GPUCAPT_SHM_SIZE": "1G",
    "GPUCAPT_TRAINING_GPUS": "8",
    "GPUCAPT_PRECISION": "bf16",
    "GPUCAPT_SPOOL": "/spool/$(HOME)",
    "GPUCAPT_API_KEY": "hidden-1",
    "GPUCAPT_KUBERNETES_NAMESPACE": "captions",
    "GPUCAPT_KUBERNETES_SERVICE_ACCOUNT": "gpucapt",
    "GPUCAPT_KUBERNETES_SECRETS": "s3-keys, model-keys",
    "GPUCAPT_KUBERNETES_PULL_SECRETS": "registry",
    "GPUCAPT_KUBERNETES_NODE_SELECTOR": "pool=gpu,zone=a",
    "GPUCAPT_KUBERNETES_TOLERATIONS": "spot=true:NoExecute,dedicated",
    "GPUCAPT_KUBERNETES_CPU": "4",
    "GPUCAPT_KUBERNETES_MEMORY": "16Gi",
    "GPUCAPT_KUBERNETES_VOLUMES": "models:/models:ro,scratch:/spool",
    "AWS_ENDPOINT_URL": "http://storage:9000",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_SECRET_ACCESS_KEY": "hidden-2",
    "OPENAI_API_KEY": "hidden-3",
    "OPENAI_BASE_URL": "http://llm:8000/v1",
    "OPENAI_CUSTOM_HEADERS": "X-Key: hidden-4",
}

WITHOUT_CLUSTER = """
    import json, sys
    sys.path[:0] = [{repository!r}, {dags!r}]
    import kubernetes_runner
    from kubernetes.client import ApiClient, models as k8s
    from tests.dags.airflow_process import answer

    def execute(self, context):
        self.name = self._set_name(self.name)
        pod = self.build_pod_request_obj(context, dry_run=True)
        shown = ApiClient().sanitize_for_serialization(pod)
        pods[f"{{self.task_id}}[{{context['ti'].map_index}}]"] = shown
        return json.dumps({{"run": "s3://out/run", "shards": {uris!r}}}) if self.task_id == "plan" else None

    pods, found = {{}}, {{}}
"""


def in_airflow(home: Path, code: str, **settings: str) -> Any:
    """Run code in a process where Airflow can be imported; what it leaves in ``found``."""
    script = textwrap.dedent(
        WITHOUT_CLUSTER.format(repository=str(REPOSITORY), dags=str(REPOSITORY / "dags"), uris=URIS)
    )
    script += textwrap.dedent(code)
    script += f"\nopen({str(home / 'found')!r}, 'w').write(json.dumps(found))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**airflow_environment(home, **{**SETTINGS, **settings})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (home / "log").write_text(done.stdout + done.stderr)
    return json.loads((home / "found").read_text())


@pytest.fixture(scope="module")
def pods(airflow_home: Path) -> dict[str, Any]:
    """The pods of a run of the DAG with two shards; only their creation is left out."""
    code = """
        kubernetes_runner.KubernetesPod.execute = execute
        conf = {"incoming": "s3://in/{{ ds }}", "destination": "s3://out", "story": "none"}
        state = answer({"dag_id": "caption_frames", "conf": conf, "env": {}})
        found = {"state": state, "pods": pods}
    """
    found = in_airflow(airflow_home, code)
    assert found["state"]["state"] == "success", found
    shown: dict[str, Any] = found["pods"]
    return shown


def container(pod: dict[str, Any]) -> dict[str, Any]:
    (found,) = (part for part in pod["spec"]["containers"] if part["name"] == "base")
    return dict(found)


def test_a_caption_pod_field_by_field(pods: dict[str, Any]) -> None:
    pod = pods["caption[0]"]
    assert pod["metadata"]["namespace"] == "captions"
    assert pod["metadata"]["name"].startswith("gpucapt-caption-")
    labels = pod["metadata"]["labels"]
    assert (labels["dag_id"], labels["task_id"], labels["map_index"]) == ("caption_frames", "caption", "0")
    spec = {name: value for name, value in pod["spec"].items() if value not in ([], {}, None)}
    assert container(pod) == {
        "name": "base",
        "image": "registry/gpucapt:1",
        "imagePullPolicy": "IfNotPresent",
        "command": [],
        "ports": [],
        "args": ["ingest", "shard", "--", "s3://out/.gpucapt/{{ ds }} $$(AWS_SECRET_ACCESS_KEY).json"],
        "env": [
            {"name": "AWS_DEFAULT_REGION", "value": "eu-central-1"},
            {"name": "AWS_ENDPOINT_URL", "value": "http://storage:9000"},
            {"name": "GPUCAPT_PRECISION", "value": "bf16"},
            {"name": "GPUCAPT_SPOOL", "value": "/spool/$$(HOME)"},
            {"name": "OPENAI_BASE_URL", "value": "http://llm:8000/v1"},
        ],
        "envFrom": [{"secretRef": {"name": "s3-keys"}}, {"secretRef": {"name": "model-keys"}}],
        "resources": {
            "limits": {"nvidia.com/gpu": "1", "memory": "16Gi"},
            "requests": {"nvidia.com/gpu": "1", "memory": "16Gi", "cpu": "4"},
        },
        "volumeMounts": [
            {"name": "shared-memory", "mountPath": "/dev/shm"},
            {"name": "models", "mountPath": "/models", "readOnly": True},
            {"name": "scratch", "mountPath": "/spool", "readOnly": False},
        ],
        "securityContext": {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    del spec["containers"]
    assert spec == {
        "restartPolicy": "Never",
        "hostNetwork": False,
        "serviceAccountName": "gpucapt",
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"pool": "gpu", "zone": "a"},
        "tolerations": [
            {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
            {"key": "spot", "operator": "Equal", "value": "true", "effect": "NoExecute"},
            {"key": "dedicated", "operator": "Exists"},
        ],
        "volumes": [
            {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": str(1 << 30)}},
            {"name": "models", "persistentVolumeClaim": {"claimName": "models", "readOnly": True}},
            {"name": "scratch", "persistentVolumeClaim": {"claimName": "scratch", "readOnly": False}},
        ],
    }


def test_arguments_reach_gpucapt_as_they_are(pods: dict[str, Any]) -> None:
    """No template is rendered in them, and Kubernetes' own ``$(…)`` is escaped as ``$$(…)``."""
    for index, uri in enumerate(URIS):
        arguments = container(pods[f"caption[{index}]"])["args"]
        assert arguments == ["ingest", "shard", "--", uri.replace("$", "$$")]
    plan = container(pods["plan[-1]"])["args"]
    assert plan[:2] == ["ingest", "plan"] and plan[-2:] == ["s3://in/{{ ds }}", "s3://out"]
    assert container(pods["finish[-1]"])["args"] == ["ingest", "finish", "--", "s3://out/run"]


def test_only_gpu_tasks_take_a_gpu_and_only_results_have_a_second_container(pods: dict[str, Any]) -> None:
    plan = pods["plan[-1]"]
    assert container(plan)["resources"] == {"limits": {}, "requests": {}}
    assert not plan["spec"].get("tolerations") and not plan["spec"].get("nodeSelector")
    assert {"name": "GPUCAPT_RESULT_FILE", "value": "/airflow/xcom/return.json"} in container(plan)["env"]
    assert {"name": "xcom", "mountPath": "/airflow/xcom"} in container(plan)["volumeMounts"]
    assert len(plan["spec"]["containers"]) == 2
    assert len(pods["caption[0]"]["spec"]["containers"]) == 1


def test_no_secret_stands_in_a_pod(pods: dict[str, Any]) -> None:
    assert "hidden" not in json.dumps(pods)


def test_training_gets_its_gpus_and_a_cluster_without_gpus_gets_none(airflow_home: Path) -> None:
    code = """
        import os
        from runners import runner
        task = runner().task("train", ["train"], gpu="all")
        alone = {name: getattr(task, name) for name in ("deferrable", "startup_timeout_seconds")}
        found = [task.container_resources.limits, alone]
        os.environ.update(GPUCAPT_GPUS="none", GPUCAPT_KUBERNETES_STARTUP_TIMEOUT="60")
        task = runner().task("train", ["train"], gpu="all")
        found += [task.container_resources.limits]
        found += [task.startup_timeout_seconds, task.schedule_timeout_seconds]
    """
    found = in_airflow(airflow_home, code)
    assert found[0]["nvidia.com/gpu"] == "8"
    assert found[1] == {"deferrable": True, "startup_timeout_seconds": 1800}
    assert found[2:] == [{}, 60, 60]


@pytest.mark.slow
def test_a_task_waits_for_its_pod_deferred_and_knows_wrong_usage_from_failure(
    airflow_home: Path, tmp_path: Path
) -> None:
    """Against a stand-in for the API server; what ``plan`` prints is given, as that takes a shell there."""
    uris = ["s3://out/good", "s3://out/usage", "s3://out/broken"]

    def ends(pod: Pod) -> tuple[int, str]:
        uri = pod["spec"]["containers"][0]["args"][-1]
        code = {"s3://out/usage": 2, "s3://out/broken": 1}.get(uri, 0)
        return code, f"gpucapt: said of {uri}"

    code = f"""
        plan = json.dumps({{"run": "s3://out/run", "shards": {uris!r}}})
        kubernetes_runner.KubernetesPod.extract_xcom = lambda self, pod, **more: plan
        conf = {{"incoming": "s3://in", "destination": "s3://out"}}
        found = answer({{"dag_id": "caption_frames", "conf": conf, "env": {{}}}})
    """
    with running_cluster(ends) as cluster:
        settings = {"KUBECONFIG": str(cluster.configuration(tmp_path / "kubeconfig"))}
        found = in_airflow(airflow_home, code, **settings, GPUCAPT_RETRIES="1", GPUCAPT_RETRY_DELAY="0")
    states = {f"{task}[{index}]": state for task, index, state in found["tasks"]}
    assert states["plan[-1]"] == states["caption[0]"] == states["finish[-1]"] == "success", found
    assert states["caption[1]"] == states["caption[2]"] == "failed", found
    tries = [container(pod)["args"][-1] for pod in cluster.made if "caption" in pod["metadata"]["name"]]
    assert sorted(tries) == sorted([*uris, "s3://out/broken"]), "only what may pass is tried again"
    assert sorted(cluster.deleted) == sorted(pod["metadata"]["name"] for pod in cluster.made)
    log = (airflow_home / "log").read_text()
    assert log.count("new_state=deferred") >= len(cluster.made)
    assert "gpucapt ingest shard ended with exit code 2: gpucapt: said of s3://out/usage" in log
    assert "hidden" not in log


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"GPUCAPT_SHM_SIZE": "much"}, "GPUCAPT_SHM_SIZE is 'much'; it must be a size such as"),
        ({"GPUCAPT_KUBERNETES_TOLERATIONS": "a:Never"}, "GPUCAPT_KUBERNETES_TOLERATIONS has 'a:Never'"),
        ({"GPUCAPT_KUBERNETES_NODE_SELECTOR": "gpu"}, "each part must be key=value"),
        ({"GPUCAPT_KUBERNETES_VOLUMES": "models"}, "each part must be claim:/path"),
        ({"GPUCAPT_KUBERNETES_STARTUP_TIMEOUT": "long"}, "must be a whole number above 0"),
    ],
)
def test_a_wrong_setting_is_named_when_the_dag_is_parsed(
    airflow: Any, settings: dict[str, str], said: str
) -> None:
    found = airflow.parse(GPUCAPT_RUNNER="kubernetes", **settings)
    assert found["dags"] == {}
    assert said in "".join(found["errors"])
