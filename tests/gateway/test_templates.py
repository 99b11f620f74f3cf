"""Real llama-server and a strict chat template, behind the gateway: reports R01 to R09, and odd
schemas of tools."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from llama_halo.contract.gateway_config import GatewayConfig
from tests.support.gateway import NAMESPACE, Process, SetModel, StartGateway, serving

pytestmark = pytest.mark.slow

Json = dict[str, Any]
ALTERNATE = "conversation roles must alternate"
STRICT = """
{%- set ns = namespace(index=0) %}
{%- for message in messages %}
{%- if message.role == "tool" and message.tool_call_id|length != 9 %}
{{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}
{%- endif %}
{%- if message.role != "system" and message.role != "tool" and not message.tool_calls %}
{%- if (message.role == "user") != (ns.index % 2 == 0) %}
{{- raise_exception("After the optional system message, ALTERNATE") }}
{%- endif %}
{%- set ns.index = ns.index + 1 %}
{%- endif %}
{{- "<|im_start|>" + message.role + "\n" }}
{{- message.content if message.content is string else "" }}
{%- for call in message.tool_calls or [] %}
{%- for name, value in call.function.arguments|items %}{{ name }}{{ value }}{% endfor %}
{%- endfor %}
{{- "<|im_end|>\n" }}
{%- endfor %}
{%- if add_generation_prompt %}{{ "<|im_start|>assistant\n" }}{% endif %}
""".replace("ALTERNATE", ALTERNATE)
TOOLS = """
{%- if tools %}
{{- "<|im_start|>system\nYou may call functions:\n<tools>" }}
{%- for tool in tools %}{{ "\n" }}{{ tool | tojson }}{% endfor %}
{{- "\n</tools>\nFor each call, return a JSON object in these tags:\n<tool_call>\n" }}
{{- '{"name": <name>, "arguments": <arguments>}' + "\n</tool_call><|im_end|>\n" }}
{%- endif %}
{%- for message in messages %}
{%- if message.role == "tool" %}
{{- "<|im_start|>user\n<tool_response>\n" + message.content + "\n</tool_response><|im_end|>\n" }}
{%- else %}
{{- "<|im_start|>" + message.role + "\n" }}
{{- message.content if message.content is string else "" }}
{%- for call in message.tool_calls or [] %}
{{- "\n<tool_call>\n" + '{"name": "' + call.function.name + '", "arguments": ' }}
{{- call.function.arguments | tojson }}{{ "}\n</tool_call>" }}
{%- endfor %}
{{- "<|im_end|>\n" }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ "<|im_start|>assistant\n" }}{% endif %}
"""
UNFINISHED = "The model produced output that does not match"
"""What llama-server says of a call that the limit of tokens cuts off: the request was accepted."""
USE: Json = {"type": "tool_use", "id": "toolu_1", "name": "read", "input": {"a": "1"}}
RESULT: Json = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"}
TEXT: Json = {"type": "text", "text": "A hook says: be brief."}
HI: Json = {"role": "user", "content": "hi"}
TOOL: Json = {"name": "read", "input_schema": {"type": "object", "properties": {"a": {}}}}


@pytest.fixture(scope="module")
def gateway(
    set_model: SetModel, start_gateway: StartGateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("templates")
    with ExitStack() as stack:
        for name, text in {"strict": STRICT, "plain": TOOLS}.items():
            template = folder / f"{name}.jinja"
            template.write_text(text)
            arguments = ("--ctx-size", "8192", "--jinja", "--chat-template-file", str(template))
            server = stack.enter_context(serving(folder / f"{name}.log", *arguments))
            set_model(f"te-{name}", server.url)
        config = {
            "router": "templates",
            "namespace": NAMESPACE,
            "models": [{"name": name, "llama_model": f"te-{name}"} for name in ("strict", "plain")],
        }
        yield start_gateway(GatewayConfig.model_validate(config))


def post(gateway: Process, path: str, body: Json) -> httpx.Response:
    return httpx.post(f"{gateway.url}{path}", json={"max_tokens": 3, **body}, timeout=120)


def accepted(response: httpx.Response) -> bool:
    return response.status_code == 200 or UNFINISHED in response.text


CONVERSATIONS: dict[str, list[Json]] = {
    "R01 text beside results": [
        HI,
        {"role": "assistant", "content": [USE]},
        {"role": "user", "content": [RESULT, TEXT]},
    ],
    "R01 a system message after results": [
        HI,
        {"role": "assistant", "content": [USE]},
        {"role": "user", "content": [RESULT]},
        {"role": "system", "content": "Environment."},
    ],
    "R02 two of the user": [HI, HI],
    "R03 two of the assistant": [HI, *2 * [{"role": "assistant", "content": "a"}], HI],
    "ids of calls": [
        HI,
        {"role": "assistant", "content": [USE]},
        {"role": "user", "content": [RESULT]},
    ],
}


@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize("model", ["strict", "plain"])
def test_a_conversation_is_answered(gateway: Process, model: str, name: str) -> None:
    body = {"model": model, "messages": CONVERSATIONS[name], "tools": [TOOL]}
    response = post(gateway, "/v1/messages", body)
    assert accepted(response), response.text


def test_r02_two_of_the_user_in_each_api(gateway: Process) -> None:
    for path, body in {
        "/v1/chat/completions": {"messages": [HI, HI]},
        "/v1/responses": {"input": [HI, HI]},
        "/api/chat": {"messages": [HI, HI], "stream": False, "options": {"num_predict": 3}},
    }.items():
        response = post(gateway, path, {"model": "strict", **body})
        assert accepted(response), response.text


def test_a_chat_and_a_response_with_text_after_a_result(gateway: Process) -> None:
    function = {"name": "read", "arguments": '{"a": "1"}'}
    call = {"id": "call_abcdef", "type": "function", "function": function}
    tool = {"name": "read", "parameters": {"type": "object", "properties": {}}}
    turns = [
        HI,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_abcdef", "content": "x"},
        {"role": "user", "content": "be brief"},
    ]
    chat = {"model": "strict", "messages": turns, "tools": [{"type": "function", "function": tool}]}
    assert accepted(post(gateway, "/v1/chat/completions", chat))
    items = [
        HI,
        {"type": "function_call", "call_id": "call_abcdef", **function},
        {"type": "function_call_output", "call_id": "call_abcdef", "output": "x"},
        {"role": "user", "content": "be brief"},
    ]
    responses = {"model": "strict", "input": items, "tools": [{"type": "function", **tool}]}
    assert accepted(post(gateway, "/v1/responses", responses))


def test_g01_a_real_server_takes_two_tools_of_one_name(gateway: Process) -> None:
    tool = {"type": "function", "name": "read", "parameters": {"type": "object"}}
    tools = [
        {"type": "namespace", "name": name, "description": "x", "tools": [tool]}
        for name in ("mcp__files", "mcp__db")
    ]
    body = {"model": "plain", "input": "Read.", "tools": tools, "max_output_tokens": 3}
    without = post(gateway, "/v1/responses", {**body, "tools": tools[:1]})
    both = post(gateway, "/v1/responses", body)
    tokens = [response.json()["usage"]["input_tokens"] for response in (without, both)]
    assert tokens[0] < tokens[1], "the prompt has both"


SCHEMAS: dict[str, Any] = {
    "maxItems 2000": {"type": "array", "items": {"type": "string"}, "maxItems": 2000},
    "minItems 2000": {"type": "array", "items": {"type": "string"}, "minItems": 2000},
    "true": True,
    "false": False,
    "items true": {"type": "array", "items": True},
    "items false": {"type": "array", "prefixItems": [{"type": "string"}], "items": False},
    "prefix true": {"type": "array", "prefixItems": [True, {}]},
    "any of true": {"anyOf": [True, {"type": "string"}]},
    "nothing in a list": {"type": "array", "items": {}},
    "reference to itself": {"$ref": "#"},
    "maxLength 5.0": {"type": "string", "maxLength": 5.0},
    "maxLength 100000": {"type": "string", "maxLength": 100000},
    "minLength null": {"type": "string", "minLength": None},
    **{
        f"pattern {pattern}": {"type": "string", "pattern": pattern}
        for pattern in (
            *(r"^(?=a)\d+$", r"\d+", "", r"^\/a$", r"^[[:alpha:]]$", r"^(a)\1$", "^[a-z", "^a|b$"),
            *("^[a-z0-9_.-]{1,63}$", "^(?:a|b)+$", r"^\p{L}$", r"^[\s\S]*$", "^(a{99}){99}$"),
        )
    },
    "more at least than at most": {"type": "string", "minLength": 5, "maxLength": 2},
    "type any": {"type": "any"},
    "type of another language": {"type": "OBJECT", "properties": {"x": {"type": "STRING"}}},
    "types of which one is odd": {"type": ["string", "file"]},
    "no types": {"type": []},
    "nothing of nothing": {"anyOf": []},
    "length as text": {"type": "string", "maxLength": "5"},
    "format": {"type": "string", "format": "uri"},
    "type list": {"type": ["string", "null"]},
    "enum": {"enum": ["a", 1, None, True]},
    "const": {"const": "x"},
    "not": {"not": {"type": "string"}},
    "no type": {"description": "anything"},
    "minimum": {"type": "integer", "minimum": 0, "maximum": 1e300},
    "exclusive": {"type": "number", "exclusiveMinimum": 0},
    "patternProperties": {"type": "object", "patternProperties": {"^x": {"type": "string"}}},
    "additional true": {"type": "object", "additionalProperties": True},
    "additional schema": {"type": "object", "additionalProperties": {"type": "array"}},
    "definitions": {"$ref": "#/$defs/node"},
    "if": {"if": {"type": "string"}, "then": {"minLength": 1}},
    "default": {"type": "object", "default": {}, "properties": {}},
    "nullable": {"type": "string", "nullable": True},
    "null": None,
}


def odd_tool(name: str, schema: Any) -> Json:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}
    parameters = {"type": "object", "properties": {"a": schema}, "$defs": {"node": node}}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


@pytest.mark.parametrize("name", SCHEMAS)
def test_r06_one_odd_schema_takes_no_other_tool_down(gateway: Process, name: str) -> None:
    plain = {"type": "function", "function": {"name": "plain", "parameters": {}}}
    tools = [odd_tool("odd", SCHEMAS[name]), plain]
    body = {"model": "plain", "messages": [HI], "tools": tools, "tool_choice": "required"}
    response = post(gateway, "/v1/chat/completions", {**body, "max_tokens": 1})
    assert accepted(response), response.text


@pytest.mark.parametrize("model", ["strict", "plain"])
def test_r06_all_odd_schemas_together(gateway: Process, model: str) -> None:
    tools = [odd_tool(f"odd{number}", schema) for number, schema in enumerate(SCHEMAS.values())]
    body = {"model": model, "messages": [HI], "tools": tools, "max_tokens": 1}
    response = post(gateway, "/v1/chat/completions", body)
    assert accepted(response), response.text


@pytest.mark.parametrize("arguments", ["{", '"text"', "[1]", "null", ""])
def test_r09_arguments_that_are_no_object_are_no_fault_of_the_server(
    gateway: Process, arguments: str
) -> None:
    function = {"name": "read", "arguments": arguments}
    call = {"id": "abcdefghi", "type": "function", "function": function}
    turns = [
        HI,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "abcdefghi", "content": "x"},
    ]
    for model in ("strict", "plain"):
        response = post(gateway, "/v1/chat/completions", {"model": model, "messages": turns})
        assert accepted(response) or response.status_code == 400, response.text
