"""The work of `llama-halo wake` and `llama-halo sleep`.

For an on-demand model they write to its Lease, as a gateway or the operator does. For any other
model they change its replicas. Then they wait for the result.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from llama_halo.contract.lease import GATEWAY_PREFIX, PHASE_ANNOTATION, Phase, lease_name
from llama_halo.contract.reasons import ConditionType, Reason
from llama_halo.contract.text import printable
from llama_halo.controllers.facts import owner_of
from llama_halo.errors import CliError, ClusterError, Conflict, NotFound
from llama_halo.kube.apply import MANAGER, with_applied_hash
from llama_halo.kube.client import REQUEST_ERRORS, KubeClient, current_namespace
from llama_halo.kube.resources import LEASE, LLAMAMODEL
from llama_halo.plan.llamamodel import lease
from llama_halo.status.conditions import condition

Json = dict[str, Any]
Action = Callable[["ActivationTarget"], Awaitable[str]]
ENTRY_SECONDS = 5.0
ATTEMPT_SECONDS, MAX_ATTEMPTS = 5.0, 6
"""Seconds of an attempt, and attempts: a model counts as busy for 15 s after its last request."""
POLL_SECONDS = 0.5
ENTRY = f"{GATEWAY_PREFIX}llama-halo-cli"


class ActivationTarget:
    """The LlamaModel of a command, and the command's deadline."""

    def __init__(self, cluster: KubeClient, namespace: str, name: str, timeout: float) -> None:
        self._cluster, self.namespace, self.name = cluster, namespace, name
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._printed = ""

    async def model(self) -> Json:
        try:
            return await self._cluster.get(LLAMAMODEL, self.namespace, self.name)
        except NotFound as error:
            raise CliError(
                f"there is no LlamaModel {self.name} in namespace {self.namespace}: llama-halo"
                " status lists them, -n names another namespace"
            ) from error

    async def scale(self, replicas: int) -> None:
        body = {"spec": {"replicas": replicas}}
        where = (LLAMAMODEL, self.namespace, self.name)
        await self._cluster.merge(*where, body, subresource="/scale")

    async def write_entry(self, text: str | None) -> None:
        """Write an entry (COUNTER/IN_FLIGHT) on the Lease, as a gateway does; None removes it."""
        body = {"metadata": {"annotations": {ENTRY: text}}}
        await self._cluster.merge(LEASE, self.namespace, lease_name(self.name), body)

    async def phase(self) -> tuple[str, str]:
        """Return the Lease's phase and resourceVersion."""
        name = lease_name(self.name)
        metadata = (await self._cluster.get(LEASE, self.namespace, name))["metadata"]
        phase = (metadata.get("annotations") or {}).get(PHASE_ANNOTATION, "")
        return phase, metadata["resourceVersion"]

    async def change_phase(self, model: Json, old: Phase, new: Phase) -> None:
        """Write the new phase as the operator does, if the Lease still has the old one."""
        phase, version = await self.phase()
        if phase != old:
            return
        body = with_applied_hash(lease(owner_of(model), new))
        body = {**body, "metadata": {**body["metadata"], "resourceVersion": version}}
        try:
            await self._cluster.apply(LEASE, body, manager=MANAGER)
        except Conflict:
            return  # somebody else wrote in the meantime, and their phase stays

    async def poll_once(self) -> tuple[Json, str]:
        """Print the model's state if it is new, pause, and return the model and its state; raises
        `CliError` at the deadline."""
        model = await self.model()
        ready = _ready(model)
        shown = printable(f"{ready.get('reason', '')}: {ready.get('message', '')}")
        if shown != self._printed:
            print(shown, flush=True)
            self._printed = shown
        if time.monotonic() > self._deadline:
            raise CliError(
                f"timed out after {self._timeout:g} s: see kubectl -n {self.namespace} describe"
                f" llamamodel {self.name}"
            )
        await asyncio.sleep(POLL_SECONDS)
        return model, str(ready.get("reason", ""))


def _ready(model: Json) -> Json:
    return dict(condition(model.get("status") or {}, ConditionType.READY))


def _is_available(model: Json) -> bool:
    available = condition(model.get("status") or {}, ConditionType.AVAILABLE)
    return available.get("status") == "True"


def _is_on_demand(model: Json) -> bool:
    return "onDemand" in (model["spec"].get("activation") or {})


def _refuse_stalled_or_suspended(model: Json, name: str) -> None:
    """Raise `CliError` for a stalled or suspended model."""
    stalled = condition(model.get("status") or {}, ConditionType.STALLED)
    if stalled.get("status") == "True":
        raise CliError(f"{name} is stalled: {stalled['reason']}: {stalled['message']}")
    if model["spec"].get("suspend"):
        raise CliError(f"{name} is suspended (spec.suspend): the operator touches nothing")


async def wake(target: ActivationTarget) -> str:
    """Load a model, and wait until it serves; return the message to print."""
    model = await target.model()
    _refuse_stalled_or_suspended(model, target.name)
    if model["spec"].get("replicas", 1) == 0:
        await target.scale(1)
    if not _is_on_demand(model):
        await _wait_until_serving(target)
        return f"{target.name} serves"
    counter, written_at = 0, float("-inf")
    try:
        while True:
            if time.monotonic() - written_at > ENTRY_SECONDS:
                counter, written_at = counter + 1, time.monotonic()
                await target.write_entry(f"{counter}/1")
            model, state = await target.poll_once()
            # A rollout that waits for the model to be idle would wait for this command.
            if state == Reason.SERVING or (state == Reason.ROLLING and _is_available(model)):
                return (
                    f"{target.name} serves; the operator unloads it after idleTimeout without use"
                )
            _refuse_stalled_or_suspended(model, target.name)
    finally:
        await target.write_entry(None)


async def _wait_until_serving(target: ActivationTarget) -> None:
    while True:
        model, state = await target.poll_once()
        if state == Reason.SERVING:
            return
        _refuse_stalled_or_suspended(model, target.name)


async def sleep(target: ActivationTarget) -> str:
    """Unload a model that nobody uses; return the message to print."""
    model = await target.model()
    state = _ready(model).get("reason")
    if state in (Reason.IDLE, Reason.STOPPED):
        return f"{target.name} holds no memory"
    if not _is_on_demand(model):
        return await _stop(target, model)
    _refuse_stalled_or_suspended(model, target.name)
    if state != Reason.SERVING:
        raise CliError(f"{target.name} does not serve ({state}): there is nothing to unload")
    await _unload(target, model)
    while (await target.poll_once())[1] != Reason.IDLE:
        pass
    return f"{target.name} is unloaded; the next request loads it"


async def _unload(target: ActivationTarget, model: Json) -> None:
    """Start an unload on the Lease; the operator then checks the server and decides.

    Retries while the model counts as busy. If it stays loaded, restores the phase and raises
    `CliError`.
    """
    try:
        for _ in range(MAX_ATTEMPTS):
            await target.change_phase(model, Phase.LOADED, Phase.UNLOADING)
            asked_at = time.monotonic()
            while time.monotonic() - asked_at < ATTEMPT_SECONDS:
                await target.poll_once()
                if (await target.phase())[0] == Phase.IDLE:
                    return
    finally:
        await target.change_phase(model, Phase.UNLOADING, Phase.LOADED)
    raise CliError(f"{target.name} is in use: it stays loaded")


async def _stop(target: ActivationTarget, model: Json) -> str:
    """Scale an always-on model to zero replicas; its open requests end with its pods."""
    replicas = model["spec"].get("replicas", 1)
    await target.scale(0)
    while (await target.poll_once())[1] != Reason.STOPPED:
        pass
    again = f"llama-halo wake {target.name}"
    if replicas > 1:
        again = f"kubectl scale llamamodel {target.name} --replicas={replicas}"
    return f"{target.name} is unloaded and stays so (replicas is 0) until `{again}`"


def main(argv: list[str], command: str, action: Action, timeout_seconds: float) -> int:
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(prog=f"llama-halo {command}")
    parser.add_argument("model", help="a LlamaModel")
    parser.add_argument("-n", "--namespace", default=current_namespace())
    parser.add_argument("--timeout", type=float, default=timeout_seconds, metavar="SECONDS")
    arguments = parser.parse_args(argv)
    print(asyncio.run(_run(action, arguments)))
    return 0


async def _run(action: Action, arguments: argparse.Namespace) -> str:
    cluster = await KubeClient.connect()
    try:
        return await action(
            ActivationTarget(cluster, arguments.namespace, arguments.model, arguments.timeout)
        )
    except (ClusterError, *REQUEST_ERRORS) as error:
        raise CliError(f"the request to the API server failed: {error}") from error
    finally:
        await cluster.close()
