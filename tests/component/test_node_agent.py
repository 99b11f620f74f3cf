"""What the node agent applies to its Node: the real API server, and the chart's permissions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

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
from tests.support.api import Api
from tests.support.machines import build
from tests.support.resources import Json, documents

NODE = "box-1"
LABEL, BUDGET = "llama-halo.dev/strix-halo", "llama-halo.dev/gpu-memory"


@pytest.fixture
def nodes(api: Api, control_plane: Testbed, tmp_path: Path) -> Iterator[NodeWriter]:
    """The agent's way to a Node that nobody else looks after."""
    arguments = kubectl(control_plane.layout)
    shipped = documents(REPOSITORY / "deploy/operator/node-agent.yaml")
    rights = yaml.safe_dump_all([item for item in shipped if item["kind"] != "DaemonSet"])
    run(*arguments, "apply", "-f", "-", stdin=rights)
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
    api.apply({**node, "spec": {"unschedulable": True}})
    file = tmp_path / "token"
    file.write_text(token(control_plane, "llama-halo-node-agent", NAMESPACE))
    layout = control_plane.layout
    yield NodeWriter(ApiServer(layout.server, layout.pki / "ca.crt", file), NODE)
    run(*arguments, "delete", "node", NODE)


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
