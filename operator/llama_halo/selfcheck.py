"""Checks before the operator starts: current CRDs, and the permissions that it needs.

Each failed check raises `StartupError`, whose message names what to apply.
"""

from __future__ import annotations

from typing import Any

from llama_halo.api.crd import HASH_ANNOTATION, all_crds
from llama_halo.errors import NotFound, StartupError
from llama_halo.kube.protocol import KubeApi
from llama_halo.kube.resources import (
    CHILDREN,
    CLAIM,
    CRD,
    EVENT,
    NODE,
    OWNERS,
    POD,
    PRUNED,
    VOLUME,
    Resource,
)

_RULES_REVIEW = Resource(
    "SelfSubjectRulesReview",
    "authorization.k8s.io/v1",
    "selfsubjectrulesreviews",
    namespaced=False,
)
_WATCH = ("list", "watch")
NEEDED: tuple[tuple[Resource, tuple[str, ...]], ...] = (
    *((owner, _WATCH) for owner in OWNERS),
    *((child, ("get", *_WATCH, "create", "patch")) for child in CHILDREN),
    *((child, ("delete",)) for child in CHILDREN if child.kind in PRUNED),
    *(
        (Resource(owner.kind, owner.api_version, f"{owner.plural}/status"), ("patch",))
        for owner in OWNERS
    ),
    (EVENT, ("create", "list")),
    (CLAIM, ("get",)),
    (VOLUME, ("get",)),
    (POD, _WATCH),
    (NODE, _WATCH),
)


async def check_crds(cluster: KubeApi) -> None:
    """Raise `StartupError` unless both CRDs are installed as this version generates them."""
    for crd in all_crds():
        name = crd["metadata"]["name"]
        try:
            installed = await cluster.get(CRD, None, name)
        except NotFound as error:
            raise StartupError(
                f"CustomResourceDefinition {name} is not installed: kubectl apply -f crds/"
            ) from error
        have = (installed["metadata"].get("annotations") or {}).get(HASH_ANNOTATION)
        want = crd["metadata"]["annotations"][HASH_ANNOTATION]
        if have != want:
            raise StartupError(
                f"CustomResourceDefinition {name} is of another version (schema hash {have}, this"
                f" operator needs {want}): kubectl apply -f crds/ of the same release"
            )


async def check_permissions(cluster: KubeApi, namespace: str) -> None:
    """Raise `StartupError` naming every verb that the service account lacks."""
    body = {
        "apiVersion": _RULES_REVIEW.api_version,
        "kind": _RULES_REVIEW.kind,
        "spec": {"namespace": namespace},
    }
    status = (await cluster.create(_RULES_REVIEW, None, body))["status"]
    if status.get("incomplete"):
        return  # the authorizer cannot list its rules; a missing verb shows when a request fails
    rules = status.get("resourceRules", [])
    missing = [
        f"{verb} {resource.plural}.{resource.group}".rstrip(".")
        for resource, verbs in NEEDED
        for verb in verbs
        if not any(_allows(rule, resource, verb) for rule in rules)
    ]
    if missing:
        raise StartupError(
            f"in namespace {namespace} the service account may not: {', '.join(missing)}; apply"
            " deploy/operator/rbac.yaml, or name the namespace in the chart's `namespaces`"
        )


def _allows(rule: dict[str, Any], resource: Resource, verb: str) -> bool:
    return (
        not {verb, "*"}.isdisjoint(rule.get("verbs", ()))
        and not {resource.group, "*"}.isdisjoint(rule.get("apiGroups", ()))
        and not {resource.plural, "*"}.isdisjoint(rule.get("resources", ()))
        and not rule.get("resourceNames")
    )
