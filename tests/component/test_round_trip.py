"""Every golden object, applied to the real API server and read back, needs no further write.

The API server rewrites what it stores (`26624Mi` comes back as `26Gi`); an object that is not in
its spelling would look like drift for ever.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from hack.testbed import tools
from llama_halo.kube.apply import MANAGER, with_applied_hash
from llama_halo.kube.diff import difference
from llama_halo.plan.outcome import Plan
from tests.support.api import Api
from tests.support.golden import cases, load, plan

# Before 1.34 an API server drops what it does not serve unless it is told to; the operator notices.
CLAIMS = "spec.template.spec.containers[llama-server].resources.claims"
WITH_CLAIMS = ("model-rocm-claim", "model-vulkan-claim")


@pytest.mark.parametrize("path", cases(), ids=lambda path: path.stem)
def test_a_golden_object_comes_back_as_it_was_sent(api: Api, namespace: str, path: Path) -> None:
    resource = load(path)
    resource["metadata"]["namespace"] = namespace
    uid = api.apply(resource)["metadata"]["uid"]
    outcome = plan(resource, uid=uid)
    assert isinstance(outcome, Plan)
    for desired in outcome.objects:
        body = with_applied_hash(desired)
        api.apply(body, manager=MANAGER)
        metadata = desired["metadata"]
        live = api.get(desired["kind"], metadata["namespace"], metadata["name"])
        dropped = tools.KUBERNETES.is_oldest and path.stem in WITH_CLAIMS
        of_a_pod = desired["kind"] == "Deployment"
        assert difference(body, live) == (CLAIMS if dropped and of_a_pod else None)
