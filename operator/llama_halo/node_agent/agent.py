"""The node agent: reads its machine, publishes it on the Node, and serves metrics."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client import CollectorRegistry, Gauge, Info

from llama_halo.api_server import (
    REQUEST_ERRORS,
    ApiServer,
    certificate_problem,
    parse_object,
    require_success,
)
from llama_halo.contract import labels
from llama_halo.node_agent.findings import PROBLEM, findings, gpu_budget_mib
from llama_halo.node_agent.machine import Machine, Readings, read_machine, read_now

log = logging.getLogger(__name__)

MANAGER = "llama-halo-node-agent"
POLL_SECONDS = 30
_TIMEOUT = aiohttp.ClientTimeout(total=10)
REAPPLY_SECONDS = 600
"""Seconds after which the agent applies its data again, even without a change."""


def node_patches(node: str, machine: Machine) -> dict[str, dict[str, Any]]:
    """Return the patches to apply to a Node, by field manager: the machine annotation, the Strix
    Halo label, and the GPU memory budget.

    A GPU whose driver reports no memory gets a budget of 0.
    """
    strix_halo = machine.strix_halo
    budget = {labels.GPU_MEMORY: f"{gpu_budget_mib(machine)}Mi"} if strix_halo else {}
    node_annotations = {labels.MACHINE: json.dumps(asdict(machine), sort_keys=True)}
    return {
        MANAGER: _patch(node, annotations=node_annotations),
        f"{MANAGER}-label": _patch(node, labels={labels.STRIX_HALO: "true"} if strix_halo else {}),
        f"{MANAGER}-budget": _patch(node, annotations=budget),
    }


def _patch(node: str, **metadata: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node, **metadata}}


class NodeWriter:
    """Writes one Node on the API server."""

    def __init__(self, api_server: ApiServer, node: str) -> None:
        self._api_server = api_server
        self._node = node

    async def apply(self, machine: Machine) -> None:
        """Apply the patches; a label or budget of another field manager stays."""
        async with self._api_server.client(_TIMEOUT) as client:
            for manager, patch in node_patches(self._node, machine).items():
                async with client.patch(
                    f"api/v1/nodes/{self._node}",
                    params={"fieldManager": manager},
                    data=json.dumps(patch),
                    allow_redirects=False,
                    headers={
                        **self._api_server.headers(),
                        "Content-Type": "application/apply-patch+yaml",
                    },
                ) as answer:
                    if answer.status != HTTPStatus.CONFLICT:
                        await require_success(answer)
                        continue
                    log.info(
                        "node field has another manager and is kept",
                        extra={
                            "node": self._node,
                            "reason": parse_object(await answer.read()).get("message", ""),
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
        lambda m, _: sum(finding.level == PROBLEM for finding in findings(m)),
    ),
)


class AgentMetrics:
    """The node agent's metrics, each with the node's name as label."""

    def __init__(self, node: str) -> None:
        self.registry = CollectorRegistry()
        self._node = node
        self._info = Info(
            "llama_halo_agent_machine", "What the node is.", ["node"], registry=self.registry
        )
        self._gauges = {
            series.name: Gauge(
                f"llama_halo_agent_{series.name}", series.text, ["node"], registry=self.registry
            )
            for series in _SERIES
        }

    def note(self, machine: Machine, now: Readings) -> None:
        """Publish the readings; a value that the machine does not report has no series."""
        self._info.labels(self._node).info(
            {
                "kernel": machine.kernel,
                "board": machine.board,
                "bios_date": machine.bios_date,
                "firmware_date": machine.firmware_date,
                "strix_halo": str(machine.strix_halo).lower(),
            }
        )
        for series in _SERIES:
            value, gauge = series.value(machine, now), self._gauges[series.name]
            if value is not None:
                gauge.labels(self._node).set(value)
            else:
                with suppress(KeyError):
                    gauge.remove(self._node)


class MachinePoller:
    """Polls the machine for ever, and publishes its data."""

    def __init__(self, root: Path, nodes: NodeWriter, metrics: AgentMetrics) -> None:
        self._root, self._nodes, self._metrics = root, nodes, metrics
        self._polled_at = time.monotonic()
        self._published: Machine | None = None
        self._published_at = 0.0

    @property
    def stuck_seconds(self) -> float:
        """Seconds since the last complete poll: reading from a GPU that hangs may hang."""
        return time.monotonic() - self._polled_at

    async def run(self) -> None:
        """Poll for ever; publish at the first poll, on each change, and every `REAPPLY_SECONDS`."""
        while True:
            machine = await asyncio.to_thread(read_machine, self._root)
            self._metrics.note(machine, await asyncio.to_thread(read_now, self._root))
            self._polled_at = time.monotonic()
            if machine != self._published or self._polled_at - self._published_at > REAPPLY_SECONDS:
                await self._publish(machine)
            await asyncio.sleep(POLL_SECONDS)

    async def _publish(self, machine: Machine) -> None:
        try:
            await self._nodes.apply(machine)
        except REQUEST_ERRORS as error:
            reason = certificate_problem(error) or f"{type(error).__name__}: {error}"
            log.warning("node not updated", extra={"reason": reason})
            return
        if machine != self._published:
            problems = [f"{finding.check}: {finding.symptom}" for finding in findings(machine)]
            log.info("node updated", extra={"findings": problems})
        self._published, self._published_at = machine, time.monotonic()
