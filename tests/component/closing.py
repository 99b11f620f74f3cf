"""The shipped permissions: enough (every other component test runs under them), and no more."""

from __future__ import annotations

from hack.testbed import audit
from hack.testbed.cluster import Testbed
from hack.testbed.layout import REPOSITORY
from tests.support.api import Api
from tests.support.resources import documents


def used(control_plane: Testbed) -> set[tuple[str, str, str]]:
    """Return (group, resource, verb) of what the operator was allowed, from the audit log."""
    value = set()
    for entry in audit.entries(control_plane.layout.audit_log):
        ref, code = entry["objectRef"], entry["responseStatus"]["code"]
        if code == 403:
            continue
        name = "/".join(filter(None, (ref["resource"], ref.get("subresource"))))
        value.add((ref.get("apiGroup", ""), name, entry["verb"]))
        if entry["verb"] == "patch" and code == 201:
            value.add((ref.get("apiGroup", ""), name, "create"))
    return value


def test_no_permission_is_shipped_that_the_operator_never_used(
    api: Api, control_plane: Testbed
) -> None:
    shipped = {
        (group, resource, verb)
        for document in documents(REPOSITORY / "deploy/operator/rbac.yaml")
        if document["metadata"]["name"] == "llama-halo-operator"
        for rule in document.get("rules", ())
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    # `bind` shows as the creation of a RoleBinding that the operator could not make otherwise.
    bind = ("rbac.authorization.k8s.io", "clusterroles", "bind")
    assert bind in shipped
    assert ("rbac.authorization.k8s.io", "rolebindings", "create") in used(control_plane)
    assert shipped - used(control_plane) == {bind}
