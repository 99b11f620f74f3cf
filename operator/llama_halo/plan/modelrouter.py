"""ModelRouter -> an immutable ConfigMap with its policy, a Deployment, a Service and RBAC."""

from __future__ import annotations

from typing import Any

from llama_halo.api.modelrouter import ModelRouterSpec
from llama_halo.contract import labels
from llama_halo.contract.lease import lease_name
from llama_halo.contract.reasons import Reason
from llama_halo.plan import children
from llama_halo.plan.config_maps import config_map
from llama_halo.plan.engines.choice import engine_of
from llama_halo.plan.facts import Owner, RouterFacts
from llama_halo.plan.hashing import content_hash
from llama_halo.plan.outcome import Invalid, Object, Outcome, Plan, Ref, Wait
from llama_halo.plan.pods import extra_annotations, extra_labels, pod_additions

DEFAULT_PORT = 8080
_RBAC = "rbac.authorization.k8s.io/v1"
# Long enough for an old pod to finish a long answer to an agent.
GRACE_SECONDS = 600


def plan_modelrouter(spec: ModelRouterSpec, facts: RouterFacts) -> Outcome:
    """Decide what should exist for a ModelRouter."""
    if spec.suspend:
        return Wait(
            Reason.SUSPENDED, "suspended: the operator changes nothing until spec.suspend is false"
        )
    engine, owner = engine_of(spec), facts.owner
    refusal = engine.refusal(spec)
    if refusal:
        return Invalid(Reason.INVALID_SPEC, refusal)
    files = engine.files(owner, spec)
    config_hash = content_hash(files)
    config_name = f"{children.router_name(owner.name)}-config-{config_hash}"
    replicas = 1 if spec.replicas is None else spec.replicas
    objects: list[Object] = [
        config_map(owner, config_name, files),
        _service_account(owner),
        _role_binding(owner, spec, children.router_name(owner.name), cluster_role=True),
        _lease_role(owner, facts),
        _role_binding(owner, spec, _lease_role_name(owner)),
        _service(owner, spec),
        _deployment(owner, spec, facts, config_name=config_name, config_hash=config_hash),
    ]
    if replicas > 1:
        objects.append(_disruption_budget(owner))
    return Plan(
        objects=tuple(objects),
        # A draining pod of the previous version still mounts its own ConfigMap.
        keep=frozenset(Ref("ConfigMap", name) for name in facts.referenced_configs),
        config_hash=config_hash,
        replicas=replicas,
    )


def url(owner: Owner, spec: ModelRouterSpec, cluster_domain: str) -> str:
    """Return the router's URL inside the cluster; the domain `cluster.local` is left out."""
    port = (spec.service and spec.service.port) or DEFAULT_PORT
    suffix = "" if cluster_domain == "cluster.local" else f".{cluster_domain}"
    return f"http://{children.router_name(owner.name)}.{owner.namespace}.svc{suffix}:{port}"


def _service_account(owner: Owner) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": children.child_metadata(owner, children.router_name(owner.name)),
    }


def _lease_role_name(owner: Owner) -> str:
    return f"{children.router_name(owner.name)}-leases"


def _lease_role(owner: Owner, facts: RouterFacts) -> dict[str, Any]:
    """Return the Role for the Leases of the router's own models: no other Lease of the namespace,
    such as the operator's or another controller's, may be changed with a gateway's token."""
    leases = {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "resourceNames": sorted(lease_name(model) for model in facts.models),
        "verbs": ["patch"],
    }
    return {
        "apiVersion": _RBAC,
        "kind": "Role",
        "metadata": children.child_metadata(owner, _lease_role_name(owner)),
        "rules": [leases] if facts.models else [],  # without names, a rule is for all Leases
    }


def _role_binding(
    owner: Owner, spec: ModelRouterSpec, name: str, *, cluster_role: bool = False
) -> dict[str, Any]:
    """Return the binding of the gateway's role to its ServiceAccount; a Role has its name."""
    account = (spec.pod and spec.pod.service_account_name) or children.router_name(owner.name)
    return {
        "apiVersion": _RBAC,
        "kind": "RoleBinding",
        "metadata": children.child_metadata(owner, name),
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole" if cluster_role else "Role",
            "name": labels.GATEWAY_CLUSTER_ROLE if cluster_role else name,
        },
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": owner.namespace}],
    }


def _service(owner: Owner, spec: ModelRouterSpec) -> dict[str, Any]:
    options = spec.service
    metadata = children.child_metadata(owner, children.router_name(owner.name))
    if options and options.annotations:
        metadata["annotations"] = dict(options.annotations)
    port: dict[str, Any] = {
        "name": "http",
        "port": (options and options.port) or DEFAULT_PORT,
        "targetPort": "http",
        "protocol": "TCP",
    }
    if options and options.node_port:
        port["nodePort"] = options.node_port
    service: dict[str, Any] = {
        "type": (options and options.type) or "ClusterIP",
        "selector": children.selector_labels(owner),
        "ports": [port],
    }
    if options and options.load_balancer_class:
        service["loadBalancerClass"] = options.load_balancer_class
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service}


def _deployment(
    owner: Owner,
    spec: ModelRouterSpec,
    facts: RouterFacts,
    *,
    config_name: str,
    config_hash: str,
) -> dict[str, Any]:
    name = children.router_name(owner.name)
    selector = children.selector_labels(owner)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": children.child_metadata(owner, name),
        "spec": {
            "replicas": 1 if spec.replicas is None else spec.replicas,
            "strategy": _strategy(spec),
            "revisionHistoryLimit": 2,
            "selector": {"matchLabels": selector},
            "template": {
                "metadata": {
                    "labels": {**extra_labels(spec.pod), **children.common_labels(owner)},
                    "annotations": {
                        **extra_annotations(spec.pod),
                        labels.CONFIG_HASH: config_hash,
                    },
                },
                "spec": {
                    **engine_of(spec).pod(owner, spec, facts.defaults, config_name),
                    "serviceAccountName": name,
                    "securityContext": {
                        "runAsNonRoot": True,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "terminationGracePeriodSeconds": GRACE_SECONDS,
                    "enableServiceLinks": False,
                    **pod_additions(spec.pod),
                },
            },
        },
    }


def _strategy(spec: ModelRouterSpec) -> dict[str, Any]:
    """Return a rolling update without a gap, unless a host port forbids two pods on a node."""
    if spec.host_port:
        rolling: dict[str, Any] = {"maxSurge": 0, "maxUnavailable": 1}
    else:
        rolling = {"maxSurge": 1, "maxUnavailable": 0}
    return {"type": "RollingUpdate", "rollingUpdate": rolling}


def _disruption_budget(owner: Owner) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": children.child_metadata(owner, children.router_name(owner.name)),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": children.selector_labels(owner)}},
    }
