"""Real requests of real clients, to a model of the cluster and to a provider of each protocol.

`python -m tests.support.record_clients` records them again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from llama_halo.contract.gateway_config import GatewayConfig
from tests.support.canned_server import (
    Canned,
    Reply,
    canned,
    chat_answer,
    json_reply,
    response_answer,
    text_message,
)
from tests.support.gateway import NAMESPACE, Process, SetModel, StartGateway
from tests.support.record_clients import FOLDER

Json = dict[str, Any]
PROTOCOLS = {"oai": "OpenAI", "ant": "Anthropic", "oll": "Ollama"}
LINE = {"model": "x", "message": {"role": "assistant", "content": "Done."}, "done": True}
HOSTED = ("web_search",)
"""Types of tools that no model here can call."""
RECORDINGS = [
    pytest.param(request, id=f"{path.stem}-{number}")
    for path in sorted(FOLDER.glob("*.json"))
    for number, request in enumerate(json.loads(path.read_text()))
]


def model_of_the_cluster(path: str, _: Json) -> Reply:
    if path == "/v1/messages":
        return text_message("Done.")
    return response_answer() if path == "/v1/responses" else chat_answer({"content": "Done."})


@pytest.fixture(scope="module")
def world(
    set_model: SetModel, start_gateway: StartGateway
) -> Iterator[tuple[Process, dict[str, Canned]]]:
    with ExitStack() as stack:
        servers = {name: stack.enter_context(canned()) for name in ("own", *PROTOCOLS)}
        servers["own"].reply = model_of_the_cluster
        servers["ant"].reply = text_message("Done.")
        servers["oll"].reply = json_reply(LINE)
        set_model("rec-own", servers["own"].url)
        models: list[Json] = [
            {"name": name, "provider": name, "model": f"maker/{name}"} for name in PROTOCOLS
        ]
        providers = [
            {
                "name": name,
                "protocol": protocol,
                "base_url": servers[name].url + ("/v1" if name == "oai" else ""),
            }
            for name, protocol in PROTOCOLS.items()
        ]
        config = {
            "router": "recordings",
            "namespace": NAMESPACE,
            "models": [*models, {"name": "own", "llama_model": "rec-own"}],
            "providers": providers,
        }
        yield start_gateway(GatewayConfig.model_validate(config)), servers


@pytest.mark.parametrize("model", ["own", *PROTOCOLS])
@pytest.mark.parametrize("recorded", RECORDINGS)
def test_a_recorded_request_is_answered_and_says_the_same(
    world: tuple[Process, dict[str, Canned]], recorded: Json, model: str
) -> None:
    gateway, servers = world
    servers[model].asked.clear()
    body = {**recorded["body"], "model": model}
    headers = {"User-Agent": recorded["user_agent"]}
    url = f"{gateway.url}{recorded['path']}"
    response = httpx.post(url, json=body, headers=headers, timeout=60)
    assert response.status_code == 200, response.text
    assert "error" not in response.text.partition("\n")[0]
    sent = servers[model].last
    assert names_of(sent.get("tools") or ()) == names_of(body.get("tools") or ())
    everything = json.dumps(sent, ensure_ascii=False)
    for text in texts_of(body):
        assert json.dumps(text, ensure_ascii=False)[1:-1] in everything


def names_of(tools: Any, namespace: str = "") -> list[str]:
    """Return the names under which a model may call these tools."""
    names = []
    for tool in tools:
        if tool.get("type") == "namespace":
            names += names_of(tool["tools"], f"{tool['name']}__")
        elif tool.get("type") not in HOSTED:
            names.append(namespace + (tool.get("function") or tool)["name"])
    return names


def texts_of(body: Json) -> Iterator[str]:
    """Yield the texts of messages and items; Claude Code's billing line is left out on purpose."""
    for item in body.get("messages") or body.get("input") or ():
        if isinstance(item.get("content"), str):
            yield item["content"]
        for part in item.get("content") if isinstance(item.get("content"), list) else ():
            if isinstance(part.get("text"), str):
                yield part["text"]
