"""One conversation with a picture and a tool call, as Anthropic's and OpenAI's clients send it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

from llama_halo.contract.gateway_config import ProviderConfig
from llama_halo.gateway.apis.upstream_request import UpstreamRequest
from llama_halo.gateway.dispatch.encode import EncodedRequest, encode_request
from llama_halo.gateway.models.model import Model

Json = dict[str, Any]
PIXEL = "iVBORw0KGgo="
ANTHROPIC: Json = {
    "model": "m",
    "max_tokens": 9,
    "system": [{"type": "text", "text": "Be brief."}],
    "stop_sequences": ["END"],
    "temperature": 0.5,
    "tools": [
        {"name": "add", "description": "Add.", "input_schema": {"type": "object", "properties": {}}}
    ],
    "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
                },
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": ""},
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}},
            ],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "3"}],
        },
    ],
}


CHAT: Json = {
    "model": "m",
    "max_tokens": 9,
    "temperature": 0.5,
    "stop": ["END"],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "add",
                "parameters": {"type": "object", "properties": {}},
                "description": "Add.",
            },
        }
    ],
    "tool_choice": "required",
    "parallel_tool_calls": False,
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
            ],
        },
        {
            "role": "assistant",
            "content": "Let me see.",
            "reasoning_content": "hm",
            "tool_calls": [
                {
                    "id": "toolu_1",
                    "type": "function",
                    "function": {"name": "add", "arguments": '{"a": 1}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "toolu_1", "content": "3"},
    ],
}


def to(protocol: Any, upstream_request: UpstreamRequest) -> EncodedRequest:
    provider = ProviderConfig(name="p", protocol=protocol, base_url="http://p")
    return encode_request(
        Model("p/m", "http://p", True, "x", provider=provider, provider_name="theirs"),
        upstream_request,
        "key",
    )


async def pieces_of(lines: Iterable[bytes]) -> AsyncIterator[bytes]:
    for line in lines:
        yield line
