"""The node agent: looks at its machine, tells the API server what it is, serves its readings."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
from prometheus_client import CollectorRegistry, Gauge, Info

from llama_halo.api_server import ApiServer
from llama_halo.node_agent.findings import PROBLEM, findings, gpu_budget_mib
from llama_halo.node_agent.machine import Machine, Readings, read_machine, read_now

log = logging.getLogger(__name__)

STRIX_HALO_LABEL = "llama-halo.dev/strix-halo"
GPU_MEMORY_ANNOTATION = "llama-halo.dev/gpu-memory"
MACHINE_ANNOTATION = "llama-halo.dev/machine"
MANAGER = "llama-halo-node-agent"
LOOK_SECONDS = 30
AGAIN_SECONDS = 600
"""After which the node is told again, whatever changed there meanwhile."""


def node_patch(node: str, machine: Machine, *, budget: bool) -> dict[str, Any]:
    """Return what is applied to a Node: a label, the budget of GPU memory, and the whole of it."""
    annotations = {MACHINE_ANNOTATION: json.dumps(asdict(machine), sort_keys=True)}
    if budget and machine.strix_halo and machine.gtt_mib:
        annotations[GPU_MEMORY_ANNOTATION] = f"{gpu_budget_mib(machine)}Mi"
    labels = {STRIX_HALO_LABEL: "true"} if machine.strix_halo else {}
    metadata = {"name": node, "annotations": annotations, "labels": labels}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata}


class Nodes:
    """The API server, as far as one Node goes."""

    def __init__(self, api_server: ApiServer, node: str) -> None:
        self._api_server = api_server
        self._node = node

    async def tell(self, machine: Machine) -> None:
        """Apply what the machine is; a budget that a person has set stays as it is."""
        async with self._api_server.client(timeout=10) as client:
            answer = await self._apply(client, node_patch(self._node, machine, budget=True))
            if answer.status_code == HTTPStatus.CONFLICT:
                log.info("somebody else has set the node's budget", extra={"node": self._node})
                answer = await self._apply(client, node_patch(self._node, machine, budget=False))
            answer.raise_for_status()

    async def _apply(self, client: httpx.AsyncClient, patch: dict[str, Any]) -> httpx.Response:
        return await client.patch(
            f"/api/v1/nodes/{self._node}",
            params={"fieldManager": MANAGER},
            content=json.dumps(patch),
            headers={
                **self._api_server.headers(),
                "Content-Type": "application/apply-patch+yaml",
            },
        )


@dataclass(frozen=True)
class _Series:
    name: str
    text: str
    value: Callable[[Machine, Readings], float | None]


def _bytes(mib: int | None) -> float | None:
    return None if mib is None else mib * 2**20


_SERIES = (
    _Series("gtt_bytes", "Memory that the GPU may take.", lambda m, _: _bytes(m.gtt_mib)),
    _Series("gtt_used_bytes", "Memory that the GPU took.", lambda _, r: _bytes(r.gtt_used_mib)),
    _Series("vram_bytes", "Memory kept for the GPU.", lambda m, _: _bytes(m.vram_mib)),
    _Series("vram_used_bytes", "Of it in use.", lambda _, r: _bytes(r.vram_used_mib)),
    _Series("temperature_celsius", "The GPU's.", lambda _, r: r.temperature_celsius),
    _Series("power_watts", "The GPU's.", lambda _, r: r.power_watts),
    _Series(
        "problems",
        "What `llama-halo doctor` finds wrong.",
        lambda m, _: sum(each.level == PROBLEM for each in findings(m)),
    ),
)


class AgentMetrics:
    """All series of a node agent, each with the node's name."""

    def __init__(self, node: str) -> None:
        self.registry = CollectorRegistry()
        self._node = node
        self._info = Info(
            "llama_halo_agent_machine", "What the node is.", ["node"], registry=self.registry
        )
        self._gauges = {
            each.name: Gauge(
                f"llama_halo_agent_{each.name}", each.text, ["node"], registry=self.registry
            )
            for each in _SERIES
        }

    def note(self, machine: Machine, now: Readings) -> None:
        """Publish what was seen; what the machine does not tell has no series."""
        self._info.labels(self._node).info(
            {
                "kernel": machine.kernel,
                "board": machine.board,
                "bios_date": machine.bios_date,
                "firmware_date": machine.firmware_date,
                "strix_halo": str(machine.strix_halo).lower(),
            }
        )
        for each in _SERIES:
            value = each.value(machine, now)
            if value is not None:
                self._gauges[each.name].labels(self._node).set(value)


async def watch_machine(root: Path, nodes: Nodes, metrics: AgentMetrics) -> None:
    """Look for ever; tell the API server at the first look, of each change, and now and then."""
    told: Machine | None = None
    since = 0.0
    while True:
        machine = await asyncio.to_thread(read_machine, root)
        metrics.note(machine, await asyncio.to_thread(read_now, root))
        now = asyncio.get_running_loop().time()
        if machine != told or now - since > AGAIN_SECONDS:
            try:
                await nodes.tell(machine)
            except (httpx.HTTPError, OSError) as error:
                log.warning("the node was not told", extra={"reason": str(error)})
            else:
                if machine != told:
                    found = [f"{each.check}: {each.seen}" for each in findings(machine)]
                    log.info("the node was told", extra={"findings": found})
                told, since = machine, now
        await asyncio.sleep(LOOK_SECONDS)
