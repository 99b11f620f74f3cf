"""`python -m hack.bench`: the operator with N LlamaModels and some ModelRouters, measured.

The API server's audit log counts writes and reads, and the benchmark's own watches measure times;
the operator's own reports are not used. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from hack.bench import load
from hack.bench.plot import draw
from hack.bench.watch_observer import WatchObserver
from hack.testbed import audit, control_plane, operator_process, processes, tools
from hack.testbed.cluster import Testbed
from hack.testbed.layout import Ports
from hack.testbed.operator_process import OperatorProcess
from llama_halo.kube.resources import BY_KIND, CHILDREN, LLAMAMODEL, MODELROUTER

DEPLOYMENT, SERVICE = BY_KIND["Deployment"], BY_KIND["Service"]
OF_A_MODEL = "app.kubernetes.io/name=llama-server"
SETTLE_SECONDS = 10
IDLE_SECONDS = 60
EDITS = 100
REPAIRS = 20
# Edits go on at a pace that people and Flux may reach, not back to back.
EDIT_PAUSE_SECONDS = 0.1


class Bench:
    """One benchmark run: its testbed, its client, and the figures so far."""

    def __init__(self, testbed: Testbed, client: load.Client, folder: Path, models: int) -> None:
        self.testbed, self.client, self.folder, self.models = testbed, client, folder, models
        self.kubeconfig = operator_process.write_kubeconfig(testbed, folder / "operator.kubeconfig")
        self.observer = WatchObserver()
        self.samples: list[tuple[float, int, int]] = []
        self.children: list[dict[str, Any]] = []
        self.writes: list[dict[str, Any]] = []

    async def bare_client(self) -> float:
        """Return the seconds that a client without logic needs to write the same two objects."""

        async def write(index: int) -> None:
            place = {
                "name": f"bare-{index}",
                "namespace": load.namespaces()[index % load.NAMESPACES],
            }
            for child in self.children:
                await self.client.create({**child, "metadata": {**child["metadata"], **place}})

        started = time.monotonic()
        await load.at_once(write, range(self.models))
        took = time.monotonic() - started
        await self.client.delete_all((DEPLOYMENT, SERVICE))
        return took

    async def keep_children(self) -> None:
        """Keep one child of each kind, stripped of its owner, for the bare client to write."""
        for kind in (DEPLOYMENT, SERVICE):
            path = kind.path(load.namespaces()[0])
            items = (await self.client.send("GET", f"{path}?labelSelector={OF_A_MODEL}&limit=1"))[
                "items"
            ][0]
            metadata = {
                key: items["metadata"][key]
                for key in ("labels", "annotations")
                if key in items["metadata"]
            }
            spec = {
                key: value
                for key, value in items["spec"].items()
                if not key.startswith("clusterIP")
            }
            self.children.append(
                {
                    "apiVersion": kind.api_version,
                    "kind": kind.kind,
                    "metadata": metadata,
                    "spec": spec,
                }
            )

    def start_operator(self) -> OperatorProcess:
        return OperatorProcess(self.kubeconfig, self.folder / "operator.log")

    async def create_resources(self, routers: int) -> None:
        say(f"creating {self.models} LlamaModels and {routers} ModelRouters")
        await load.at_once(self.client.create, (load.model(i) for i in range(self.models)))
        await load.at_once(self.client.create, (load.router(i) for i in range(routers)))

    async def edits(self) -> list[float]:
        """Edit models one by one; return the milliseconds until each Deployment changed."""
        chosen = random.Random(1).sample(range(self.models), min(EDITS, self.models))  # noqa: S311
        edits = []
        for index in chosen:
            metadata = load.model(index)["metadata"]
            name = f"{metadata['namespace']}/{metadata['name']}"
            path = LLAMAMODEL.path(metadata["namespace"], metadata["name"])
            started = time.monotonic()
            await self.client.send("PATCH", path, {"spec": {"contextSize": 8192}})
            await load.until(
                lambda: self.observer.changed_at.get(name, 0) > started,  # noqa: B023
                seconds=60,
                description=f"the edit of {name}",
            )
            edits.append((self.observer.changed_at[name] - started) * 1000)
            await asyncio.sleep(EDIT_PAUSE_SECONDS)
        return edits

    async def bare_edits(self) -> list[float]:
        """Return the milliseconds that the same writes take without the operator.

        A client patches a LlamaModel, waits for the event, patches its Deployment so that the pod
        rolls, and waits for that event.
        """
        bare_edits = []
        for number, name in enumerate(
            sorted(self.observer.deployments)[:: self.models // EDITS or 1]
        ):
            namespace, _, child = name.partition("/")
            owner = child.rpartition("-")[0]
            note = {"metadata": {"annotations": {"bench.llama-halo.dev/edit": str(number)}}}
            roll = {"spec": {"template": note}}
            started = time.monotonic()
            for kind, target, body in ((LLAMAMODEL, owner, note), (DEPLOYMENT, child, roll)):
                key, before = (kind.kind, f"{namespace}/{target}"), time.monotonic()
                await self.client.send("PATCH", kind.path(namespace, target), body)
                await load.until(
                    lambda: self.observer.event_at.get(key, 0) > before,  # noqa: B023
                    seconds=60,
                    description=f"the event of {target}",
                    pause_seconds=0.001,
                )
            bare_edits.append((time.monotonic() - started) * 1000)
            await asyncio.sleep(EDIT_PAUSE_SECONDS)
        return bare_edits

    async def repairs(self) -> list[float]:
        """Delete Deployments one by one; return the milliseconds until each is there again."""
        repairs = []
        names = sorted(self.observer.deployments)[:: max(1, self.models // REPAIRS)]
        for name in names[:REPAIRS]:
            owner = name.rpartition("-")[0]
            started = time.monotonic()
            await self.client.send("DELETE", DEPLOYMENT.path(*name.split("/")))
            await load.until(
                lambda: self.observer.changed_at.get(owner, 0) > started,  # noqa: B023
                seconds=60,
                description=f"the repair of {name}",
            )
            repairs.append((self.observer.changed_at[owner] - started) * 1000)
            await asyncio.sleep(EDIT_PAUSE_SECONDS)
        return repairs

    @asynccontextmanager
    async def sampling(self, started: float) -> AsyncIterator[None]:
        """Sample the numbers of Deployments and ready models four times a second."""

        async def sample() -> None:
            while True:
                at = time.monotonic() - started
                self.samples.append((at, len(self.observer.deployments), len(self.observer.ready)))
                await asyncio.sleep(0.25)

        task = asyncio.create_task(sample())
        try:
            yield
        finally:
            task.cancel()

    async def quiet(self, *, seconds: float = 300) -> None:
        """Wait until the operator has written nothing for a while."""
        log, deadline = self.testbed.layout.audit_log, time.monotonic() + seconds
        while True:
            since = audit.now()
            await asyncio.sleep(SETTLE_SECONDS)
            if not audit.writes(log, since=since):
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"the operator still writes: {audit.writes(log, since=since)}")

    async def without_controllers(self, routers: int) -> dict[str, float]:
        """Measure a start without controllers, as the rival was measured."""
        for name in ("kube-controller-manager", "kube-scheduler", "kwok"):
            processes.stop(self.testbed.layout, name)
        await self.create_resources(routers)
        started = time.monotonic()
        operator = self.start_operator()
        await load.until(
            lambda: len(self.observer.deployments) >= self.models,
            seconds=600,
            description="the Deployments",
        )
        took = time.monotonic() - started
        say(f"{self.models} Deployments in {took:.1f} s, without controllers")
        await self.quiet()
        edits = await self.edits()
        say(f"{len(edits)} edits: {statistics.median(edits):.0f} ms at the median")
        await self.quiet()
        operator.stop()
        await self.keep_children()
        await self.client.delete_all((MODELROUTER, LLAMAMODEL, *CHILDREN))
        await load.until(
            lambda: not self.observer.deployments, seconds=60, description="the clean-up"
        )
        bare = await self.bare_client()
        say(f"a bare client writes as many Deployments and Services in {bare:.1f} s")
        return {
            "deployments_seconds": round(took, 1),
            "bare_client_seconds": round(bare, 1),
            "times_bare_client": round(took / bare, 2),
            "edit_without_controllers_p50_ms": round(statistics.median(edits)),
            "edit_without_controllers_p95_ms": round(statistics.quantiles(edits, n=20)[-1]),
        }

    async def everything_on(self, routers: int) -> tuple[OperatorProcess, dict[str, float]]:
        """From the operator's start until every model is Ready, with controllers and pods."""
        layout = self.testbed.layout
        control_plane.restart_controllers(layout, tools.build(tools.KUBERNETES))
        control_plane.start_kwok(layout, tools.build(tools.KWOK), nodes=load.nodes_for(self.models))
        await self.create_resources(routers)
        await asyncio.sleep(SETTLE_SECONDS)  # for controllers that just started
        since, started = audit.now(), time.monotonic()
        async with self.sampling(started):
            operator = self.start_operator()
            await load.until(
                lambda: len(self.observer.ready) >= self.models,
                seconds=1200,
                description="all models Ready",
            )
            took = time.monotonic() - started
            say(f"{self.models} models Ready in {took:.1f} s, everything on")
            await self.quiet()
        self.writes = [
            entry for entry in audit.entries(layout.audit_log, since=since) if audit.is_write(entry)
        ]
        of_models = sum(_of_a_model(write) for write in self.writes)
        return operator, {
            "ready_seconds": round(took, 1),
            "writes_per_model": round(of_models / self.models, 2),
        }

    async def at_work(self, operator: OperatorProcess) -> dict[str, float]:
        """Measure single edits and repairs, then one idle minute."""
        milliseconds = await self.edits()
        say(f"{len(milliseconds)} edits: {statistics.median(milliseconds):.0f} ms at the median")
        repairs = await self.repairs()
        # The scheduler may come back to a pod only after a minute, and that is news.
        await load.until(
            lambda: len(self.observer.ready) >= self.models,
            seconds=600,
            description="all Ready again",
        )
        await self.quiet()
        log, since = self.testbed.layout.audit_log, audit.now()
        await asyncio.sleep(IDLE_SECONDS)
        return {
            "edit_p50_ms": round(statistics.median(milliseconds)),
            "edit_p95_ms": round(statistics.quantiles(milliseconds, n=20)[-1]),
            "repair_p95_ms": round(statistics.quantiles(repairs, n=20)[-1]),
            "idle_writes_per_minute": audit.writes(log, since=since).total(),
            "idle_reads_per_minute": audit.reads(log, since=since).total(),
            "rss_mib": round(operator.memory_mib("VmHWM")),
            "cpu_seconds": round(operator.cpu_seconds(), 1),
        }

    async def restart(self, operator: OperatorProcess) -> dict[str, float]:
        """Measure a restart and its writes; then stop the operator and measure a bare client."""
        operator.stop()
        since, started = audit.now(), time.monotonic()
        again = self.start_operator()
        await load.until(again.is_ready, seconds=300, description="the restarted operator")
        took = time.monotonic() - started
        await asyncio.sleep(2 * SETTLE_SECONDS)
        again.stop()
        written = audit.writes(self.testbed.layout.audit_log, since=since)
        bare = await self.bare_edits()
        return {
            "restart_seconds": round(took, 1),
            "restart_writes": written.total(),
            "bare_edit_p50_ms": round(statistics.median(bare)),
            "bare_edit_p95_ms": round(statistics.quantiles(bare, n=20)[-1]),
        }


async def measure(bench: Bench, routers: int) -> dict[str, Any]:
    """Run all phases and return the figures."""
    for name in load.namespaces():
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        await bench.client.send("POST", "/api/v1/namespaces", body)
    client, observer = bench.client, bench.observer
    # In a group: a watch that dies ends the run, instead of letting it wait for what it cannot see.
    async with asyncio.TaskGroup() as tasks:
        watches = [
            tasks.create_task(client.follow(DEPLOYMENT, observer.deployment, metadata_only=True)),
            tasks.create_task(client.follow(LLAMAMODEL, observer.model, metadata_only=False)),
        ]
        figures: dict[str, Any] = {"models": bench.models}
        bare = await bench.without_controllers(routers)
        operator, ready = await bench.everything_on(routers)
        figures |= bare | ready | await bench.at_work(operator)
        figures |= await bench.restart(operator)
        for task in watches:
            task.cancel()
    return figures


def _of_a_model(entry: dict[str, Any]) -> bool:
    return str(entry["objectRef"].get("name", "")).startswith("model-")


def _moments(entries: list[dict[str, Any]]) -> list[float]:
    """Return the seconds of each write since the first."""
    times = [
        datetime.fromisoformat(entry["requestReceivedTimestamp"]).timestamp() for entry in entries
    ]
    return [moment - min(times) for moment in times]


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


async def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Bring a control plane up, measure, and take it down."""
    with tempfile.TemporaryDirectory(prefix="llama-halo-bench-") as name:
        folder = Path(name)
        fakes = load.nodes_for(arguments.models)
        testbed = Testbed(folder / "testbed", with_node=False, ports=Ports.free(), fake_nodes=fakes)
        client = None
        try:
            testbed.up()
            operator_process.install(testbed)
            client = load.Client(testbed.layout)
            bench = Bench(testbed, client, folder, arguments.models)
            figures = await measure(bench, arguments.routers)
            if arguments.svg:
                picture = draw(bench.samples, _moments(bench.writes), models=bench.models)
                arguments.svg.write_text(picture)
            return figures
        finally:
            if client:
                await client.close()
            testbed.down()
            if arguments.log and (folder / "operator.log").exists():
                arguments.log.write_bytes((folder / "operator.log").read_bytes())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m hack.bench", description=__doc__)
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--routers", type=int, default=50)
    parser.add_argument("--svg", type=Path, help="draw the run into this file")
    parser.add_argument("--log", type=Path, help="keep the operator's log in this file")
    print(json.dumps(asyncio.run(run(parser.parse_args()))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
