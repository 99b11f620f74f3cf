"""Public reports about clients, routers and servers of this field, each as a test.

The numbers are those of the project's list of reports; `docs/spec/api-compatibility.md` says what
stays refused. The servers behind the gateway are canned: what matters is what they are asked, and
what becomes of what they answer. `test_templates.py` has the reports about chat templates.
"""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import pytest

from llama_halo.contract.gateway_config import GatewayConfig
from tests.support.canned_server import (
    Canned,
    Reply,
    block,
    canned,
    chat_answer,
    chat_chunk,
    json_reply,
    message_answer,
    response_answer,
    sse,
    text_message,
)
from tests.support.files import pdf_of
from tests.support.gateway import NAMESPACE, Process, SetModel, StartGateway

Json = dict[str, Any]
PROTOCOLS = {"oai": "OpenAI", "ant": "Anthropic", "oll": "Ollama"}
WORD = "quicksilver"
PIXEL = "iVBORw0KGgo="
OLLAMA_LINES = (
    json.dumps({"model": "x", "message": {"role": "assistant", "content": "4"}, "done": False})
    + "\n"
    + json.dumps({"model": "x", "message": {}, "done": True, "done_reason": "stop"})
    + "\n"
).encode()
OLLAMA = Reply(OLLAMA_LINES, "application/x-ndjson")
WHOLE_CHAT = {
    "id": "c9",
    "object": "chat.completion",
    "created": 5,
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
}


PDF = base64.b64encode(pdf_of(WORD)).decode()
PDF_BLOCK: Json = {
    "type": "document",
    "title": "a.pdf",
    "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
}
TEXT_BLOCK: Json = {
    "type": "document",
    "title": "a.txt",
    "source": {"type": "text", "media_type": "text/plain", "data": WORD},
}
QUESTION = [{"role": "user", "content": "What is 2+2?"}]


@dataclass
class World:
    """A gateway before a server of the cluster and a provider of each protocol."""

    gateway: Process
    servers: dict[str, Canned]

    def __getitem__(self, name: str) -> Canned:
        return self.servers[name]

    def post(self, path: str, body: Json, **headers: str) -> httpx.Response:
        return httpx.post(f"{self.gateway.url}{path}", json=body, headers=headers, timeout=30)

    def message(self, model: str, content: Any = "hi", **fields: Any) -> httpx.Response:
        messages = content if _is_messages(content) else [{"role": "user", "content": content}]
        body = {"model": model, "max_tokens": 9, "messages": messages, **fields}
        return self.post("/v1/messages", body)

    def chat(self, model: str, content: Any = "hi", **fields: Any) -> httpx.Response:
        messages = content if _is_messages(content) else [{"role": "user", "content": content}]
        return self.post("/v1/chat/completions", {"model": model, "messages": messages, **fields})

    def responses(self, model: str, items: Any = "hi", **fields: Any) -> httpx.Response:
        return self.post("/v1/responses", {"model": model, "input": items, **fields})

    def ollama(self, model: str, **fields: Any) -> httpx.Response:
        body = {"model": model, "messages": QUESTION, "stream": False, **fields}
        return self.post("/api/chat", body)


def _is_messages(content: Any) -> bool:
    return isinstance(content, list) and bool(content) and "role" in content[0]


@pytest.fixture(scope="module")
def started(set_model: SetModel, start_gateway: StartGateway) -> Iterator[World]:
    with ExitStack() as stack:
        servers = {name: stack.enter_context(canned()) for name in ("own", "spare", *PROTOCOLS)}
        set_model(
            "rc-own",
            servers["own"].url,
            about={"architecture": "qwen3", "parameters": "7.6B", "capabilities": ["Vision"]},
        )
        set_model("rc-vectors", servers["own"].url, mode="Embedding")
        set_model("rc-spare", servers["spare"].url)
        models: list[Json] = [
            {"name": name, "provider": name, "model": f"maker/{name}"} for name in PROTOCOLS
        ]
        config = GatewayConfig.model_validate(
            {
                "router": "reports",
                "namespace": NAMESPACE,
                "models": [
                    *models,
                    {"name": "own", "llama_model": "rc-own"},
                    {"name": "vectors", "llama_model": "rc-vectors"},
                    {"name": "spare", "llama_model": "rc-spare"},
                    {"name": "covered", "provider": "oai", "model": "maker/covered"},
                    {"name": "covered-ant", "provider": "ant", "model": "maker/covered"},
                    {"name": "brief", "provider": "oai", "model": "x", "max_tokens": 8192},
                ],
                "providers": [
                    {
                        "name": name,
                        "protocol": protocol,
                        "base_url": servers[name].url + ("/v1" if name == "oai" else ""),
                    }
                    for name, protocol in PROTOCOLS.items()
                ],
                "fallbacks": {"covered": ["spare"], "covered-ant": ["spare"]},
                "hold_seconds": 5,
            }
        )
        yield World(start_gateway(config), servers)


@pytest.fixture
def world(started: World) -> World:
    replies = {"ant": text_message(), "oll": OLLAMA}
    for name, server in started.servers.items():
        server.asked.clear()
        server.reply = replies.get(name, chat_answer({"content": "4"}))
    return started


def events_of(response: httpx.Response) -> list[Json]:
    data = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    return [json.loads(item) for item in data if item != "[DONE]"]


def calls(*pieces: Json) -> Reply:
    return chat_answer(*({"tool_calls": [piece]} for piece in pieces), reason="tool_calls")


def call_of(arguments: Any, name: str = "read", **fields: Any) -> Json:
    function = {"name": name, "arguments": arguments}
    return {"index": 0, "id": "call_1", "type": "function", "function": function, **fields}


READ: Json = {"type": "function", "name": "read", "parameters": {"type": "object"}}
TOOLS: list[Json] = [
    {"type": "namespace", "name": "mcp__files", "description": "x", "tools": [READ]},
    {"type": "namespace", "name": "mcp__db", "description": "x", "tools": [READ]},
    {"type": "custom", "name": "apply_patch", "description": "Edit files."},
]


class TestNamespacesAndCustomTools:
    def call(self, name: str, arguments: str) -> Json:
        head = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "status": "completed"}
        return {**head, "name": name, "arguments": arguments}

    @pytest.mark.parametrize("streams", [False, True])
    @pytest.mark.parametrize("model", ["own", "oai"])
    def test_g01_a_call_keeps_its_namespace(self, world: World, model: str, streams: bool) -> None:
        offered = "mcp__files__read"
        world["own"].reply = response_answer(self.call(offered, '{"p": "a"}'))
        world["oai"].reply = calls(call_of('{"p": "a"}', offered))
        response = world.responses(model, tools=TOOLS, stream=streams)
        named = [
            tool.get("name") or tool["function"]["name"] for tool in world[model].last["tools"]
        ]
        assert named == ["mcp__files__read", "mcp__db__read", "apply_patch"]
        if streams:
            values = events_of(response)
            items = [value["item"] for value in values if "item" in value]
            items += values[-1]["response"]["output"]
        else:
            items = response.json()["output"]
        assert items
        for item in items:
            assert (item["namespace"], item["name"]) == ("mcp__files", "read")

    def test_g01_a_call_in_the_history_has_the_offered_name(self, world: World) -> None:
        call = {"type": "function_call", "call_id": "c", "name": "read", "arguments": "{}"}
        items = [*QUESTION, {**call, "namespace": "mcp__db"}]
        output = {"type": "function_call_output", "call_id": "c", "output": "x"}
        world["own"].reply = response_answer()
        world.responses("own", [*items, output], tools=TOOLS)
        sent = world["own"].last["input"][1]
        assert sent["name"] == "mcp__db__read"
        assert "namespace" not in sent

    @pytest.mark.parametrize("streams", [False, True])
    def test_g11_a_custom_tool_is_offered_and_called_with_text(
        self, world: World, streams: bool
    ) -> None:
        patch = "*** Begin Patch\n+ü\n*** End Patch"
        world["own"].reply = response_answer(self.call("apply_patch", json.dumps({"input": patch})))
        response = world.responses("own", tools=TOOLS, stream=streams)
        assert world["own"].last["tools"][2]["parameters"]["required"] == ["input"]
        if not streams:
            (item,) = response.json()["output"]
            assert (item["type"], item["input"], item["name"]) == (
                *("custom_tool_call", patch, "apply_patch"),
            )
            return
        values = events_of(response)
        kinds = [value["type"] for value in values]
        assert "response.function_call_arguments.delta" not in kinds
        deltas = [
            v["delta"] for v in values if v["type"] == "response.custom_tool_call_input.delta"
        ]
        assert deltas == [patch]
        assert values[-1]["response"]["output"][0]["input"] == patch

    @pytest.mark.parametrize("streams", [False, True])
    def test_a_custom_tool_of_a_chat(self, world: World, streams: bool) -> None:
        world["own"].reply = calls(
            call_of('{"inp', "patch"),
            {"index": 0, "function": {"arguments": 'ut": "p"}'}},
        )
        tool = {"type": "custom", "custom": {"name": "patch", "description": "x"}}
        response = world.chat("own", tools=[tool], stream=streams)
        assert world["own"].last["tools"][0]["function"]["name"] == "patch"
        if streams:
            deltas = [value["choices"][0]["delta"] for value in events_of(response)]
            pieces = [piece for delta in deltas for piece in delta.get("tool_calls", ())]
        else:
            pieces = response.json()["choices"][0]["message"]["tool_calls"]
        assert [piece["custom"] for piece in pieces] == [{"name": "patch", "input": "p"}]

    def test_a_tool_that_only_openai_runs_is_named_in_the_header(self, world: World) -> None:
        world["own"].reply = response_answer()
        response = world.responses("own", tools=[{"type": "web_search"}, *TOOLS])
        assert response.status_code == 200
        assert "tools.web_search" in response.headers["x-omitted"]

    def test_a_tool_that_the_client_runs_in_a_form_of_its_own_is_refused(
        self, world: World
    ) -> None:
        for kind in ("local_shell", "shell", "apply_patch", "computer", "of_tomorrow"):
            response = world.responses("own", tools=[{"type": kind}])
            assert response.status_code == 400
            assert "tools.0.type" in response.json()["error"]["message"]


class TestItems:
    def test_g03_a_reference_to_an_item_is_refused(self, world: World) -> None:
        items = [*QUESTION, {"type": "item_reference", "id": "fc_123"}]
        response = world.responses("own", items)
        assert response.status_code == 400
        assert "Item with id 'fc_123' not found" in response.json()["error"]["message"]

    @pytest.mark.parametrize("kind", ["computer_call", "compaction", "shell_call", "of_tomorrow"])
    def test_an_item_without_a_meaning_here_is_refused(self, world: World, kind: str) -> None:
        response = world.responses("own", [*QUESTION, {"type": kind, "id": "x"}])
        assert response.status_code == 400
        assert "input.1.type" in response.json()["error"]["message"]

    @pytest.mark.parametrize("summary", [{"summary": None}, {}, {"summary": []}])
    def test_g52_thoughts_without_a_summary(self, world: World, summary: Json) -> None:
        content = [{"type": "reasoning_text", "text": "Hm."}]
        thought = {"type": "reasoning", "id": "r1", "content": content, **summary}
        world["own"].reply = response_answer()
        assert world.responses("own", [*QUESTION, thought]).status_code == 200
        assert world["own"].last["input"][1]["summary"] == []

    def test_thoughts_with_null_parts(self, world: World) -> None:
        thought = {"type": "reasoning", "id": "r1", "content": None, "summary": None}
        part = {"type": "reasoning", "content": [None, {"type": "reasoning_text", "text": None}]}
        world["own"].reply = response_answer()
        assert world.responses("own", [*QUESTION, thought, part]).status_code == 200
        assert len(world["own"].last["input"]) == 1

    def test_a_summary_of_encrypted_thoughts_is_read(self, world: World) -> None:
        summary = [{"type": "summary_text", "text": "So."}]
        thought = {"type": "reasoning", "encrypted_content": "x", "summary": summary}
        world["own"].reply = response_answer()
        world.responses("own", [*QUESTION, thought])
        assert world["own"].last["input"][1]["content"][0]["text"] == "So."

    def test_what_openais_servers_did_is_read_as_text(self, world: World) -> None:
        call = {"type": "code_interpreter_call", "id": "x", "code": WORD, "container_id": "c"}
        world["own"].reply = response_answer()
        world.responses("own", [*QUESTION, call])
        assert WORD in json.dumps(world["own"].last["input"])

    @pytest.mark.parametrize("model", ["own", "oai"])
    def test_g48_r13_a_response_has_what_typed_clients_require(
        self, world: World, model: str
    ) -> None:
        world["own"].reply = response_answer()
        required = (
            *("id", "created_at", "model", "object", "output", "parallel_tool_calls"),
            *("tool_choice", "tools"),
        )
        assert set(required) <= world.responses(model).json().keys()
        values = events_of(world.responses(model, stream=True))
        for value in values:
            if "response" in value:
                assert set(required) <= value["response"].keys()
        with openai.OpenAI(base_url=f"{world.gateway.url}/v1", api_key="none") as client:
            assert client.responses.create(model=model, input="hi").created_at > 0


class TestDocuments:
    def sent(self, world: World, model: str) -> str:
        return json.dumps(world[model].last, ensure_ascii=False)

    @pytest.mark.parametrize("model", ["own", "oai", "oll"])
    @pytest.mark.parametrize("in_result", [False, True])
    @pytest.mark.parametrize("kind", ["text", "content", "search", "pdf"])
    def test_g06_r05_a_document_of_a_message_is_read(
        self, world: World, model: str, in_result: bool, kind: str
    ) -> None:
        texts = [{"type": "text", "text": WORD}]
        document = {
            "text": TEXT_BLOCK,
            "content": {"type": "document", "source": {"type": "content", "content": texts}},
            "search": {
                "type": "search_result",
                "title": "t",
                "source": "https://a",
                "content": texts,
            },
            "pdf": PDF_BLOCK,
        }[kind]
        messages: list[Json] = [{"role": "user", "content": [document, *texts[:0]]}]
        if in_result:
            use = {"type": "tool_use", "id": "t1", "name": "Read", "input": {}}
            content = [{"type": "text", "text": "PDF file read: a.pdf"}, document]
            result = {"type": "tool_result", "tool_use_id": "t1", "content": content}
            messages = [
                *QUESTION,
                {"role": "assistant", "content": [use]},
                {"role": "user", "content": [result]},
            ]
        world["own"].reply = text_message()
        assert world.message(model, messages).status_code == 200
        sent = self.sent(world, model)
        if kind == "pdf" and model == "oai":
            assert f"data:application/pdf;base64,{PDF}" in sent
            assert world["oai"].last["messages"][-1]["role"] == "user"
        else:
            assert WORD in sent
            assert PDF not in sent

    def test_a_pdf_goes_on_where_the_protocol_has_it(self, world: World) -> None:
        world.message("ant", [PDF_BLOCK])
        assert world["ant"].last["messages"][0]["content"] == [PDF_BLOCK]
        file = {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}
        world.chat("oai", [{"type": "file", "file": file}])
        assert world["oai"].last["messages"][0]["content"][0]["file"] == file

    @pytest.mark.parametrize("model", ["own", "ant", "oll"])
    def test_g07_a_pdf_of_a_chat_is_read(self, world: World, model: str) -> None:
        file = {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}
        parts = [{"type": "file", "file": file}, {"type": "text", "text": "Summarise."}]
        assert world.chat(model, parts).status_code == 200
        assert (PDF if model == "ant" else WORD) in self.sent(world, model)

    @pytest.mark.parametrize("model", ["own", "oai", "ant", "oll"])
    def test_g08_a_pdf_of_a_response_is_read(self, world: World, model: str) -> None:
        file = {"type": "input_file", "filename": "a.pdf"}
        part = {**file, "file_data": f"data:application/pdf;base64,{PDF}"}
        world["own"].reply = response_answer()
        assert world.responses(model, [{"role": "user", "content": [part]}]).status_code == 200
        assert (PDF if model in ("oai", "ant") else WORD) in self.sent(world, model)

    def test_a_text_file_of_a_response_is_text(self, world: World) -> None:
        data = base64.b64encode(WORD.encode()).decode()
        part = {"type": "input_file", "file_data": f"data:text/markdown;base64,{data}"}
        world["own"].reply = response_answer()
        for model in ("own", "oai", "ant", "oll"):
            assert world.responses(model, [{"role": "user", "content": [part]}]).status_code == 200
            assert WORD in self.sent(world, model)

    @pytest.mark.parametrize("model", ["ant", "oll"])
    def test_g07_a_recording_that_a_protocol_has_not_is_refused(
        self, world: World, model: str
    ) -> None:
        audio = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
        response = world.chat(model, [audio, {"type": "text", "text": "x"}])
        assert response.status_code == 400
        assert "messages.0.content.0" in response.json()["error"]["message"]

    @pytest.mark.parametrize("model", ["own", "oai", "oll"])
    def test_g09_a_picture_or_document_by_id_is_refused(self, world: World, model: str) -> None:
        source = {"type": "file", "file_id": "file_011"}
        for kind in ("image", "document"):
            response = world.message(model, [{"type": kind, "source": source}])
            assert response.status_code == 400, response.text
        for part in (
            {"type": "input_image", "file_id": "file_1"},
            {"type": "input_file", "file_id": "file_1"},
        ):
            response = world.responses(model, [{"role": "user", "content": [part]}])
            assert response.status_code == 400, response.text

    def test_no_picture_of_a_document_makes_the_server_fetch_it(self, world: World) -> None:
        image = {"type": "image", "source": {"type": "url", "url": "http://169.254.169.254/"}}
        document = {"type": "document", "source": {"type": "content", "content": [image]}}
        use = {"type": "tool_use", "id": "t1", "name": "Read", "input": {}}
        result = {"type": "tool_result", "tool_use_id": "t1", "content": [document]}
        turns = [*QUESTION, {"role": "assistant", "content": [use]}]
        for content in ([document], [*turns, {"role": "user", "content": [result]}]):
            assert world.message("own", content).status_code == 400
        assert not world["own"].asked

    def test_changes_of_tools_in_a_conversation_are_made(self, world: World) -> None:
        tool = {"name": "late", "input_schema": {"type": "object"}}
        added = {"type": "tool_definition", "definition": tool}
        changes = [
            {"type": "tool_addition", "tool": added},
            {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "early"}},
        ]
        turns = [*QUESTION, {"role": "system", "content": changes}]
        early = {"name": "early", "input_schema": {"type": "object"}}
        world["own"].reply = text_message()
        assert world.message("own", turns, tools=[early]).status_code == 200
        assert [offered["name"] for offered in world["own"].last["tools"]] == ["late"]

    def test_a_pdf_that_cannot_be_read_is_refused_with_the_reason(self, world: World) -> None:
        broken = base64.b64encode(b"%PDF-1.7 nothing").decode()
        source = {"type": "base64", "media_type": "application/pdf", "data": broken}
        document = {"type": "document", "source": source}
        response = world.message("own", [document])
        assert response.status_code == 400
        assert "cannot read the document" in response.json()["error"]["message"]
        result = {"type": "tool_result", "tool_use_id": "t1", "content": [document]}
        use = {"type": "tool_use", "id": "t1", "name": "Read", "input": {}}
        turns = [*QUESTION, {"role": "assistant", "content": [use]}]
        world["own"].reply = text_message()
        response = world.message("own", [*turns, {"role": "user", "content": [result]}])
        assert response.status_code == 200
        assert "a document that this model cannot read" in self.sent(world, "own")

    def test_a_blank_pdf_is_told_as_one_of_pictures(self, world: World) -> None:
        blank = base64.b64encode(pdf_of("")).decode()
        source = {"type": "base64", "media_type": "application/pdf", "data": blank}
        response = world.message("own", [{"type": "document", "source": source}])
        assert "its pages are pictures" in response.json()["error"]["message"]


class TestTools:
    @pytest.mark.parametrize("model", ["own", "oai", "oll"])
    def test_g10_tools_that_the_client_runs_are_offered(self, world: World, model: str) -> None:
        tools = [
            {"type": "bash_20250124", "name": "bash"},
            {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
            {"type": "memory_20250818", "name": "memory"},
            {"type": "web_search_20250305", "name": "web_search"},
        ]
        world["own"].reply = text_message()
        response = world.message(model, tools=tools)
        assert response.status_code == 200
        offered = world[model].last["tools"]
        assert [tool.get("name") or tool["function"]["name"] for tool in offered] == [
            *("bash", "str_replace_based_edit_tool", "memory"),
        ]
        schemas = [tool.get("input_schema") or tool["function"]["parameters"] for tool in offered]
        assert all(schema["properties"] for schema in schemas)
        assert "tools.web_search_20250305" in response.headers["x-omitted"]

    def test_g37_a_tool_without_arguments_has_properties(self, world: World) -> None:
        world.message("oai", tools=[{"name": "now", "input_schema": {"type": "object"}}])
        assert world["oai"].last["tools"][0]["function"]["parameters"]["properties"] == {}

    def test_g38_a_long_name_is_shortened_and_told_whole(self, world: World) -> None:
        name = "mcp__ymir-privileged__get_failed_pipeline_jobs_from_merge_request"
        use = {"type": "tool_use", "id": "toolu_1", "name": name, "input": {}}
        result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"}
        turns = [
            *QUESTION,
            {"role": "assistant", "content": [use]},
            {"role": "user", "content": [result]},
        ]
        tools = [{"name": name, "input_schema": {"type": "object"}}]
        choice = {"type": "tool", "name": name}
        world.message("oai", turns, tools=tools, tool_choice=choice)
        sent = world["oai"].last
        short = sent["tools"][0]["function"]["name"]
        assert len(short) <= 64
        assert sent["tool_choice"]["function"]["name"] == short
        assert sent["messages"][1]["tool_calls"][0]["function"]["name"] == short
        world["oai"].reply = calls(call_of("{}", short))
        response = world.message("oai", turns, tools=tools)
        assert response.json()["content"][0]["name"] == name

    def test_ids_of_calls_have_a_form_that_every_server_takes(self, world: World) -> None:
        number = "functions.read:0|" + "x" * 60
        use = {"type": "tool_use", "id": number, "name": "read", "input": {}}
        result = {"type": "tool_result", "tool_use_id": number, "content": "x"}
        turns = [
            *QUESTION,
            {"role": "assistant", "content": [use]},
            {"role": "user", "content": [result]},
        ]
        world.message("oai", turns)
        messages = world["oai"].last["messages"]
        assert messages[1]["tool_calls"][0]["id"] == messages[2]["tool_call_id"]
        assert len(messages[2]["tool_call_id"]) == 9

    @pytest.mark.parametrize("index", [{"index": 0}, {}])
    def test_g24_parallel_calls_of_one_index_are_two(self, world: World, index: Json) -> None:
        def piece(number: str, path: str) -> Json:
            function = {"name": "write", "arguments": json.dumps({"p": path})}
            return {**index, "id": number, "type": "function", "function": function}

        world["oai"].reply = calls(piece("call_a", "a"), piece("call_b", "b"))
        whole = world.chat("oai").json()["choices"][0]["message"]["tool_calls"]
        assert [call["function"]["arguments"] for call in whole] == ['{"p": "a"}', '{"p": "b"}']
        assert [call["id"] for call in whole] == ["call_a", "call_b"]
        used = world.message("oai").json()["content"]
        assert [item["input"] for item in used] == [{"p": "a"}, {"p": "b"}]
        answer = world.ollama("oai").json()["message"]["tool_calls"]
        assert [call["function"]["arguments"] for call in answer] == [{"p": "a"}, {"p": "b"}]

    def test_g26_arguments_that_are_an_object(self, world: World) -> None:
        world["oai"].reply = calls(call_of({"command": "ls"}))
        assert world.message("oai").json()["content"][0]["input"] == {"command": "ls"}
        (call,) = world.chat("oai").json()["choices"][0]["message"]["tool_calls"]
        assert json.loads(call["function"]["arguments"]) == {"command": "ls"}
        (answer,) = world.ollama("oai").json()["message"]["tool_calls"]
        assert answer["function"]["arguments"] == {"command": "ls"}
        (item,) = world.responses("oai").json()["output"]
        assert json.loads(item["arguments"]) == {"command": "ls"}

    def test_g44_a_name_that_comes_after_the_id(self, world: World) -> None:
        world["oai"].reply = calls(
            {"index": 0, "id": "call_1", "type": "function", "function": {"arguments": ""}},
            {"index": 0, "function": {"name": "Read"}},
            {"index": 0, "function": {"arguments": '{"p":"a"}'}},
        )
        (used,) = world.message("oai").json()["content"]
        assert (used["id"], used["name"], used["input"]) == ("call_1", "Read", {"p": "a"})
        (item,) = world.responses("oai").json()["output"]
        assert (item["call_id"], item["name"], item["arguments"]) == ("call_1", "Read", '{"p":"a"}')

    def test_what_a_provider_adds_to_a_call_is_kept(self, world: World) -> None:
        extra = {"extra_content": {"google": {"thought_signature": "s"}}}
        world["oai"].reply = calls(call_of("{}", **extra))
        (call,) = world.chat("oai").json()["choices"][0]["message"]["tool_calls"]
        assert call["extra_content"] == extra["extra_content"]

    def test_g36_thoughts_of_a_turn_with_calls_are_given_back(self, world: World) -> None:
        turn = [
            {"type": "thinking", "thinking": "Hm.", "signature": ""},
            {"type": "tool_use", "id": "call_1", "name": "Read", "input": {}},
        ]
        result = {"type": "tool_result", "tool_use_id": "call_1", "content": "x"}
        turns = [
            *QUESTION,
            {"role": "assistant", "content": turn},
            {"role": "user", "content": [result]},
        ]
        world.message("oai", turns)
        assert world["oai"].last["messages"][1]["reasoning_content"] == "Hm."
        items = [
            *QUESTION,
            {
                "type": "reasoning",
                "summary": [],
                "content": [{"type": "reasoning_text", "text": "Hm."}],
            },
            {"type": "function_call", "call_id": "call_1", "name": "read", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "x"},
        ]
        world.responses("oai", items)
        sent = world["oai"].last["messages"][1]
        assert (sent["reasoning_content"], len(sent["tool_calls"])) == ("Hm.", 1)

    def test_thoughts_of_a_provider_reach_the_client_of_responses(self, world: World) -> None:
        world["oai"].reply = chat_answer({"reasoning": "Hm."}, {"content": "4"})
        thought, message = world.responses("oai").json()["output"]
        assert thought["content"] == [{"type": "reasoning_text", "text": "Hm."}]
        assert message["content"][0]["text"] == "4"


class TestSchemas:
    def sent(self, world: World, schema: Any) -> Any:
        tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
        response = world.chat("own", tools=[tool])
        assert response.status_code == 200, response.text
        return world["own"].last["tools"][0]["function"]["parameters"]

    def test_r06_what_a_grammar_cannot_take_is_mended(self, world: World) -> None:
        def with_a(schema: Any) -> Json:
            return {"type": "object", "properties": {"a": schema}}

        array = {"type": "array", "items": True, "maxItems": 2000}
        assert self.sent(world, with_a(array)) == with_a({"type": "array", "items": {}})
        assert self.sent(world, with_a(True)) == with_a({})
        text = {"type": "string", "maxLength": 5.0, "minLength": 20000}
        assert self.sent(world, with_a(text)) == with_a({"type": "string", "maxLength": 5})
        recursive = self.sent(world, with_a({"$ref": "#"}))
        assert recursive["properties"]["a"] == {"$ref": "#/$defs/_root"}
        assert recursive["$defs"]["_root"]["properties"]["a"] == {"$ref": "#/$defs/_root"}

    def test_r06_a_reference_that_leads_nowhere_names_its_tool(self, world: World) -> None:
        for reference in ("https://a/b.json", "#/definitions/missing"):
            schema = {"type": "object", "properties": {"a": {"$ref": reference}}}
            tool = {"type": "function", "function": {"name": "odd", "parameters": schema}}
            response = world.chat("own", tools=[tool])
            assert response.status_code == 400
            assert "tools.0 (odd).parameters.properties.a" in response.json()["error"]["message"]

    def test_r07_fields_of_a_tool_that_are_null(self, world: World) -> None:
        function = {"name": "memory", "description": None, "parameters": None, "strict": None}
        assert world.chat("own", tools=[{"type": "function", "function": function}]).is_success
        assert world["own"].last["tools"][0]["function"] == {"name": "memory"}


class TestTurns:
    def test_g17_r02_r03_turns_of_one_role_are_one(self, world: World) -> None:
        doubled = [
            {"role": "user", "content": "a"},
            {"role": "user", "content": "b"},
            {"role": "assistant", "content": "c"},
            {"role": "assistant", "content": "d"},
        ]
        world["own"].reply = text_message()
        world.message("own", doubled)
        assert [turn["role"] for turn in world["own"].last["messages"]] == ["user", "assistant"]
        world["own"].reply = chat_answer({"content": "4"})
        for ask in (
            lambda: world.chat("own", doubled),
            lambda: world.ollama("own", messages=doubled),
        ):
            assert ask().status_code == 200
            sent = world["own"].last["messages"]
            assert [turn["content"] for turn in sent] == ["a\n\nb", "c\n\nd"]
        world["own"].reply = response_answer()
        world.responses("own", doubled)
        assert [item["role"] for item in world["own"].last["input"]] == ["user", "assistant"]

    def test_g41_white_space_alone_is_left_out_for_anthropic(self, world: World) -> None:
        turns = [
            {"role": "system", "content": " "},
            *QUESTION,
            {"role": "assistant", "content": "\n"},
            {"role": "user", "content": "and?"},
        ]
        world.chat("ant", turns)
        sent = world["ant"].last
        assert "system" not in sent
        assert [turn["role"] for turn in sent["messages"]] == ["user"]

    def test_r01_a_template_that_wants_turns_to_alternate_gets_them_so(self, world: World) -> None:
        message = "While executing CallExpression at line 52, column 32 in source: roles must"
        error = {"code": 400, "message": message, "type": "invalid_request_error"}
        refusal = json_reply({"error": error}, 400)
        world["spare"].reply = [refusal, text_message()]
        use = {"type": "tool_use", "id": "t1", "name": "Read", "input": {}}
        result = {"type": "tool_result", "tool_use_id": "t1", "content": "x"}
        turns = [
            *QUESTION,
            {"role": "assistant", "content": [use]},
            {"role": "user", "content": [result, {"type": "text", "text": "Mind the gap."}]},
        ]
        assert world.message("spare", turns).status_code == 200
        first, second = (body["messages"] for _, _, body in world["spare"].asked)
        assert [turn["role"] for turn in first] == ["user", "assistant", "user", "user"]
        assert [turn["role"] for turn in second] == ["user", "assistant", "user"]
        assert "Mind the gap." in json.dumps(second[-1]["content"][-1]["content"])
        world.message("spare", turns)
        assert world["spare"].last["messages"] == second, "it is known from now on"


class TestErrors:
    def refused(self, world: World, status: int, body: Any, model: str = "own") -> httpx.Response:
        world[model].reply = json_reply(body, status)
        return world.chat(model)

    @pytest.mark.parametrize(
        "message",
        [
            "\n---\nWhile executing FilterExpression at line 120, column 73 in source:\n|items %}",
            "Value is not callable: null at row 49, column 79:\n  {%- set content = x %}",
            "input (992 tokens) is too large to process. increase the physical batch size",
            'Failed to parse tools: null; tools = [{"function": {"name": "memory_search"}}]',
            'Failed to parse tools: null; tools = [{"function": {"name": "decode_base64"}}]',
            "JSON schema error at #/properties/a: unsupported $ref #",
            "Failed to parse tool call arguments as JSON: parse error",
        ],
    )
    def test_g13_g14_g15_g16_what_never_passes_by_itself_is_400(
        self, world: World, message: str
    ) -> None:
        error = {"code": 500, "message": message, "type": "server_error"}
        assert self.refused(world, 500, {"error": error}).status_code == 400
        for path in ("/v1/embeddings", "/api/embed"):
            response = world.post(path, {"model": "vectors", "input": "x"})
            assert response.status_code == 400

    @pytest.mark.parametrize("message", ["Compute error.", "std::bad_alloc", "vk::DeviceLost"])
    def test_a_fault_of_the_server_stays_one(self, world: World, message: str) -> None:
        error = {"code": 500, "message": message, "type": "server_error"}
        assert self.refused(world, 500, {"error": error}).status_code == 500

    def test_g34_a_providers_overflow_makes_claude_code_compact(self, world: World) -> None:
        text = (
            "This model's maximum context length is 8192 tokens. However, your messages resulted"
            " in 9031 tokens. Please reduce the length of the messages."
        )
        error = {"code": "context_length_exceeded", "message": text, "param": "messages"}
        world["oai"].reply = json_reply({"error": error}, 400)
        message = world.message("oai").json()["error"]["message"]
        assert message == "prompt is too long: 9031 tokens > 8192 maximum"
        whole = world.chat("oai").json()["error"]
        assert (whole["code"], whole["param"]) == ("context_length_exceeded", "messages")

    @pytest.mark.parametrize(
        ("text", "answer"),
        [
            ("prompt is too long: 209000 tokens > 200000 maximum", "209000 tokens > 200000"),
            ("request (9031 tokens) exceeds the available context size (8192 tokens)", "9031"),
            (
                "The input token count (1200000) exceeds the maximum number of tokens allowed"
                " (1048576).",
                "1200000 tokens > 1048576",
            ),
            ("Input is too long for requested model.", "Input is too long"),
        ],
    )
    def test_other_words_for_an_overflow(self, world: World, text: str, answer: str) -> None:
        world["oai"].reply = json_reply({"error": {"message": text}}, 400)
        message = world.message("oai").json()["error"]["message"]
        assert message.startswith("prompt is too long")
        assert answer in message

    def test_g35_a_providers_code_and_param_are_kept(self, world: World) -> None:
        error = {"message": "no", "code": "unsupported_value", "param": "temperature"}
        answer = self.refused(world, 400, {"error": error}, "oai").json()["error"]
        assert (answer["code"], answer["param"]) == ("unsupported_value", "temperature")

    @pytest.mark.parametrize(
        "body",
        [
            {"detail": "not so"},
            {"detail": [{"loc": ["body"], "msg": "not so"}]},
            [{"error": {"code": 400, "message": "not so"}}],
            {"object": "error", "message": "not so", "code": 400},
            {"error": "not so"},
        ],
    )
    def test_g33_a_providers_words_are_told_in_every_form(self, world: World, body: Any) -> None:
        for status in (400, 422):
            response = self.refused(world, status, body, "oai")
            assert (response.status_code, response.json()["error"]["message"]) == (400, "not so")

    @pytest.mark.parametrize("streams", [False, True])
    def test_g29_an_error_that_comes_as_200(self, world: World, streams: bool) -> None:
        world["oai"].reply = json_reply({"error": {"message": "quota", "code": 429}})
        response = world.chat("oai", stream=streams)
        assert response.status_code == 429
        assert "quota" in response.json()["error"]["message"]
        assert world.chat("covered", stream=streams).status_code == 200
        assert len(world["spare"].asked) == 1

    def test_an_error_that_comes_as_the_first_event(self, world: World) -> None:
        error = {"error": {"message": "quota", "code": "429"}}
        world["oai"].reply = Reply(sse(chat_chunk({"role": "assistant", "content": ""}), error))
        assert world.chat("oai", stream=True).status_code == 429
        assert world.chat("covered", stream=True).status_code == 200
        overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
        start = {"type": "message_start", "message": {"id": "m", "content": [], "usage": {}}}
        world["ant"].reply = Reply(sse(start, overloaded, done=False))
        assert world.message("ant", stream=True).status_code == 502
        world["spare"].reply = text_message()
        assert world.message("covered-ant", stream=True).status_code == 200

    def test_g31_g42_a_whole_answer(self, world: World) -> None:
        world["oai"].reply = json_reply(WHOLE_CHAT)
        answer = world.chat("oai")
        assert world["oai"].last["stream"] is False
        assert "stream_options" not in world["oai"].last
        assert answer.json()["choices"] == WHOLE_CHAT["choices"]
        assert answer.json()["id"] == "c9"
        streamed = events_of(world.chat("oai", stream=True))
        assert streamed[0]["choices"][0]["delta"]["content"] == "4"
        assert world.message("oai").json()["content"][0]["text"] == "4"
        assert world.ollama("oai").json()["message"]["content"] == "4"
        assert world.responses("oai").json()["output"][0]["content"][0]["text"] == "4"

    def test_g43_a_whole_message_keeps_everything(self, world: World) -> None:
        content = [
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}},
            {"type": "text", "text": "So.", "citations": [{"type": "char_location"}]},
            {"type": "thinking", "thinking": "Hm.", "signature": "sig"},
        ]
        management = {"applied_edits": []}
        message = {"id": "m", "type": "message", "role": "assistant", "content": content}
        ending = {
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "context_management": management,
        }
        world["ant"].reply = json_reply({**message, **ending, "usage": {"output_tokens": 1}})
        answer = world.message("ant").json()
        assert answer["content"] == content
        assert answer["context_management"] == management

    def test_g43_a_streamed_message_is_assembled_whole(self, world: World) -> None:
        search = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
        query = {"type": "input_json_delta", "partial_json": '{"query": "q"}'}
        citation = {"type": "char_location", "cited_text": "So"}
        events = [
            *block(0, search, query),
            *block(
                1,
                {"type": "text", "text": "", "citations": []},
                {"type": "text_delta", "text": "So."},
                {"type": "citations_delta", "citation": citation},
            ),
        ]
        management = {"applied_edits": []}
        world["ant"].reply = message_answer(*events, context_management=management)
        answer = world.message("ant").json()
        assert answer["content"][0]["input"] == {"query": "q"}
        assert answer["content"][1]["citations"] == [citation]
        assert answer["context_management"] == management

    def test_g39_a_limit_of_tokens_by_a_setting(self, world: World) -> None:
        world.message("brief", max_tokens=32000)
        assert world["oai"].last["max_tokens"] == 8192
        world.chat("brief", max_completion_tokens=32000)
        assert world["oai"].last["max_completion_tokens"] == 8192
        world.message("brief", max_tokens=5)
        assert world["oai"].last["max_tokens"] == 5


class TestStreams:
    @pytest.mark.parametrize("ending", [b"data: [DONE]\n", b"data: [DONE]", b""])
    @pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
    @pytest.mark.parametrize("model", ["oai", "own"])
    def test_g27_g51_the_end_and_the_start(
        self, world: World, ending: bytes, mark: bytes, model: str
    ) -> None:
        chunks = (
            chat_chunk({"content": "Hel"}),
            chat_chunk({"content": "lo"}),
            chat_chunk({}, "stop"),
        )
        keep_alive = b": OPENROUTER PROCESSING\n\n"
        world[model].reply = Reply(mark + keep_alive + sse(*chunks, done=False) + ending)
        whole = world.chat(model)
        assert whole.json()["choices"][0]["message"]["content"] == "Hello"
        streamed = world.chat(model, stream=True)
        assert streamed.text.endswith("data: [DONE]\n\n")
        if model == "oai":
            assert world.message(model).json()["content"][0]["text"] == "Hello"

    def test_g27_an_anthropic_stream_without_the_last_line(self, world: World) -> None:
        whole = text_message().data.removesuffix(b"\n\n")
        without_stop = text_message().data.partition(b"event: message_stop")[0]
        for data in (whole, without_stop):
            world["ant"].reply = Reply(data)
            assert world.message("ant").json()["content"][0]["text"] == "4"
            assert "message_stop" in world.message("ant", stream=True).text
            assert world.chat("ant").json()["choices"][0]["message"]["content"] == "4"

    def test_g45_content_that_is_a_list(self, world: World) -> None:
        thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
        world["oai"].reply = chat_answer(
            {"content": [thinking, {"type": "text", "text": "It is "}]}, {"content": "4."}
        )
        thought, text = world.message("oai").json()["content"]
        assert (thought["thinking"], text["text"]) == ("Hm.", "It is 4.")
        message = world.chat("oai").json()["choices"][0]["message"]
        assert (message["content"], message["reasoning_content"]) == ("It is 4.", "Hm.")
        answer = world.ollama("oai").json()["message"]
        assert (answer["content"], answer["thinking"]) == ("It is 4.", "Hm.")

    def test_g46_lists_in_deltas_grow(self, world: World) -> None:
        def detail(kind: str, **fields: str) -> Json:
            return {"reasoning_details": [{"type": kind, "index": 0, **fields}]}

        note = {"type": "url_citation", "url_citation": {"url": "https://a"}}
        other = {"type": "url_citation", "url_citation": {"url": "https://b"}}
        world["oai"].reply = chat_answer(
            detail("reasoning.text", text="H"),
            detail("reasoning.text", text="m."),
            detail("reasoning.encrypted", data="sig"),
            {"annotations": [note]},
            {"annotations": [other], "content": "4"},
        )
        message = world.chat("oai").json()["choices"][0]["message"]
        assert message["reasoning_details"] == [
            {"type": "reasoning.text", "index": 0, "text": "Hm."},
            {"type": "reasoning.encrypted", "index": 0, "data": "sig"},
        ]
        assert message["annotations"] == [note, other]

    @pytest.mark.parametrize("model", ["ant", "oll"])
    def test_g47_chunks_have_what_typed_clients_require(self, world: World, model: str) -> None:
        chunks = events_of(world.chat(model, stream=True, stream_options={"include_usage": True}))
        for chunk in chunks:
            assert chunk["id"]
            assert chunk["created"]
            assert (chunk["object"], chunk["model"]) == ("chat.completion.chunk", model)
        assert len({chunk["id"] for chunk in chunks}) == 1
        assert world.chat(model).json()["id"]


class TestOllama:
    def test_g04_the_version_is_one_that_has_the_responses_api(self, world: World) -> None:
        version = httpx.get(f"{world.gateway.url}/api/version").json()["version"]
        assert [int(part) for part in version.split(".")] >= [0, 13, 4]

    def test_g05_what_vs_code_reads_of_a_model(self, world: World) -> None:
        info = world.post("/api/show", {"model": "own"}).json()["model_info"]
        assert (info["general.basename"], info["general.architecture"]) == ("own", "qwen3")
        assert info["general.parameter_count"] == 7_600_000_000

    @pytest.mark.parametrize("streams", [False, True])
    def test_g19_a_request_to_an_ollama_provider_goes_on_as_it_came(
        self, world: World, streams: bool
    ) -> None:
        fields = {
            "options": {"num_ctx": 32768, "repeat_penalty": 1.1, "temperature": 0.5},
            "keep_alive": "30m",
            "think": "high",
            "messages": QUESTION,
            "tools": [],
        }
        line = {"model": "maker/oll", "created_at": "x", "load_duration": 5, "done": True}
        whole = {**line, "message": {"role": "assistant", "content": "4"}, "done_reason": "stop"}
        world["oll"].reply = json_reply(whole)
        response = world.ollama("oll", **fields, stream=streams)
        assert world["oll"].last == {"model": "maker/oll", "stream": streams, **fields}
        assert response.json() == {**whole, "model": "oll"}

    def test_g19_a_prompt_too(self, world: World) -> None:
        line = {"response": "4", "done": True, "context": [1], "done_reason": "stop"}
        world["oll"].reply = json_reply(line)
        body = {"model": "oll", "prompt": "hi", "stream": False, "template": "x", "raw": True}
        assert world.post("/api/generate", body).json() == {**line, "model": "oll"}
        assert world["oll"].asked[-1][0] == "/api/generate"
        assert world["oll"].last["template"] == "x"

    def test_g21_the_dimensions_of_a_vector_go_on(self, world: World) -> None:
        answer = {"model": "maker/oll", "embeddings": [[0.6, 0.8]], "prompt_eval_count": 2}
        world["oll"].reply = json_reply(answer)
        body = {"model": "oll", "input": "x", "dimensions": 2, "truncate": False}
        assert world.post("/api/embed", body).json() == {**answer, "model": "oll"}
        assert world["oll"].asked[-1][0] == "/api/embed"
        assert world["oll"].last == {**body, "model": "maker/oll"}

    @pytest.mark.parametrize("encoding", ["float", "base64"])
    def test_r18_vectors_have_as_many_numbers_as_were_asked_for(
        self, world: World, encoding: str
    ) -> None:
        vector: Any = [3.0, 4.0, 12.0]
        if encoding == "base64":
            vector = "AABAQAAAgEAAAEBB"
        item = {"object": "embedding", "index": 0, "embedding": vector}
        usage = {"prompt_tokens": 2, "total_tokens": 2}
        world["own"].reply = json_reply({"object": "list", "data": [item], "usage": usage})
        with openai.OpenAI(base_url=f"{world.gateway.url}/v1", api_key="none") as client:
            ask = client.embeddings.create
            reply = ask(model="vectors", input="x", dimensions=2, encoding_format=encoding)
            with pytest.raises(openai.BadRequestError, match="more than the 3"):
                ask(model="vectors", input="x", dimensions=4, encoding_format=encoding)
        shorter = reply.data[0].embedding
        if isinstance(shorter, list):
            assert shorter == pytest.approx([0.6, 0.8])
        else:
            assert len(base64.b64decode(shorter)) == 8
        if encoding == "float":
            body = {"model": "vectors", "input": "x", "dimensions": 2}
            answer = world.post("/api/embed", body).json()["embeddings"]
            assert answer == [pytest.approx([0.6, 0.8])]

    def test_g18_a_picture_that_is_a_data_url(self, world: World) -> None:
        url = f"data:image/webp;base64,{PIXEL}"
        turns = [{"role": "user", "content": "look", "images": [url]}]
        assert world.ollama("own", messages=turns).status_code == 200
        sent = world["own"].last["messages"][0]["content"][1]
        assert sent["image_url"]["url"] == url

    def test_thoughts_under_either_name(self, world: World) -> None:
        world["oai"].reply = chat_answer({"reasoning": "Hm."}, {"content": "4"})
        assert world.ollama("oai").json()["message"]["thinking"] == "Hm."


class TestHeaders:
    def test_g50_both_lines_of_a_header_go_on(self, world: World) -> None:
        body = {"model": "ant", "max_tokens": 9, "messages": QUESTION}
        headers = [("anthropic-beta", "a-2025-01-01"), ("anthropic-beta", "b-2025-01-01")]
        httpx.post(f"{world.gateway.url}/v1/messages", json=body, headers=headers)
        assert world["ant"].asked[-1][1]["anthropic-beta"] == "a-2025-01-01,b-2025-01-01"

    def test_what_is_omitted_is_named(self, world: World) -> None:
        response = world.message("oai", metadata={"user_id": "x"}, top_k=5, service_tier="auto")
        assert response.headers["x-omitted"] == "metadata, top_k, service_tier"
        assert "x-omitted" not in world.message("ant", metadata={"user_id": "x"}).headers

    def test_what_is_refused_is_named(self, world: World) -> None:
        response = world.chat("own", functions=[{"name": "f"}])
        assert response.status_code == 400
        assert response.json()["error"]["message"].startswith("functions: ")
        assert world.chat("oai", functions=[{"name": "f"}]).status_code == 200


class TestVariants:
    """Inputs of the same kinds that no report names."""

    @pytest.mark.parametrize(
        "event",
        [
            {"detail": "quota exceeded"},
            {"object": "error", "message": "quota exceeded", "code": 429},
            {"message": "quota exceeded", "type": "rate_limit_error", "code": 429},
            [{"error": {"message": "quota exceeded", "code": 429}}],
        ],
    )
    def test_an_error_in_a_stream_in_any_form(self, world: World, event: Any) -> None:
        for data in (sse(event), b"event: error\ndata: quota exceeded\n\n"):
            world["oai"].reply = Reply(data)
            for ask in (world.chat, world.message, world.responses):
                response = ask("oai", stream=True)
                assert response.status_code in (429, 502)
                assert "quota exceeded" in response.text
            assert world.chat("covered").status_code == 200

    def test_a_stream_of_a_chat_client_has_calls_in_the_form_of_the_api(self, world: World) -> None:
        text = [{"type": "text", "text": "4"}]
        world["oai"].reply = chat_answer(
            {"content": text},
            {"tool_calls": [call_of({"x": 1}, id="a")]},
            {"tool_calls": [call_of("{}", id="b")]},
        )
        deltas = [
            value["choices"][0]["delta"] for value in events_of(world.chat("oai", stream=True))
        ]
        assert deltas[0]["content"] == "4"
        pieces = [piece for delta in deltas for piece in delta.get("tool_calls", ())]
        assert [piece["index"] for piece in pieces] == [0, 1]
        assert json.loads(pieces[0]["function"]["arguments"]) == {"x": 1}

    def test_calls_of_a_whole_answer_without_ids_are_told_apart(self, world: World) -> None:
        listed = [
            {"function": {"name": name, "arguments": json.dumps({name: 1})}} for name in ("f", "g")
        ]
        choice = {"index": 0, "message": {"tool_calls": listed}, "finish_reason": "tool_calls"}
        world["oai"].reply = json_reply({"choices": [choice]})
        answered = world.chat("oai").json()["choices"][0]["message"]["tool_calls"]
        assert [call["function"]["arguments"] for call in answered] == ['{"f": 1}', '{"g": 1}']
        assert len({call["id"] for call in answered}) == 2
        used = world.message("oai").json()["content"]
        assert [item["input"] for item in used] == [{"f": 1}, {"g": 1}]

    def test_calls_of_one_id_and_pieces_of_many(self, world: World) -> None:
        world["oai"].reply = calls(
            call_of('{"a": 1}', "f", id="call"), call_of('{"b": 1}', "g", id="call", index=1)
        )
        assert [item["name"] for item in world.message("oai").json()["content"]] == ["f", "g"]
        world["oai"].reply = calls(
            call_of('{"a":', "f", id="c1"),
            {"index": 0, "id": "c2", "function": {"arguments": "1}"}},
        )
        (used,) = world.message("oai").json()["content"]
        assert (used["name"], used["input"]) == ("f", {"a": 1})

    @pytest.mark.parametrize("model", ["own", "oai"])
    def test_half_an_event_at_the_end_is_no_event(self, world: World, model: str) -> None:
        chunk = sse(chat_chunk({"content": "4"}), done=False)
        world[model].reply = Reply(chunk + b'data: {"choices":[{"index":0,"delta":{"cont')
        response = world.chat(model, stream=True)
        assert "cont\n" not in response.text
        assert events_of(response)[-1]["error"]["message"]

    def test_a_schema_before_an_anthropic_provider_loses_nothing(self, world: World) -> None:
        thought = {"type": "thinking", "thinking": "", "signature": ""}
        signature = {"type": "signature_delta", "signature": "SIG"}
        text = {"type": "text_delta", "text": "{}"}
        world["ant"].reply = message_answer(
            *block(0, thought, {"type": "thinking_delta", "thinking": "Hm."}, signature),
            *block(1, {"type": "text", "text": ""}, text),
        )
        form = {"format": {"type": "json_schema", "schema": {"type": "object"}}}
        for streams in (False, True):
            response = world.message("ant", output_config=form, stream=streams)
            assert "SIG" in response.text

    def test_arguments_that_are_no_object_are_kept(self, world: World) -> None:
        world["oai"].reply = calls(call_of("[1]"))
        assert world.message("oai").json()["content"][0]["input"] == {"arguments": "[1]"}
        call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": {"path": "x"}}
        world["own"].reply = response_answer()
        world.responses("own", [*QUESTION, call])
        assert json.loads(world["own"].last["input"][1]["arguments"]) == {"path": "x"}

    def test_a_tool_that_is_brought_twice_is_offered_once(self, world: World) -> None:
        brought = {"type": "additional_tools", "role": "developer", "tools": TOOLS[:1]}
        plain = {"type": "function", "name": "apply_patch", "parameters": {}}
        world["own"].reply = response_answer()
        world.responses("own", [*QUESTION, brought], tools=[*TOOLS, plain])
        assert [tool["name"] for tool in world["own"].last["tools"]] == [
            *("mcp__files__read", "mcp__db__read", "apply_patch_2", "apply_patch"),
        ]

    def test_a_call_of_a_custom_tool_in_a_stream_without_an_end(self, world: World) -> None:
        chunks = [
            chat_chunk({"tool_calls": [{"index": 0, "id": "a", "type": "function"}]}),
            chat_chunk({"tool_calls": [{"index": 0, "function": {"name": "patch"}}]}),
            chat_chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"input":"p"}'}}]}),
        ]
        world["own"].reply = Reply(sse(*chunks))
        tool = {"type": "custom", "custom": {"name": "patch"}}
        values = events_of(world.chat("own", tools=[tool], stream=True))
        pieces = [p for v in values for p in v["choices"][0]["delta"].get("tool_calls", ())]
        assert [piece["custom"] for piece in pieces] == [{"name": "patch", "input": "p"}]

    @pytest.mark.parametrize("model", ["own", "ant", "oll"])
    def test_a_text_file_of_a_chat_is_text_and_an_archive_is_refused(
        self, world: World, model: str
    ) -> None:
        data = base64.b64encode(WORD.encode()).decode()
        file = {"filename": "a.txt", "file_data": f"data:text/plain;charset=utf-8;base64,{data}"}
        assert world.chat(model, [{"type": "file", "file": file}]).status_code == 200
        assert WORD in json.dumps(world[model].last)
        archive = {"filename": "a", "file_data": f"data:application/x-zip;base64,{data}"}
        assert world.chat(model, [{"type": "file", "file": archive}]).status_code == 400

    @pytest.mark.parametrize(
        ("path", "fields"),
        [
            ("/v1/messages", {"messages": [{"role": "user", "content": [{"type": ["x"]}]}]}),
            ("/v1/messages", {"messages": [{"role": "user", "content": ["x"]}]}),
            ("/v1/messages", {"messages": QUESTION, "tools": [{"name": ["f"]}]}),
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": {"type": "text"}}]}),
            ("/v1/chat/completions", {"messages": QUESTION, "tools": [{"type": "web_search"}]}),
            ("/v1/responses", {"input": [{"type": ["message"]}]}),
            ("/v1/responses", {"input": [{"role": ["user"], "content": "x"}]}),
            ("/v1/responses", {"input": [{"role": "user", "content": [{"type": {}}]}]}),
            ("/api/embed", {"input": "x", "dimensions": "32"}),
            ("/api/embed", {"input": "x", "dimensions": -5}),
            ("/api/embed", {"input": "x", "dimensions": True}),
        ],
    )
    def test_a_mistake_of_the_client_is_400(self, world: World, path: str, fields: Json) -> None:
        model = "vectors" if "embed" in path else "own"
        response = world.post(path, {"model": model, "max_tokens": 9, **fields})
        assert response.status_code == 400, response.text

    @pytest.mark.parametrize(
        ("error", "overflows"),
        [
            ({"message": "Invalid schema for function 'get_context_window': x"}, False),
            ({"message": "prompt is too long", "code": "invalid_function_parameters"}, False),
            ({"message": "max_tokens is too large: it exceeds the context length 32768"}, False),
            (
                {
                    "message": "The decoder prompt (length 9000) is longer than the maximum model"
                    " length of 8192"
                },
                True,
            ),
            ({"message": "Your request exceeded model token limit: 8192"}, True),
            ({"message": "`inputs` tokens + `max_new_tokens` must be <= 8193"}, True),
            ({"message": "too many tokens (request id: 20250101123456789)"}, True),
        ],
    )
    def test_an_overflow_is_told_from_other_faults(
        self, world: World, error: Json, overflows: bool
    ) -> None:
        for status in (400, 200):
            code = {} if status == 400 or overflows else {"code": error.get("code", 400)}
            named = {"code": "context_length_exceeded"} if status == 200 and overflows else code
            world["oai"].reply = json_reply({"error": {**error, **named}}, status)
            message = world.message("oai").json()["error"]["message"]
            assert message.startswith("prompt is too long: ") == overflows
            assert "20250101123456789 tokens" not in message

    @pytest.mark.parametrize(
        "body",
        [
            {"detail": ["not so"]},
            {"error": ["not so"]},
            {"detail": {"msg": "not so"}},
            {"errors": [{"message": "not so"}]},
            {"code": 400, "msg": "not so"},
            "not so",
        ],
    )
    def test_other_forms_of_errors(self, world: World, body: Any) -> None:
        world["oai"].reply = json_reply(body, 400)
        assert world.chat("oai").json()["error"]["message"] == "not so"

    @pytest.mark.parametrize("kind", ["text/plain", "application/json", "text/event-stream"])
    def test_the_content_type_of_an_answer_does_not_matter(self, world: World, kind: str) -> None:
        whole = json.dumps(WHOLE_CHAT).encode()
        for data in (whole, chat_answer({"content": "4"}).data):
            world["oai"].reply = Reply(data, kind)
            assert world.chat("oai").json()["choices"][0]["message"]["content"] == "4"

    @pytest.mark.parametrize("model", ["ant", "oai"])
    def test_results_directly_follow_their_calls(self, world: World, model: str) -> None:
        calls_of_both = [
            {"type": "function_call", "call_id": name, "name": "f", "arguments": "{}"}
            for name in ("a", "b")
        ]
        outputs = [
            {"type": "function_call_output", "call_id": name, "output": name} for name in ("a", "b")
        ]
        items = [*QUESTION, *calls_of_both, {"role": "user", "content": "x"}, *outputs]
        world.responses(model, items)
        sent = world[model].last["messages"]
        if model == "oai":
            assert [turn["role"] for turn in sent] == ["user", "assistant", "tool", "tool", "user"]
        else:
            kinds = [part["type"] for part in sent[-1]["content"]]
            assert kinds == ["tool_result", "tool_result", "text"]

    def test_a_limit_of_tokens_in_other_places(self, world: World) -> None:
        schemas = (
            {"type": "object", "properties": None},
            {"properties": {"a": {}}},
            {"type": "string"},
        )
        for schema in schemas:
            world.message("oai", tools=[{"name": "f", "input_schema": schema}])
            sent = world["oai"].last["tools"][0]["function"]["parameters"]
            assert sent["type"] == "object"
            assert isinstance(sent["properties"], dict)

    def test_a_tool_choice_of_none_offers_ollama_no_tool(self, world: World) -> None:
        tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
        world.chat("oll", tools=[tool], tool_choice="none")
        assert "tools" not in world["oll"].last

    def test_a_switch_that_is_off_is_named_where_it_is_omitted(self, world: World) -> None:
        response = world.chat("oll", parallel_tool_calls=False)
        assert response.headers["x-omitted"] == "parallel_tool_calls"

    def test_an_answer_that_was_cut_off_says_so(self, world: World) -> None:
        world["ant"].reply = message_answer(reason="model_context_window_exceeded")
        assert world.chat("ant").json()["choices"][0]["finish_reason"] == "length"
        answered = world.responses("ant").json()
        assert answered["incomplete_details"] == {"reason": "max_output_tokens"}

    @pytest.mark.parametrize("model", ["own", "ant", "oll"])
    def test_calls_of_the_older_form_and_without_ids(self, world: World, model: str) -> None:
        turns = [
            *QUESTION,
            {
                "role": "assistant",
                "content": None,
                "function_call": {"name": "f", "arguments": "{}"},
            },
            {"role": "function", "name": "f", "content": "old"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"type": "function", "function": {"name": name, "arguments": "{}"}}
                    for name in ("g", "h")
                ],
            },
            {"role": "tool", "content": "one"},
            {"role": "tool", "content": "two"},
        ]
        assert world.chat(model, turns).status_code == 200
        sent = json.dumps(world[model].last["messages"])
        assert all(word in sent for word in ("old", "one", "two"))
        if model == "own":
            ids = [turn.get("tool_call_id") for turn in world["own"].last["messages"]]
            assert len({number for number in ids if number}) == 3

    def test_a_recording_of_the_history_is_refused(self, world: World) -> None:
        turns = [*QUESTION, {"role": "assistant", "audio": {"id": "a"}}, *QUESTION]
        assert world.chat("own", turns).status_code == 400
        assert world.chat("oai", turns).status_code == 200


class TestReportsThatHeld:
    """Reports of other routers that this gateway never had."""

    def test_g02_places_of_items(self, world: World) -> None:
        calls_of_both = [
            {
                "type": "function_call",
                "id": f"fc_{name}",
                "call_id": f"call_{name}",
                "name": "f",
                "arguments": "{}",
            }
            for name in ("a", "b")
        ]
        world["own"].reply = response_answer(*calls_of_both)
        for value in events_of(world.responses("own", stream=True)):
            number = value.get("item_id") or value.get("item", {}).get("id")
            if number:
                assert value["output_index"] == ["fc_a", "fc_b"].index(number)

    def test_p01_p02_half_a_character_and_a_byte_order_mark(self, world: World) -> None:
        world["own"].reply = text_message()
        content = '"x \\ud83d y"'
        body = (
            f'{{"model":"own","max_tokens":9,"messages":[{{"role":"user","content":{content}}}]}}'
        )
        for data in (body.encode(), b"\xef\xbb\xbf" + body.encode()):
            url = f"{world.gateway.url}/v1/messages"
            assert httpx.post(url, content=data).status_code == 200

    def test_p03_p04_p05_ways_to_send_and_to_end(self, world: World) -> None:
        data = json.dumps({"model": "own", "messages": QUESTION, "stream": True}).encode()
        host, port = world.gateway.url.removeprefix("http://").split(":")
        heads = {
            b"1.0": b"Content-Length: %d\r\n\r\n%b" % (len(data), data),
            b"1.1": b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
            % (len(data), data),
        }
        for version, rest in heads.items():
            with socket.create_connection((host, int(port)), timeout=20) as connection:
                head = b"POST /v1/chat/completions HTTP/%b\r\nHost: x\r\n" % version
                connection.sendall(head + b"Content-Type: application/json\r\n" + rest)
                answered = b"".join(iter(lambda: connection.recv(65536), b""))
            assert b" 200 " in answered.partition(b"\r\n")[0]
            assert (b"chunked" in answered) == (version == b"1.1")
        response = httpx.post(
            f"{world.gateway.url}/v1/chat/completions",
            content=data,
            headers={"Expect": "100-continue", "Content-Type": "application/json"},
        )
        assert response.status_code == 200

    def test_p07_reason_text_and_usage_in_one_chunk(self, world: World) -> None:
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        world["oai"].reply = Reply(sse({**chat_chunk({"content": "4"}, "stop"), "usage": usage}))
        answered = world.message("oai").json()
        assert answered["content"][0]["text"] == "4"
        assert answered["usage"]["output_tokens"] == 3

    def test_p08_a_call_without_arguments(self, world: World) -> None:
        world["oai"].reply = calls(call_of(""))
        assert world.message("oai").json()["content"][0]["input"] == {}
        (call,) = world.ollama("oai").json()["message"]["tool_calls"]
        assert call["function"]["arguments"] == {}

    def test_p09_p10_r16_older_forms_of_ollamas_clients(self, world: World) -> None:
        assert world.post("/api/show", {"name": "own"}).status_code == 200
        function = {"name": "f", "arguments": '{"a": 1}'}
        turns = [
            *QUESTION,
            {"role": "assistant", "content": "", "tool_calls": [{"function": function}]},
            {"role": "tool", "content": "x"},
        ]
        assert world.ollama("own", messages=turns).status_code == 200

    def test_p11_retry_after_is_whole_seconds(self, world: World) -> None:
        world["oai"].reply = json_reply({"error": {"message": "slow down"}}, 429)
        assert world.chat("oai").headers["retry-after"].isdigit()

    def test_p12_r10_null_for_every_optional_field(self, world: World) -> None:
        nulls = dict.fromkeys(("temperature", "top_p", "stop", "tools", "tool_choice", "stream"))
        turns = [*QUESTION, {"role": "assistant", "content": "a", "tool_calls": None}, *QUESTION]
        assert world.chat("own", turns, **nulls).status_code == 200
        world["own"].reply = text_message()
        assert world.message("own", system="x", temperature=None, tools=None).status_code == 200

    def test_p13_plain_schemas_stay_as_they_are(self, world: World) -> None:
        schema = {
            "type": "object",
            "properties": {
                "a.b": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                "c": {"type": ["string", "null"]},
                "d": {"$ref": "#/$defs/d"},
            },
            "additionalProperties": True,
            "$defs": {"d": {"enum": [1, "x"]}},
        }
        function = {"name": "f", "parameters": schema}
        world.chat("own", tools=[{"type": "function", "function": function}])
        assert world["own"].last["tools"][0]["function"] == function

    def test_p14_signed_thoughts_go_on_and_others_do_not(self, world: World) -> None:
        turn = [
            {"type": "thinking", "thinking": "a", "signature": "sig"},
            {"type": "thinking", "thinking": "b", "signature": ""},
            {"type": "redacted_thinking", "data": "x"},
            {"type": "text", "text": "c"},
        ]
        world.message("ant", [*QUESTION, {"role": "assistant", "content": turn}, *QUESTION])
        kinds = [part["type"] for part in world["ant"].last["messages"][1]["content"]]
        assert kinds == ["thinking", "redacted_thinking", "text"]

    def test_p16_methods_that_probe(self, world: World) -> None:
        assert httpx.head(f"{world.gateway.url}/v1/models").status_code == 200
        assert httpx.options(f"{world.gateway.url}/v1/messages").status_code == 204

    def test_p17_fields_and_betas_of_tomorrow(self, world: World) -> None:
        world["own"].reply = text_message()
        body = {"model": "own", "max_tokens": 9, "messages": QUESTION, "of_tomorrow": 1}
        headers = {"anthropic-beta": "of-tomorrow"}
        assert world.post("/v1/messages?beta=true", body, **headers).status_code == 200

    @pytest.mark.parametrize("content", ["", None, [], "absent", "picture"])
    def test_p18_results_without_text(self, world: World, content: Any) -> None:
        picture = {"type": "base64", "media_type": "image/png", "data": PIXEL}
        parts = [{"type": "image", "source": picture}] if content == "picture" else content
        result: Json = {"type": "tool_result", "tool_use_id": "t1", "content": parts}
        if content == "absent":
            del result["content"]
        use = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
        turns = [
            *QUESTION,
            {"role": "assistant", "content": [use]},
            {"role": "user", "content": [result]},
        ]
        assert world.message("oai", turns).status_code == 200
        sent = [turn for turn in world["oai"].last["messages"] if turn["role"] == "tool"]
        assert isinstance(sent[0]["content"], str)

    def test_p19_empty_text_beside_calls(self, world: World) -> None:
        function = {"name": "f", "arguments": "{}"}
        call = {"id": "call_1", "type": "function", "function": function}
        turns = [
            *QUESTION,
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "x"},
        ]
        world.chat("ant", turns)
        assert [part["type"] for part in world["ant"].last["messages"][1]["content"]] == [
            "tool_use"
        ]

    def test_p20_r12_an_item_without_a_type(self, world: World) -> None:
        part = {"type": "output_text", "text": "a", "annotations": []}
        world["own"].reply = response_answer()
        items = [*QUESTION, {"role": "assistant", "content": [part]}, *QUESTION]
        assert world.responses("own", items).status_code == 200
        assert {item["type"] for item in world["own"].last["input"]} == {"message"}

    def test_r04_an_answer_that_is_begun(self, world: World) -> None:
        world["own"].reply = text_message()
        turns = [*QUESTION, {"role": "assistant", "content": "{"}]
        assert world.message("own", turns).status_code == 200
        assert world["own"].last["messages"][-1] == turns[-1]

    def test_r14_two_answers(self, world: World) -> None:
        world.chat("own", n=2)
        assert world["own"].last["n"] == 2
        assert world.chat("ant", n=2).status_code == 400

    @pytest.mark.parametrize("text", ["a", ["a", "b"], [1, 2], [[1], [2]]])
    def test_r19_forms_of_texts_for_vectors(self, world: World, text: Any) -> None:
        item = {"object": "embedding", "index": 0, "embedding": [1.0]}
        world["own"].reply = json_reply({"object": "list", "data": [item]})
        assert world.post("/v1/embeddings", {"model": "vectors", "input": text}).status_code == 200
        assert world["own"].last["input"] == text
