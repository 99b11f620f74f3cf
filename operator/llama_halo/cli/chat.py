"""`llama-halo chat NAME`: talk to a model or through a router, by way of the API server."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from typing import Any

from llama_halo.cluster.resources import LLAMAMODEL, MODELROUTER, Resource
from llama_halo.cluster.rest import UNREACHABLE, RestCluster
from llama_halo.errors import ClusterError, NotFound, SettingsError
from llama_halo.plan.labels import router_name

Json = dict[str, Any]
KEY_VARIABLE = "LLAMA_HALO_KEY"


def run(words: list[str]) -> int:
    """Answer one question, or a conversation until the end of input."""
    arguments = _parser().parse_intermixed_args(words)
    try:
        asyncio.run(_talk(arguments))
    except (KeyboardInterrupt, EOFError):
        print()
    return 0


async def _talk(arguments: argparse.Namespace) -> None:
    cluster = await RestCluster.connect()
    try:
        service, model = await _find(cluster, arguments.namespace, arguments.name)
        body: Json = {"model": arguments.model or model, "stream": True, "messages": []}
        question = " ".join(arguments.question)
        while question or not arguments.question:
            question = question or (await asyncio.to_thread(input, "> ")).strip()
            if not question:
                continue
            body["messages"].append({"role": "user", "content": question})
            said = await _answer(cluster, service, arguments.namespace, body)
            body["messages"].append({"role": "assistant", "content": said})
            if arguments.question:
                return
            question = ""
    finally:
        await cluster.close()


async def _find(cluster: RestCluster, namespace: str, name: str) -> tuple[str, str]:
    """Return the Service of a router or model, a router first, and the model's name to ask for."""
    for resource, service in ((MODELROUTER, router_name(name)), (LLAMAMODEL, name)):
        found = await _get(cluster, resource, namespace, name)
        if found is not None:
            return service, "default" if resource is MODELROUTER else name
    raise SettingsError(
        f"there is no ModelRouter or LlamaModel {name} in namespace {namespace}:"
        " llama-halo status lists them, -n names another namespace"
    )


async def _get(cluster: RestCluster, resource: Resource, namespace: str, name: str) -> Json | None:
    try:
        return await cluster.get(resource, namespace, name)
    except NotFound:
        return None
    except (ClusterError, *UNREACHABLE) as error:
        raise SettingsError(f"the cluster does not answer: {error}") from error


async def _answer(cluster: RestCluster, service: str, namespace: str, body: Json) -> str:
    """Print an answer as it comes and return it."""
    key = os.environ.get(KEY_VARIABLE)
    headers = {"x-api-key": key} if key else {}
    said = ""
    try:
        path = "/v1/chat/completions"
        async for line in cluster.stream(service, namespace, path, body, headers):
            word = _word(line)
            said += word
            print(word, end="", flush=True)
    except (ClusterError, *UNREACHABLE) as error:
        raise SettingsError(_why(error, service)) from error
    print()
    return said


def _word(line: bytes) -> str:
    """Return the text that one line of a stream brings; raise for an error in it."""
    if not line.startswith(b"data: {"):
        return ""
    found = json.loads(line.removeprefix(b"data: "))
    if "error" in found:
        raise SettingsError(f"the answer broke off: {found['error'].get('message', found)}")
    choices = found.get("choices") or [{}]
    return str((choices[0].get("delta") or {}).get("content") or "")


def _why(error: Exception, service: str) -> str:
    status = getattr(error, "status", 0)
    if status == 401:
        return f"{service} wants a key: set {KEY_VARIABLE} (llama-halo env says where it is)"
    if status == 503:
        return f"{service} has no pod that answers: llama-halo status says why"
    return f"{service} did not answer: {error}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llama-halo chat",
        description=f"{__doc__} A router that has keys is told one by {KEY_VARIABLE}.",
    )
    parser.add_argument("name", help="a ModelRouter, or else a LlamaModel")
    parser.add_argument("question", nargs="*", help="asked once; without: a conversation")
    parser.add_argument("-n", "--namespace", default="default")
    parser.add_argument("--model", help="one of a router's names; default: by its routes")
    return parser
