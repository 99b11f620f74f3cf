"""What `llama-halo wake` and `llama-halo sleep` do: say on a model's Lease what a gateway or the
operator would, or change its replicas, and wait for what comes of it."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from llama_halo.api.reasons import ConditionType, Reason
from llama_halo.cluster.apply import MANAGER, with_applied_hash
from llama_halo.cluster.resources import LEASE, LLAMAMODEL
from llama_halo.cluster.rest import UNREACHABLE, RestCluster
from llama_halo.errors import ClusterError, SettingsError
from llama_halo.plan import labels
from llama_halo.plan.facts import Phase
from llama_halo.plan.llamamodel import lease
from llama_halo.reconcile.gather import identity
from llama_halo.status.conditions import condition

Json = dict[str, Any]
SAY_SECONDS = 5.0
ENTRY = f"{labels.GATEWAY_PREFIX}llama-halo-cli"
RESTING = (Reason.IDLE, Reason.STOPPED)


async def wake(cluster: RestCluster, namespace: str, name: str, patience_seconds: float) -> str:
    """Load a model, and keep wanting it until it serves; return what to tell."""
    model = await _model(cluster, namespace, name)
    if not _on_demand(model) and model["spec"].get("replicas", 1) == 0:
        await _scale(cluster, namespace, name, 1)
    counter = 0

    async def want() -> None:
        nonlocal counter
        counter += 1
        await _say(cluster, namespace, name, f"{counter}/1")

    try:
        await _until(
            cluster,
            (namespace, name),
            (Reason.SERVING,),
            patience_seconds,
            want if _on_demand(model) else None,
        )
    finally:
        if counter:
            await _say(cluster, namespace, name, None)
    return f"{name} serves"


async def sleep(cluster: RestCluster, namespace: str, name: str, patience_seconds: float) -> str:
    """Unload a model that nobody uses; return what to tell."""
    model = await _model(cluster, namespace, name)
    if _state(model) in RESTING:
        return f"{name} holds no memory"
    if not _on_demand(model):
        await _scale(cluster, namespace, name, 0)
        await _until(cluster, (namespace, name), RESTING, patience_seconds, None)
        return f"{name} is unloaded and stays so until `llama-halo wake {name}` (replicas is 0)"
    # To the word what the operator writes itself: it asks the server, and has the last word. Who
    # was just answered counts as somebody who uses it for a quarter of a minute.
    told = with_applied_hash(lease(identity(model), Phase.UNLOADING))

    async def ask() -> None:
        await cluster.apply(LEASE, told, manager=MANAGER)

    await _until(cluster, (namespace, name), RESTING, patience_seconds, ask)
    return f"{name} is unloaded; the next request loads it"


async def _model(cluster: RestCluster, namespace: str, name: str) -> Json:
    try:
        return await cluster.get(LLAMAMODEL, namespace, name)
    except ClusterError as error:
        raise SettingsError(f"LlamaModel {namespace}/{name}: {error}") from error


def _on_demand(model: Json) -> bool:
    return "onDemand" in (model["spec"].get("activation") or {})


def _state(model: Json) -> str:
    return str(condition(model.get("status") or {}, ConditionType.READY).get("reason", ""))


async def _scale(cluster: RestCluster, namespace: str, name: str, replicas: int) -> None:
    body = {"spec": {"replicas": replicas}}
    await cluster.merge(LLAMAMODEL, namespace, name, body, subresource="/scale")


async def _say(cluster: RestCluster, namespace: str, name: str, text: str | None) -> None:
    """Say how many requests for a model are in flight here, as a gateway does."""
    body = {"metadata": {"annotations": {ENTRY: text}}}
    await cluster.merge(LEASE, namespace, labels.lease_name(name), body)


async def _until(
    cluster: RestCluster,
    of: tuple[str, str],
    wanted: tuple[Reason, ...],
    patience_seconds: float,
    every: Callable[[], Awaitable[None]] | None,
) -> None:
    """Wait for one of some states, saying something every few seconds; tell each that is new."""
    deadline, told = time.monotonic() + patience_seconds, ""
    said_at = 0.0
    while True:
        model = await _model(cluster, *of)
        ready = condition(model.get("status") or {}, ConditionType.READY)
        if ready.get("reason") in wanted:
            return
        shown = f"{ready.get('reason', '')}: {ready.get('message', '')}"
        if shown != told:
            print(shown, flush=True)
            told = shown
        if time.monotonic() > deadline:
            raise SettingsError(
                f"not within {patience_seconds:g} s; somebody may use it, or it may be on its way:"
                f" kubectl -n {of[0]} describe llamamodel {of[1]}"
            )
        if every and time.monotonic() - said_at > SAY_SECONDS:
            await every()
            said_at = time.monotonic()
        await asyncio.sleep(0.5)


def main(
    words: list[str],
    what: str,
    act: Callable[[RestCluster, str, str, float], Awaitable[str]],
    patience_seconds: float,
) -> int:
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(prog=f"llama-halo {what}")
    parser.add_argument("model", help="a LlamaModel")
    parser.add_argument("-n", "--namespace", default="default")
    parser.add_argument("--timeout", type=float, default=patience_seconds, metavar="SECONDS")
    arguments = parser.parse_args(words)
    print(asyncio.run(_run(act, arguments)))
    return 0


async def _run(
    act: Callable[[RestCluster, str, str, float], Awaitable[str]], arguments: argparse.Namespace
) -> str:
    cluster = await RestCluster.connect()
    try:
        return await act(cluster, arguments.namespace, arguments.model, arguments.timeout)
    except (ClusterError, *UNREACHABLE) as error:
        raise SettingsError(f"the cluster does not answer as it should: {error}") from error
    finally:
        await cluster.close()
