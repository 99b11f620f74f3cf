"""What the node agent applies to its Node: the real API server, and the chart's permissions."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from hack.testbed.cluster import Testbed
from hack.testbed.control_plane import kubectl
from hack.testbed.layout import REPOSITORY
from hack.testbed.operator_process import NAMESPACE, token
from hack.testbed.shell import run
from llama_halo.api_server import ApiServer
from llama_halo.node_agent.agent import NodeWriter
from llama_halo.node_agent.machine import Machine, read_machine
from tests.support.api import Api, eventually
from tests.support.machines import build
from tests.support.resources import Json, documents

NODE, OTHER = "box-1", "box-2"
POD, ACCOUNT = "node-agent-of-box-1", "llama-halo-node-agent"
LABEL, BUDGET = "llama-halo.dev/strix-halo", "llama-halo.dev/gpu-memory"


@pytest.fixture
def nodes(api: Api, control_plane: Testbed, tmp_path: Path) -> Iterator[NodeWriter]:
    """The agent's way to a Node that nobody else looks after."""
    arguments = kubectl(control_plane.layout)
    shipped = documents(REPOSITORY / "deploy/operator/node-agent.yaml")
    rights = yaml.safe_dump_all([item for item in shipped if item["kind"] != "DaemonSet"])
    run(*arguments, "apply", "-f", "-", stdin=rights)
    for name in (NODE, OTHER):
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
        api.apply({**node, "spec": {"unschedulable": True}})
    # The token of a pod names its node.
    (agent,) = [item for item in shipped if item["kind"] == "DaemonSet"]
    metadata = {"name": POD, "namespace": NAMESPACE}
    spec = {**agent["spec"]["template"]["spec"], "nodeName": NODE}
    api.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    bound = ("--bound-object-kind", "Pod", "--bound-object-name", POD)
    file = tmp_path / "token"
    file.write_text(
        run(*arguments, "create", "token", ACCOUNT, "--namespace", NAMESPACE, *bound).strip()
    )
    # The API server takes a moment to read a policy.
    probe = {"metadata": {"labels": {LABEL: "false"}}}
    eventually(lambda: patch_as_agent(control_plane, file, OTHER, probe), description="the policy")
    layout = control_plane.layout
    yield NodeWriter(ApiServer(layout.server, layout.pki / "ca.crt", file), NODE)
    at_once = ("--force", "--grace-period=0", "--namespace", NAMESPACE)
    run(*arguments, "delete", "pod", POD, *at_once)
    run(*arguments, "delete", "node", NODE, OTHER)


def patch_as_agent(plane: Testbed, credentials: Path, node: str, patch: Json) -> str:
    """Patch a Node with the agent's token; return the API server's refusal, empty without one."""
    layout = plane.layout
    answer = httpx.patch(
        f"{layout.server}/api/v1/nodes/{node}",
        json=patch,
        headers={
            "Authorization": f"Bearer {credentials.read_text()}",
            "Content-Type": "application/merge-patch+json",
        },
        verify=ssl.create_default_context(cafile=layout.pki / "ca.crt"),
    )
    return "" if answer.is_success else str(answer.json()["message"])


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return read_machine(build(tmp_path / "box"))


def metadata(api: Api) -> Json:
    value: Json = (api.get("Node", "", NODE) or {})["metadata"]
    return {"labels": value.get("labels") or {}, "annotations": value.get("annotations") or {}}


def tell(nodes: NodeWriter, machine: Machine) -> None:
    async def tell_and_close() -> None:
        await nodes.apply(machine)
        await asyncio.sleep(0.25)  # aiohttp's TLS connections close after their session

    asyncio.run(tell_and_close())


def test_a_strix_halo_is_labelled_and_given_its_budget(
    api: Api, nodes: NodeWriter, machine: Machine
) -> None:
    tell(nodes, machine)
    node_metadata = metadata(api)
    assert node_metadata["labels"][LABEL] == "true"
    assert node_metadata["annotations"][BUDGET] == f"{111 * 1024}Mi"


def test_what_a_person_has_set_stays_and_the_rest_is_told(
    api: Api, nodes: NodeWriter, machine: Machine
) -> None:
    set_by_hand = {"labels": {LABEL: "false"}, "annotations": {BUDGET: "64Gi"}}
    api.patch("Node", "", NODE, {"metadata": set_by_hand})
    tell(nodes, machine)
    node_metadata = metadata(api)
    assert node_metadata["labels"][LABEL] == "false"
    assert node_metadata["annotations"][BUDGET] == "64Gi"
    assert "6.19.12" in node_metadata["annotations"]["llama-halo.dev/machine"]


def test_a_machine_that_is_a_strix_halo_no_longer_loses_both(
    api: Api, nodes: NodeWriter, machine: Machine, tmp_path: Path
) -> None:
    tell(nodes, machine)
    tell(nodes, read_machine(build(tmp_path / "other", device="0x744c")))
    node_metadata = metadata(api)
    assert LABEL not in node_metadata["labels"]
    assert BUDGET not in node_metadata["annotations"]


OWN_NODE, METADATA_ALONE = "only the Node that its pod runs on", "labels and annotations alone"


@pytest.mark.parametrize(
    ("node", "patch", "refusal"),
    [
        (OTHER, {"metadata": {"labels": {LABEL: "true"}}}, OWN_NODE),
        (OTHER, {"spec": {"unschedulable": True}}, OWN_NODE),
        (NODE, {"spec": {"unschedulable": None}}, METADATA_ALONE),
        (NODE, {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}, METADATA_ALONE),
        (NODE, {"metadata": {"labels": {"node-role.kubernetes.io/x": ""}}}, "no labels but"),
        (NODE, {"metadata": {"annotations": {"example.com/x": "y"}}}, "no annotations but"),
        (NODE, {"metadata": {"finalizers": ["example.com/x"]}}, METADATA_ALONE),
        (NODE, {"metadata": {"labels": {LABEL: "true"}}}, ""),
    ],
    ids=str,
)
def test_a_stolen_token_changes_only_our_metadata_of_its_own_node(
    nodes: NodeWriter,
    control_plane: Testbed,
    tmp_path: Path,
    node: str,
    patch: Json,
    refusal: str,
) -> None:
    message = patch_as_agent(control_plane, tmp_path / "token", node, patch)
    assert refusal in message
    assert bool(message) is bool(refusal)


def test_a_token_of_no_pod_changes_no_node(
    nodes: NodeWriter, control_plane: Testbed, tmp_path: Path
) -> None:
    unbound = tmp_path / "unbound"
    unbound.write_text(token(control_plane, ACCOUNT, NAMESPACE))
    patch = {"metadata": {"labels": {LABEL: "true"}}}
    assert OWN_NODE in patch_as_agent(control_plane, unbound, NODE, patch)
