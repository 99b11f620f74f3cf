"""Builds the Jobs that run `llama-halo inspect` or `llama-halo fetch` for one source."""

from __future__ import annotations

from typing import Any

from llama_halo.api.llamamodel import LlamaModelSpec, Source
from llama_halo.api.schema import KeyReference
from llama_halo.contract import labels
from llama_halo.contract.model import JOB_PORT
from llama_halo.plan import children, server
from llama_halo.plan.facts import FETCH, INSPECT, Defaults, Owner
from llama_halo.plan.hashing import content_hash
from llama_halo.plan.model_files import is_on_claim
from llama_halo.plan.node_constraints import node_constraints
from llama_halo.plan.node_selection import candidates_affinity, pod_affinity
from llama_halo.plan.pods import extra_annotations, extra_labels, pod_additions

HEADERS_MOUNT = "/etc/llama-halo/headers"
USER = 65532
# The kubelet restarts a failed container with a growing pause. A download must survive an outage of
# a night, so the limit is out of reach.
_MAX_RESTARTS = 1_000_000
DEADLINE_SECONDS = 7 * 24 * 3600
"""A server that sends a few bytes now and then must not keep a pod for ever."""
_POD_FIELDS = (
    "nodeSelector",
    "tolerations",
    "imagePullSecrets",
    "priorityClassName",
    "serviceAccountName",
)
"""Of spec.pod: those that the Jobs' pods have, too."""
_RESOURCES = {
    INSPECT: {"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"memory": "512Mi"}},
    FETCH: {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
}


def job(  # noqa: PLR0913  (all that a Job depends on, by name)
    owner: Owner,
    spec: LlamaModelSpec,
    defaults: Defaults,
    *,
    work: str,
    role: str,
    node: str,
    source: Source,
    about: str,
    requested_at: str,
    arguments: list[str],
) -> dict[str, Any]:
    """Return a complete Job; `about` is the source's hash (inspect) or the file's path (fetch)."""
    pod = _pod(
        spec,
        defaults,
        namespace=owner.namespace,
        work=work,
        node=node,
        source=source,
        arguments=arguments,
    )
    depends_on = [role, node, about, requested_at, arguments, _secret_names(source)]
    name = f"{owner.name}-{work}-{content_hash(depends_on, 5)}"
    metadata = children.child_metadata(owner, name)
    metadata["labels"] |= {labels.WORK: work, labels.ROLE: role}
    metadata["annotations"] = {labels.SOURCE: about} | (
        ({labels.NODE: node} if node else {})
        | ({labels.REQUESTED_AT: requested_at} if requested_at else {})
    )
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "backoffLimit": _MAX_RESTARTS,
            "activeDeadlineSeconds": DEADLINE_SECONDS,
            "template": {"metadata": _pod_metadata(owner, spec, work), "spec": pod},
        },
    }


def _pod_metadata(owner: Owner, spec: LlamaModelSpec, work: str) -> dict[str, Any]:
    """Return the metadata of a Job's pod: policies want the labels of the model's own there."""
    pod_labels = children.common_labels(owner)
    del pod_labels[labels.MODEL]
    metadata: dict[str, Any] = {
        "labels": {
            **extra_labels(spec.pod),
            **pod_labels,
            "app.kubernetes.io/name": "model-files",
            labels.FILES_OF: owner.name,
            labels.WORK: work,
        }
    }
    annotations = extra_annotations(spec.pod)
    return metadata | ({"annotations": annotations} if annotations else {})


def _pod(
    spec: LlamaModelSpec,
    defaults: Defaults,
    *,
    namespace: str,
    work: str,
    node: str,
    source: Source,
    arguments: list[str],
) -> dict[str, Any]:
    mounts: list[dict[str, Any]] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108
    volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {}}]
    on_disk = work == FETCH or source.local is not None
    if source.local is None:
        arguments = [*arguments, "--namespace", namespace]
    if on_disk:
        volumes.insert(0, server.store_volume(spec, defaults))
        mount: dict[str, Any] = {"name": "models", "mountPath": server.MODELS_MOUNT}
        mounts.insert(0, mount | ({} if work == FETCH else {"readOnly": True}))
        arguments = [*arguments, "--store", server.MODELS_MOUNT]
    if work == FETCH and not is_on_claim(spec):
        arguments = [*arguments, "--reserve", defaults.store_reserve]
    if source.http and source.http.headers_secret_ref:
        secret = source.http.headers_secret_ref.name
        volumes.append({"name": "headers", "secret": {"secretName": secret}})
        mounts.append({"name": "headers", "mountPath": HEADERS_MOUNT, "readOnly": True})
        arguments = [*arguments, "--headers", HEADERS_MOUNT]
    container: dict[str, Any] = {
        "name": work,
        "image": defaults.gateway_image,
        "imagePullPolicy": "IfNotPresent",
        "args": [work, *arguments],
        "resources": _resources(spec, work),
        # The termination message is the answer; after a crash it is the end of the log.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }
    environment = _environment(source, defaults)
    if environment:
        container["env"] = environment
    if work == FETCH:
        container["ports"] = [{"name": "http", "containerPort": JOB_PORT, "protocol": "TCP"}]
    options = pod_additions(spec.pod)
    affinity = pod_affinity(None, node) if node else {}
    if not node and is_on_claim(spec):
        # On a WaitForFirstConsumer class, the first consumer decides where the volume is for ever.
        affinity = candidates_affinity(node_constraints(spec))
    return {
        "restartPolicy": "OnFailure",
        "containers": [container],
        "volumes": volumes,
        "securityContext": _security(spec, on_disk=on_disk),
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 10,
        **{name: options[name] for name in _POD_FIELDS if name in options},
        **({"affinity": affinity} if affinity else {}),
    }


def _resources(spec: LlamaModelSpec, work: str) -> dict[str, Any]:
    """Return a container's resources; it has a CPU limit where the model's pod has one, because a
    quota on `limits.cpu` wants one of every pod."""
    own = spec.pod.resources if spec.pod else None
    limit = ((own and own.limits) or {}).get("cpu")
    resources = _RESOURCES[work]
    return resources | {"limits": {**resources["limits"], "cpu": limit}} if limit else resources


def _security(spec: LlamaModelSpec, *, on_disk: bool) -> dict[str, Any]:
    """Return the pod's security context.

    Only root may write to a folder of the node. A claim's volume is given to a group (fsGroup).
    """
    security_context: dict[str, Any] = {"seccompProfile": {"type": "RuntimeDefault"}}
    if on_disk and not is_on_claim(spec):
        return {**security_context, "runAsUser": 0}
    security_context |= {"runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER}
    if not on_disk:
        return security_context
    # Without the policy, the kubelet changes group and mode of every file, at every start.
    return {**security_context, "fsGroup": USER, "fsGroupChangePolicy": "OnRootMismatch"}


def _environment(source: Source, defaults: Defaults) -> list[dict[str, Any]]:
    if not source.hugging_face:
        return []
    environment: list[dict[str, Any]] = []
    if defaults.hub_endpoint:
        environment.append({"name": "HF_ENDPOINT", "value": defaults.hub_endpoint})
    secret = source.hugging_face.token_secret_ref
    if secret:
        environment.append({"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": _reference(secret)}})
    return environment


def _reference(secret: KeyReference) -> dict[str, str]:
    return {"name": secret.name, "key": secret.key}


def _secret_names(source: Source) -> list[Any]:
    hub, http = source.hugging_face, source.http
    token = _reference(hub.token_secret_ref) if hub and hub.token_secret_ref else None
    return [token, http.headers_secret_ref.name if http and http.headers_secret_ref else None]
