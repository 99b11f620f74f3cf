"""Converts Anthropic requests to Chat Completions, and the answers back.

It also serves requests with an answer schema: llama-server's chat route supports one, its Anthropic
route does not.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

from llama_halo.gateway.convert.common import (
    encode_events,
    mapping,
    object_schema,
    objects_in,
    pick_fields,
    text_of,
    thought_of,
)
from llama_halo.gateway.convert.documents import PDF
from llama_halo.gateway.convert.tool_calls import PendingCall, ToolCallIndex, new_id
from llama_halo.gateway.http.errors import Failure
from llama_halo.gateway.http.sse import SseEvent
from llama_halo.gateway.http.token_usage import TokenUsage

Json = dict[str, Any]
_STOPS = {"length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
_NO_PARTS = ("thinking", "tool_use", "tool_result")
"""Blocks that become something else than a part."""
_CHOICES = {"any": "required", "auto": "auto", "none": "none"}


def request_to_chat(body: Json) -> Json:
    """Return a Messages body, as prepared for llama-server, as one of Chat Completions."""
    system = text_of(body.get("system"))
    messages: list[Json] = [{"role": "system", "content": system}] if system else []
    for index, message in enumerate(body["messages"]):
        messages += _messages(message, f"messages.{index}.content")
    chat: Json = {
        "model": body["model"],
        "messages": messages,
        **pick_fields(
            body, ("max_tokens", "temperature", "top_p", "top_k", "chat_template_kwargs")
        ),
    }
    thinking = mapping(body.get("thinking"))
    if thinking.get("type") == "enabled" and isinstance(thinking.get("budget_tokens"), int):
        chat["thinking_budget_tokens"] = thinking["budget_tokens"]
    if body.get("stop_sequences"):
        chat["stop"] = body["stop_sequences"]
    answer_format = mapping(mapping(body.get("output_config")).get("format"))
    if isinstance(answer_format.get("schema"), dict):
        schema = {"name": "answer", "schema": answer_format["schema"]}
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    tools = [_tool(tool) for tool in objects_in(body.get("tools"))]
    if tools:
        chat["tools"] = tools
        chat |= _choice(mapping(body.get("tool_choice")))
    return chat


def _messages(message: Json, path: str) -> Iterator[Json]:
    """Yield one message as chat messages; each tool result becomes a message of its own."""
    content = message["content"]
    if isinstance(content, str):
        yield {"role": message["role"], "content": content}
        return
    blocks = objects_in(content)
    results = [block for block in blocks if block.get("type") == "tool_result"]
    yield from map(_result, results)
    # Images and files of tool results follow in a user message, where every server accepts them.
    shown = [part for result in results for part in _shown(result, path)]
    if shown:
        yield {"role": "user", "content": shown}
    parts = [part for block in blocks if (part := _part(block, path))]
    calls = [_call(block) for block in blocks if block.get("type") == "tool_use"]
    if not parts and not calls:
        return
    if message["role"] == "assistant":
        thoughts = "\n\n".join(_thoughts(blocks)) if calls else ""
        yield {
            "role": "assistant",
            "content": text_of(parts) or None,
            # Some providers refuse a turn with calls without the thoughts that led to them.
            **({"reasoning_content": thoughts} if thoughts else {}),
            **({"tool_calls": calls} if calls else {}),
        }
    elif all(part["type"] == "text" for part in parts):
        yield {"role": message["role"], "content": text_of(parts)}
    else:
        yield {"role": message["role"], "content": parts}


def _thoughts(blocks: list[Json]) -> Iterator[str]:
    for block in blocks:
        if block.get("type") == "thinking" and isinstance(block.get("thinking"), str):
            yield block["thinking"]


def _part(block: Json, path: str) -> Json | None:
    """Return a block as a part; raises `Failure` (400) for a file that is not in the request."""
    kind, source = block.get("type"), mapping(block.get("source"))
    if kind == "text":
        return {"type": "text", "text": str(block.get("text", ""))}
    if kind == "image":
        url = source.get("url")
        if source.get("type") == "base64":
            url = f"data:{source.get('media_type', 'image/png')};base64,{source.get('data', '')}"
        if isinstance(url, str):
            return {"type": "image_url", "image_url": {"url": url}}
    elif kind == "document" and source.get("type") == "base64":
        url = f"data:{source.get('media_type', PDF)};base64,{source.get('data', '')}"
        name = block.get("title")
        file = {"filename": name if isinstance(name, str) and name else "document.pdf"}
        return {"type": "file", "file": {**file, "file_data": url}}
    if kind in _NO_PARTS:
        return None
    if kind not in ("image", "document", "container_upload"):
        raise Failure(400, f"{path}: a block of type {str(kind)[:40]!r} is not supported")
    raise Failure(
        400,
        f"{path}: files referenced by ID or URL cannot be sent to this model: send the content as"
        " base64",
    )


def _result(block: Json) -> Json:
    call_id, text = str(block.get("tool_use_id", "")), text_of(block.get("content"))
    if block.get("is_error") is True and not text.lower().startswith("error"):
        text = f"Error: {text}"  # no other API has the field
    return {"role": "tool", "tool_call_id": call_id, "content": text}


def _shown(block: Json, path: str) -> list[Json]:
    parts = (_part(part, path) for part in objects_in(block.get("content")))
    return [part for part in parts if part and part["type"] != "text"]


def _call(block: Json) -> Json:
    function = {"name": str(block.get("name", "")), "arguments": json.dumps(block.get("input", {}))}
    return {"id": str(block.get("id", "")), "type": "function", "function": function}


def _tool(tool: Json) -> Json:
    function = {"name": tool.get("name"), "parameters": object_schema(tool.get("input_schema"))}
    function |= pick_fields(tool, ("strict",))
    if isinstance(tool.get("description"), str):
        function["description"] = tool["description"]
    return {"type": "function", "function": function}


def _choice(choice: Json) -> Json:
    options: Json = {}
    if choice.get("type") == "tool":
        named = {"name": choice.get("name")}
        options["tool_choice"] = {"type": "function", "function": named}
    elif str(choice.get("type")) in _CHOICES:
        options["tool_choice"] = _CHOICES[str(choice["type"])]
    if choice.get("disable_parallel_tool_use"):
        options["parallel_tool_calls"] = False
    return options


@dataclass
class _OpenCall(PendingCall):
    """A call of a tool, as far as it has arrived."""

    block: int | None = None
    """The index of its block; None until that begins."""


@dataclass
class _Message:
    """The state of the message that is streamed to the client."""

    blocks: int = 0
    kind: str = ""
    """Type of the open text or thinking block; empty if there is none."""
    calls_seen: ToolCallIndex = field(default_factory=ToolCallIndex)
    calls: list[_OpenCall] = field(default_factory=list)
    reason: str = "end_turn"
    usage: Any = None

    def begin(self, data: Json) -> Iterator[SseEvent]:
        yield _begin(data)

    def take(self, choice: Json) -> Iterator[SseEvent]:
        delta = mapping(choice.get("delta"))
        thought = thought_of(delta)
        if thought:
            yield from self.say("thinking", thought)
        for name in ("content", "refusal"):
            if isinstance(delta.get(name), str) and delta[name]:
                yield from self.say("text", delta[name])
        for piece in objects_in(delta.get("tool_calls")):
            yield from self.call(piece)
        reason = choice.get("finish_reason")
        if isinstance(reason, str):
            self.reason = _STOPS.get(reason, "end_turn")

    def say(self, kind: str, text: str) -> Iterator[SseEvent]:
        """Yield the events of a piece of text or thinking."""
        field_name = "text" if kind == "text" else "thinking"
        if self.kind != kind:
            yield from self.close()
            self.kind = kind
            empty = {"type": kind, field_name: ""}
            yield self.start({**empty, "signature": ""} if kind == "thinking" else empty)
        yield _delta(self.blocks - 1, {"type": f"{field_name}_delta", field_name: text})

    def call(self, piece: Json) -> Iterator[SseEvent]:
        """Yield the events of a piece of a tool call.

        The block begins when the name is there, which may come after the id. It stays open, because
        pieces of several calls may alternate.
        """
        index, is_new = self.calls_seen.assign(piece)
        if is_new:
            self.calls.append(_OpenCall())
        call = self.calls[index]
        call.take(piece)
        yield from self._advance(call)

    def _advance(self, call: _OpenCall, *, is_last: bool = False) -> Iterator[SseEvent]:
        if call.block is None and (call.name or is_last):
            yield from self.close()
            call.block = self.blocks
            head = {"id": call.call_id or new_id("toolu"), "name": call.name}
            yield self.start({"type": "tool_use", **head, "input": {}})
        if call.block is not None and call.pending:
            part = {"type": "input_json_delta", "partial_json": call.pending}
            call.pending = ""
            yield _delta(call.block, part)

    def start(self, block: Json) -> SseEvent:
        self.blocks += 1
        return _event("content_block_start", index=self.blocks - 1, content_block=block)

    def close(self) -> Iterator[SseEvent]:
        """Close the open text or thinking block, if there is one."""
        if self.kind:
            self.kind = ""
            yield _event("content_block_stop", index=self.blocks - 1)

    def end(self) -> Iterator[SseEvent]:
        for call in self.calls:
            yield from self._advance(call, is_last=True)
        yield from self.close()
        for call in self.calls:
            yield _event("content_block_stop", index=call.block)
        # Some servers end a forced tool call with "stop".
        calls = bool(self.calls) and self.reason == "end_turn"
        delta = {"stop_reason": "tool_use" if calls else self.reason, "stop_sequence": None}
        yield _event("message_delta", delta=delta, usage=_usage(self.usage))
        yield _event("message_stop")


def events_to_anthropic(upstream: AsyncIterable[SseEvent]) -> AsyncIterator[SseEvent]:
    """Convert the chunks of a chat to the events of an Anthropic message."""
    return encode_events(upstream, _Message())


def _begin(data: Json) -> SseEvent:
    message: Json = {
        "id": str(data.get("id") or new_id("msg")),
        "type": "message",
        "role": "assistant",
        "model": data.get("model"),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }
    return _event("message_start", message=message)


def _usage(usage: Any) -> Json:
    tokens = TokenUsage.of(usage)
    return {
        "input_tokens": max(tokens.prompt - tokens.cached, 0),
        "cache_read_input_tokens": tokens.cached,
        "output_tokens": tokens.answer,
    }


def _delta(index: int, delta: Json) -> SseEvent:
    return _event("content_block_delta", index=index, delta=delta)


def _event(kind: str, **fields: Any) -> SseEvent:
    return SseEvent.of({"type": kind, **fields}, kind)
