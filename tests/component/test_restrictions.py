"""The shipped admission policies on a real API server, and the operator beside them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hack.testbed.cluster import Testbed
from hack.testbed.control_plane import kubectl
from hack.testbed.layout import REPOSITORY
from hack.testbed.shell import run
from tests.support.api import Api, Refused, eventually
from tests.support.forbidden_specs import ALLOWED, FORBIDDEN, Json, spec_of

MANIFEST = REPOSITORY / "deploy/operator/restrictions.yaml"


@pytest.fixture(scope="module", autouse=True)
def restrictions(api: Api, control_plane: Testbed) -> Iterator[None]:
    arguments = kubectl(control_plane.layout)
    run(*arguments, "apply", "-f", MANIFEST)
    # The API server takes a moment to read a policy.
    for kind in ("LlamaModel", "ModelRouter"):
        eventually(lambda kind=kind: is_refused(api, kind), description="the policies")
    yield
    run(*arguments, "delete", "-f", MANIFEST)
    # It takes a moment to forget one, too, and the tests that follow write what this one forbids.
    for kind in ("LlamaModel", "ModelRouter"):
        eventually(lambda kind=kind: not is_refused(api, kind), description="no policies")


def resource(kind: str, changes: Json, namespace: str = "default") -> Json:
    metadata = {"name": "tried", "namespace": namespace}
    head = {"apiVersion": "llama-halo.dev/v1alpha1", "kind": kind, "metadata": metadata}
    return {**head, "spec": spec_of(kind, changes)}


def is_refused(api: Api, kind: str) -> bool:
    try:
        api.apply(resource(kind, {"pod": {"serviceAccountName": "editor"}}), dry_run=True)
    except Refused:
        return True
    return False


@pytest.mark.parametrize("case", FORBIDDEN)
def test_what_is_forbidden_is_refused_at_once(api: Api, case: str) -> None:
    kind, changes, text = FORBIDDEN[case]
    with pytest.raises(Refused, match="denied") as refused:
        api.apply(resource(kind, changes), dry_run=True)
    assert text in str(refused.value)


@pytest.mark.parametrize("case", ALLOWED)
def test_what_is_allowed_is_taken(api: Api, case: str) -> None:
    api.apply(resource(*ALLOWED[case]), dry_run=True)
