"""The Kubernetes runner: each command line in a pod of its own; nobody holds a worker to wait for it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.utils.container import get_container_termination_message
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowSkipException
from kubernetes.client import models as k8s

from operator_base import WRONG_USAGE, Gpus, failure
from worker_environment import SECRET, bytes_in, handed_on, setting, settings_in, whole_number

RESULT_FILE = "/airflow/xcom/return.json"
"""Where KubernetesPodOperator's second container finds what becomes the task's XCom."""

PUBLIC_AWS = re.compile(r"AWS_(DEFAULT_)?REGION|AWS_ENDPOINT_URL(_[A-Z0-9]+)?")
"""Keys never stand in a pod's description: they come from Secrets, or from the service account's role."""

EFFECTS = ("NoSchedule", "NoExecute", "PreferNoSchedule")


class KubernetesPod(KubernetesPodOperator):
    """Runs ``gpucapt`` with ``arguments`` in a pod of the image ``GPUCAPT_IMAGE``."""

    template_fields: Sequence[str] = ("arguments",)
    template_ext: Sequence[str] = ()

    def __init__(self, *, gpus: Gpus = "none", do_xcom_push: bool = True, **options: Any) -> None:
        wanted = gpu_count(gpus)
        shared_memory = str(bytes_in("SHM_SIZE", "8G"))
        volumes, mounts = claims()
        # Read for every task: so a mistake shows when the DAG is parsed, not when the first shard waits.
        where, despite = pairs("KUBERNETES_NODE_SELECTOR"), tolerations()
        super().__init__(
            **{
                "image": setting("IMAGE") or "gpucapt",
                "image_pull_policy": setting("KUBERNETES_PULL_POLICY") or "IfNotPresent",
                "image_pull_secrets": references("KUBERNETES_PULL_SECRETS"),
                "namespace": setting("KUBERNETES_NAMESPACE"),
                "service_account_name": setting("KUBERNETES_SERVICE_ACCOUNT"),
                "pod_template_file": setting("KUBERNETES_POD_TEMPLATE"),
                "name": f"gpucapt-{options['task_id'].replace('_', '-')}",
                "env_vars": variables(do_xcom_push),
                "env_from": [
                    k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name=name))
                    for name in settings_in("KUBERNETES_SECRETS")
                ],
                "container_resources": resources(wanted),
                "node_selector": where if wanted else {},
                "tolerations": despite if wanted else [],
                "volumes": [
                    k8s.V1Volume(
                        name="shared-memory",
                        empty_dir=k8s.V1EmptyDirVolumeSource(medium="Memory", size_limit=shared_memory),
                    ),
                    *volumes,
                ],
                "volume_mounts": [k8s.V1VolumeMount(name="shared-memory", mount_path="/dev/shm"), *mounts],
                "container_security_context": k8s.V1SecurityContext(
                    run_as_non_root=True,
                    allow_privilege_escalation=False,
                    capabilities=k8s.V1Capabilities(drop=["ALL"]),
                ),
                "startup_timeout_seconds": whole_number("KUBERNETES_STARTUP_TIMEOUT", 1800),
                "deferrable": True,
                "poll_interval": 5,
                "logging_interval": whole_number("KUBERNETES_LOG_INTERVAL", 60),
                "container_name_log_prefix_enabled": False,
                # What gpucapt said last becomes the error of the task.
                "termination_message_policy": "FallbackToLogsOnError",
                "log_pod_spec_on_failure": False,
                "log_events_on_failure": True,
                "on_finish_action": "delete_pod",
                "skip_on_exit_code": WRONG_USAGE,
                "do_xcom_push": do_xcom_push,
                **(
                    {"kubernetes_conn_id": connection}
                    if (connection := setting("KUBERNETES_CONNECTION"))
                    else {}
                ),
                **options,
            }
        )

    def build_pod_request_obj(self, context: Context | None = None, **options: Any) -> k8s.V1Pod:
        """As ever, but that ``$(VARIABLE)`` in the name of a file reaches gpucapt as it is."""
        pod = super().build_pod_request_obj(context, **options)
        (ours,) = (part for part in pod.spec.containers if part.name == self.base_container_name)
        ours.args = [argument.replace("$", "$$") for argument in ours.args]
        ours.env = [
            k8s.V1EnvVar(name=variable.name, value=variable.value.replace("$", "$$"))
            if variable.value
            else variable
            for variable in ours.env
        ]
        return pod

    def cleanup(
        self,
        pod: k8s.V1Pod,
        remote_pod: k8s.V1Pod,
        xcom_result: dict[str, Any] | None = None,
        context: Context | None = None,
    ) -> None:
        """As ever, but that wrong usage fails for good instead of being skipped."""
        try:
            super().cleanup(pod, remote_pod, xcom_result, context)
        except AirflowSkipException:
            said = get_container_termination_message(remote_pod, self.base_container_name)
            last = str(said or "").strip().splitlines()[-1:]
            raise failure(self.arguments, WRONG_USAGE, "".join(last)) from None


def gpu_count(gpus: Gpus) -> int:
    """How many GPUs a task asks for: one, or for training ``GPUCAPT_TRAINING_GPUS``: no cluster has "all"."""
    if gpus == "none" or settings_in("GPUS") == ["none"]:
        return 0
    return 1 if gpus == "one" else whole_number("TRAINING_GPUS", 1)


def variables(result: bool) -> dict[str, str]:
    """The settings that may be read by whoever may read pods."""
    found = {
        name: value
        for name, value in handed_on().items()
        if (PUBLIC_AWS.fullmatch(name) if name.startswith("AWS_") else not SECRET.search(name))
    }
    return {**found, "GPUCAPT_RESULT_FILE": RESULT_FILE} if result else found


def resources(gpus: int) -> k8s.V1ResourceRequirements:
    """GPUs are never shared, so their number is the request too; CPUs are requested, memory is limited."""
    resource = setting("KUBERNETES_GPU_RESOURCE") or "nvidia.com/gpu"
    limits = {resource: str(gpus)} if gpus else {}
    requests = dict(limits)
    if gpus and (cpu := setting("KUBERNETES_CPU")):
        requests["cpu"] = cpu
    if gpus and (memory := setting("KUBERNETES_MEMORY")):
        requests["memory"] = limits["memory"] = memory
    return k8s.V1ResourceRequirements(limits=limits, requests=requests)


def tolerations() -> list[k8s.V1Toleration]:
    """Of the taint that GPU nodes usually have, and of those that are set: ``key[=value][:effect]``."""
    found = [k8s.V1Toleration(key="nvidia.com/gpu", operator="Exists", effect="NoSchedule")]
    for text in settings_in("KUBERNETES_TOLERATIONS"):
        rest, _, effect = text.partition(":")
        key, equals, value = rest.partition("=")
        if not key or effect not in ("", *EFFECTS):
            raise ValueError(
                f"GPUCAPT_KUBERNETES_TOLERATIONS has {text!r}; each part must be key, key=value, "
                f"key:effect or key=value:effect, with effect one of {', '.join(EFFECTS)}"
            )
        found.append(
            k8s.V1Toleration(
                key=key,
                operator="Equal" if equals else "Exists",
                value=value if equals else None,
                effect=effect or None,
            )
        )
    return found


def claims() -> tuple[list[k8s.V1Volume], list[k8s.V1VolumeMount]]:
    """The volume claims that ``GPUCAPT_KUBERNETES_VOLUMES`` names: ``claim:/path`` or ``claim:/path:ro``."""
    volumes, mounts = [], []
    for text in settings_in("KUBERNETES_VOLUMES"):
        claim, _, rest = text.partition(":")
        path, _, mode = rest.partition(":")
        if not claim or not path.startswith("/") or mode not in ("", "ro", "rw"):
            raise ValueError(
                f"GPUCAPT_KUBERNETES_VOLUMES has {text!r}; each part must be claim:/path or claim:/path:ro"
            )
        source = k8s.V1PersistentVolumeClaimVolumeSource(claim_name=claim, read_only=mode == "ro")
        volumes.append(k8s.V1Volume(name=claim, persistent_volume_claim=source))
        mounts.append(k8s.V1VolumeMount(name=claim, mount_path=path, read_only=mode == "ro"))
    return volumes, mounts


def pairs(name: str) -> dict[str, str]:
    """A setting that is a list of ``key=value``."""
    found = {}
    for text in settings_in(name):
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise ValueError(f"GPUCAPT_{name} has {text!r}; each part must be key=value")
        found[key] = value
    return found


def references(name: str) -> list[k8s.V1LocalObjectReference]:
    """A setting that is a list of names."""
    return [k8s.V1LocalObjectReference(name=text) for text in settings_in(name)]
