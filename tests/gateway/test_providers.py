"""Models elsewhere: each client's API before each provider's protocol, with the real gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import httpx
import ollama
import openai
import pytest

from llama_halo.contract.gateway_config import GatewayConfig
from tests.support.gateway import NAMESPACE, Process, SetModel, StartGateway
from tests.support.scripted_server import Scripted, scripted

Json = dict[str, Any]
PROTOCOLS = ("OpenAI", "Anthropic", "Ollama")
PATHS = {
    "OpenAI": "/v1/chat/completions",
    "Anthropic": "/v1/messages",
    "Ollama": "/api/chat",
}
SECRET = "sk-of-the-provider-0123456789"
TEXT = "Hello world!"
QUESTION: list[Any] = [{"role": "user", "content": "What is 1+2?"}]
SCHEMA: Json = {"type": "object", "properties": {"a": {"type": "integer"}}}


@dataclass
class World:
    """A gateway whose router has a provider of each protocol."""

    gateway: Process
    servers: dict[str, Scripted]
    keys: Path
    anthropic: anthropic.Anthropic
    openai: openai.OpenAI
    ollama: ollama.Client

    def __getitem__(self, protocol: str) -> Scripted:
        return self.servers[protocol]


@pytest.fixture(scope="module")
def providers(
    set_model: SetModel, start_gateway: StartGateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    keys = tmp_path_factory.mktemp("provider-keys")
    with ExitStack() as stack:
        servers = {protocol: stack.enter_context(scripted()) for protocol in PROTOCOLS}
        spare = stack.enter_context(scripted())
        set_model("p-spare", spare.url)
        for protocol in PROTOCOLS:
            (keys / protocol.lower()).write_text(f"{SECRET}\n")
        config = GatewayConfig.model_validate(
            {
                "router": "elsewhere",
                "namespace": NAMESPACE,
                "models": [
                    {"name": entry, "provider": entry.lower(), "model": f"maker/{entry.lower()}-1"}
                    for entry in PROTOCOLS
                ]
                + [
                    {"name": "spare", "llama_model": "p-spare"},
                    {"name": "covered", "provider": "openai", "model": "maker/covered"},
                ],
                "providers": [
                    {
                        "name": entry.lower(),
                        "protocol": entry,
                        "base_url": servers[entry].url + ("/v1" if entry == "OpenAI" else ""),
                        "has_key": True,
                        "max_concurrent": 2,
                    }
                    for entry in PROTOCOLS
                ],
                "fallbacks": {"covered": ["spare"]},
                "hold_seconds": 5,
            }
        )
        gateway = start_gateway(config, "--provider-keys", keys)
        url, bare = gateway.url, {"api_key": "none", "max_retries": 0}
        yield World(
            gateway,
            {**servers, "spare": spare},
            keys,
            stack.enter_context(anthropic.Anthropic(base_url=url, **bare)),
            stack.enter_context(openai.OpenAI(base_url=f"{url}/v1", **bare)),
            stack.enter_context(ollama.Client(url)),
        )


@pytest.fixture
def world(providers: World) -> World:
    for server in providers.servers.values():
        server.wait_until_idle()
        server.asked.clear()
        server.mode, server.calls, server.pause_seconds, server.most_working = "ok", False, 0.0, 0
    return providers


every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)


def sent_with_its_key(world: World, protocol: str) -> Json:
    path, headers, body = world[protocol].asked[-1]
    assert path == PATHS[protocol]
    lower = {name.lower(): value for name, value in headers.items()}
    if protocol == "Anthropic":
        assert lower["x-api-key"] == SECRET
        assert lower["anthropic-version"]
    else:
        assert lower["authorization"] == f"Bearer {SECRET}"
    assert body["model"] == f"maker/{protocol.lower()}-1"
    assert isinstance(body["stream"], bool)
    return body


@every_protocol
def test_a_message_is_answered_by_each(world: World, protocol: str) -> None:
    whole = world.anthropic.messages.create(model=protocol, max_tokens=9, messages=QUESTION)
    sent_with_its_key(world, protocol)
    with world.anthropic.messages.stream(
        model=protocol, max_tokens=9, messages=QUESTION, system="Be brief."
    ) as stream:
        streamed = stream.get_final_message()
    for message in (whole, streamed):
        assert message.content[0].type == "text"
        assert message.content[0].text == TEXT
        assert (message.stop_reason, message.model) == ("end_turn", protocol)
        assert message.usage.output_tokens == 3
    assert "Be brief." in json.dumps(world[protocol].last)


@every_protocol
def test_a_chat_is_answered_by_each(world: World, protocol: str) -> None:
    whole = world.openai.chat.completions.create(model=protocol, messages=QUESTION)
    sent_with_its_key(world, protocol)
    assert whole.choices[0].message.content == TEXT
    assert (whole.choices[0].finish_reason, whole.model) == ("stop", protocol)
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (7, 3)
    with world.openai.chat.completions.create(
        model=protocol, messages=QUESTION, stream=True
    ) as stream:
        pieces = list(stream)
    assert (
        "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices) == TEXT
    )


@every_protocol
def test_a_response_is_answered_by_each(world: World, protocol: str) -> None:
    whole = world.openai.responses.create(model=protocol, input="What?", instructions="Be brief.")
    sent_with_its_key(world, protocol)
    assert (whole.output_text, whole.status) == (TEXT, "completed")
    assert whole.usage is not None
    assert (whole.usage.input_tokens, whole.usage.output_tokens) == (7, 3)
    events = list(world.openai.responses.create(model=protocol, input="What?", stream=True))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == TEXT
    assert events[-1].type == "response.completed"
    assert [event.sequence_number for event in events] == list(range(len(events)))


@every_protocol
def test_an_ollama_chat_is_answered_by_each(world: World, protocol: str) -> None:
    whole = world.ollama.chat(model=protocol, messages=QUESTION, options={"num_predict": 9})
    sent_with_its_key(world, protocol)
    assert whole.message.content == TEXT
    assert (whole.eval_count, whole.done_reason) == (3, "stop")
    pieces = list(world.ollama.chat(model=protocol, messages=QUESTION, stream=True))
    assert "".join(piece.message.content or "" for piece in pieces) == TEXT


def tool(api: str) -> Json:
    if api == "anthropic":
        return {"name": "add", "description": "Add", "input_schema": SCHEMA}
    if api == "responses":
        return {"type": "function", "name": "add", "parameters": SCHEMA}
    return {"type": "function", "function": {"name": "add", "parameters": SCHEMA}}


@every_protocol
def test_a_tool_is_called_by_each_and_its_result_goes_back(world: World, protocol: str) -> None:
    world[protocol].calls = True
    client = world.anthropic.messages
    asked: Json = {"model": protocol, "max_tokens": 9, "tools": [tool("anthropic")]}
    with client.stream(messages=QUESTION, **asked) as stream:
        message = stream.get_final_message()
    (call,) = [block for block in message.content if block.type == "tool_use"]
    assert (call.name, message.stop_reason) == ("add", "tool_use")
    assert isinstance(call.input, dict)
    assert call.input["a"] == 1
    world[protocol].calls = False
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "it is 3"}
    history = [
        *QUESTION,
        {"role": "assistant", "content": [block.model_dump() for block in message.content]},
        {"role": "user", "content": [result, {"type": "text", "text": "And?"}]},
    ]
    client.create(messages=history, **asked)
    body = json.dumps(sent_with_its_key(world, protocol))
    assert "it is 3" in body
    assert '"add"' in body
    assert call.id in body or protocol == "Ollama", "which has no numbers"


@every_protocol
def test_a_chats_tools_are_called_by_each(world: World, protocol: str) -> None:
    world[protocol].calls = True
    reply = world.openai.chat.completions.create(
        model=protocol, messages=QUESTION, tools=[tool("openai")], tool_choice="required"
    )
    assert reply.choices[0].finish_reason == "tool_calls"
    (call,) = reply.choices[0].message.tool_calls or ()
    assert call.type == "function"
    assert call.function.name == "add"
    assert json.loads(call.function.arguments)["a"] == 1


@every_protocol
def test_a_responses_tools_are_called_by_each(world: World, protocol: str) -> None:
    world[protocol].calls = True
    reply = world.openai.responses.create(model=protocol, input="x", tools=[tool("responses")])
    (call,) = [block for block in reply.output if block.type == "function_call"]
    assert (call.name, json.loads(call.arguments)["a"]) == ("add", 1)


def test_a_provider_of_the_clients_own_api_gets_what_the_client_sent(world: World) -> None:
    search = {"type": "web_search_20250305", "name": "web_search"}
    body: Json = {
        "model": "Anthropic",
        "max_tokens": 9,
        "messages": [*QUESTION, {"role": "system", "content": "x"}],
        "tools": [search],
        "context_management": {"edits": []},
        "thinking": {"type": "adaptive"},
    }
    headers = {"anthropic-beta": "context-management-2025-06-27", "x-api-key": "the-clients"}
    response = httpx.post(f"{world.gateway.url}/v1/messages", json=body, headers=headers)
    assert response.status_code == 200
    _, supplied, sent = world["Anthropic"].asked[-1]
    assert sent == {**body, "model": "maker/anthropic-1", "stream": False}
    lower = {name.lower(): value for name, value in supplied.items()}
    assert lower["anthropic-beta"] == headers["anthropic-beta"]
    assert lower["x-api-key"] == SECRET, "never the client's"


def test_a_models_own_name_and_the_providers_stand_for_it(world: World) -> None:
    for name in ("maker/openai-1", "openai,maker/openai-1", "OpenAI:latest"):
        world.openai.chat.completions.create(model=name, messages=QUESTION)
        assert world["OpenAI"].last["model"] == "maker/openai-1"
    listed = {entry.id for entry in world.openai.models.list()}
    assert {"OpenAI", "maker/openai-1", "spare"} <= listed


@pytest.mark.parametrize(
    ("mode", "status"),
    [("busy", 429), ("locked", 502), ("moved", 502), ("broken", 502), ("loading", 502)],
)
def test_what_is_wrong_with_a_provider_is_no_fault_of_the_client(
    world: World, mode: str, status: int
) -> None:
    world["OpenAI"].mode = mode
    ask = world.openai.chat.completions.create
    with pytest.raises(openai.APIStatusError) as value:
        ask(model="OpenAI", messages=QUESTION)
    assert value.value.status_code == status
    assert "provider openai" in str(value.value)
    assert SECRET not in value.value.response.text
    answer = ask(model="covered", messages=QUESTION)
    assert answer.choices[0].message.content == TEXT, "its fallback answers"
    assert world["spare"].asked


def test_a_prompt_that_a_provider_refuses_is_the_clients_fault(world: World) -> None:
    world["OpenAI"].mode = "overflow"
    with pytest.raises(openai.BadRequestError):
        world.openai.chat.completions.create(model="covered", messages=QUESTION)
    assert not world["spare"].asked


def test_a_provider_whose_key_is_away_is_told_and_covered_for(world: World) -> None:
    file = world.keys / "openai"
    file.rename(world.keys / "away")
    try:
        with pytest.raises(openai.APIStatusError, match="API key of provider openai") as value:
            world.openai.chat.completions.create(model="OpenAI", messages=QUESTION)
        assert value.value.status_code == 502
        world.openai.chat.completions.create(model="covered", messages=QUESTION)
        assert world["spare"].asked
    finally:
        (world.keys / "away").rename(file)


@every_protocol
def test_one_that_dies_in_the_middle_is_told_as_that(world: World, protocol: str) -> None:
    world[protocol].mode = "die"
    with pytest.raises(openai.APIError, match="before the answer was complete"):
        list(world.openai.chat.completions.create(model=protocol, messages=QUESTION, stream=True))
    with pytest.raises(anthropic.InternalServerError, match="before the answer was complete"):
        world.anthropic.messages.create(model=protocol, max_tokens=9, messages=QUESTION)


@every_protocol
def test_one_that_answers_in_no_words_of_its_api_is_told_as_that(
    world: World, protocol: str
) -> None:
    world[protocol].mode = "garble"
    for stream in (False, True):
        path = "messages" if protocol == "OpenAI" else "chat/completions"
        response = httpx.post(
            f"{world.gateway.url}/v1/{path}",
            json={"model": protocol, "messages": QUESTION, "stream": stream, "max_tokens": 9},
        )
        if response.status_code == 200:
            assert "Hello" not in response.text
        else:
            assert "an invalid answer" in response.json()["error"]["message"]


def test_no_more_requests_are_there_at_once_than_it_may_have(world: World) -> None:
    world["OpenAI"].pause_seconds = 0.2
    with ThreadPoolExecutor(8) as pool:
        ask = world.openai.chat.completions.create
        value = [pool.submit(ask, model="OpenAI", messages=QUESTION) for _ in range(8)]
        assert all(item.result().choices for item in value)
    assert world["OpenAI"].most_working == 2


def test_what_a_protocol_has_no_words_for_is_refused_by_name(world: World) -> None:
    with pytest.raises(openai.BadRequestError, match="Anthropic API, which has no /v1/embeddings"):
        world.openai.embeddings.create(model="Anthropic", input="x", encoding_format="float")
    reply = world.openai.embeddings.create(model="OpenAI", input="x", encoding_format="float")
    assert reply.data[0].embedding == [3.0, 4.0]
    assert reply.model == "OpenAI"
    text = world.openai.audio.transcriptions.create(model="OpenAI", file=("a.wav", b"RIFF"))
    assert text.text == TEXT
    assert "maker/openai-1" in world["OpenAI"].last["form"]
    with pytest.raises(openai.BadRequestError, match="has no /v1/audio"):
        world.openai.audio.transcriptions.create(model="Ollama", file=("a.wav", b"RIFF"))
