"""The Anthropic Messages API over llama-server's own `/v1/messages`.

This module corrects what llama-server's route lacks or does differently; each correction states its
reason.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

from llama_halo.gateway.apis.exchange import ApiExchange
from llama_halo.gateway.apis.openai_chat import PATH as CHAT_PATH
from llama_halo.gateway.apis.system_messages import fold_system
from llama_halo.gateway.apis.validation import check_content, check_tools, validate_messages
from llama_halo.gateway.convert import anthropic_to_chat
from llama_halo.gateway.convert.anthropic_blocks import readable_messages, tool_changes
from llama_halo.gateway.convert.anthropic_to_chat import events_to_anthropic
from llama_halo.gateway.convert.client_tools import as_function, is_hosted
from llama_halo.gateway.convert.common import tool_arguments
from llama_halo.gateway.convert.turns import join_parts, join_turns, parts_of
from llama_halo.gateway.http import answers
from llama_halo.gateway.http.errors import Failure, ended_early, from_stream_error, malformed
from llama_halo.gateway.http.sse import SseEvent, encode

Json = dict[str, Any]
_OF_ASSISTANT = ("tool_use", "thinking", "redacted_thinking")
_OF_USER = ("tool_result", "image", "document", "search_result", "container_upload")
_ROLES = ("user", "assistant", "system")
_DELTA = b"event: content_block_delta\n"
_LATER = ("content_block_start", "content_block_stop", "message_delta", "message_stop")
_OF_DELTA = ("type", "delta", "usage")
_BILLING = "x-anthropic-billing-header"
_TAG = re.compile(r"\s*<CCR-SUBAGENT-MODEL>([^<>\n]{1,253})</CCR-SUBAGENT-MODEL>\s*")
PATH, COUNT_PATH = "/v1/messages", "/v1/messages/count_tokens"
HEARTBEAT = encode({"type": "ping"}, "ping")


def validate(body: Any) -> Json:
    """Return the body; raises `Failure` (400) for what llama-server would answer with 500."""
    for index, message in enumerate(validate_messages(body)["messages"]):
        if message["role"] not in _ROLES:
            raise Failure(400, f"messages.{index}.role: must be one of {', '.join(_ROLES)}")
        content = message.get("content")
        if not isinstance(content, (str, list)):
            raise Failure(400, f"messages.{index}.content: a string or a list is required")
        _check_blocks(content, message["role"], f"messages.{index}.content")
    check_tools(body)
    checked_body: Json = body
    return checked_body


def _check_blocks(content: Any, role: str, path: str) -> None:
    """Raise `Failure` (400) for a block in a turn that cannot have it, as Anthropic's API does."""
    check_content(content, path)
    for index, block in enumerate(content if isinstance(content, list) else ()):
        kind = block.get("type")
        if kind == "tool_result":
            check_content(block.get("content"), f"{path}.{index}.content")
        foreign = _OF_USER if role == "assistant" else _OF_ASSISTANT
        if kind in foreign:
            raise Failure(400, f"{path}.{index}: a message of the {role} has no {kind} blocks")


def upstream_body(body: Json) -> Json:
    """Return the body for llama-server's `/v1/messages`."""
    messages = readable_messages(body["messages"])
    if not messages:
        raise Failure(400, "messages: none of them has a block that a model can read")
    messages = join_turns(fold_system(messages, join_parts, keeps_first=False), join_parts)
    mended = {**body, "messages": _results_first(messages)}
    if "system" in body:
        mended["system"] = _without_billing(body["system"])
        if not mended["system"]:
            del mended["system"]
    _mend_tools(mended, *tool_changes(body["messages"]))
    thinking = body.get("thinking")
    if isinstance(thinking, dict) and thinking.get("type") == "disabled":
        # llama-server ignores `disabled`; the chat template's own switch works.
        template_options = body.get("chat_template_kwargs")
        kwargs = template_options if isinstance(template_options, dict) else {}
        mended["chat_template_kwargs"] = {**kwargs, "enable_thinking": False}
    return mended


def build_exchange(body: Json) -> ApiExchange:
    """Return the exchange of a `/v1/messages` request; one with a schema uses the chat route."""
    model = body["model"]
    stops = body.get("stop_sequences")
    mended = upstream_body(body)
    if _wants_schema(body) and (chat := _as_chat(mended)):
        # llama-server's Anthropic route ignores the answer's schema; its chat route enforces it.
        return ApiExchange(
            path=CHAT_PATH,
            body={**chat, "stream": True, "stream_options": {"include_usage": True}},
            streams=bool(body.get("stream")),
            stream=lambda events: stream(_as_messages(events), model=model, stops=stops),
            collect=lambda events: collect(_as_messages(events), model=model, stops=stops),
            heartbeat=HEARTBEAT,
            native_path=PATH,
            count_path=f"{CHAT_PATH}/input_tokens",
        )
    return ApiExchange(
        path=PATH,
        body={**mended, "stream": True},
        streams=bool(body.get("stream")),
        stream=lambda events: stream(events, model=model, stops=stops),
        collect=lambda events: collect(events, model=model, stops=stops),
        heartbeat=HEARTBEAT,
        native_path=PATH,
        count_path=COUNT_PATH,
        passthrough=_passthrough,
    )


def _passthrough(event: bytes) -> bytes | None:
    """Return a content delta unchanged: deltas need no correction and are most of a stream."""
    return event if event.startswith(_DELTA) else None


async def _as_messages(events: AsyncIterable[SseEvent]) -> AsyncIterator[SseEvent]:
    """Convert the chunks of a chat; a provider of this API sends events that are passed on."""
    iterator = aiter(events)
    first = await anext(iterator, None)
    if first is None:
        return
    is_native = isinstance(first.value, dict) and "type" in first.value

    async def whole() -> AsyncIterator[SseEvent]:
        yield first
        async for event in iterator:
            yield event

    async for event in whole() if is_native else events_to_anthropic(whole()):
        yield event


def _as_chat(body: Json) -> Json:
    """Return a body as one of Chat Completions; an empty one if only Anthropic's API can say it."""
    try:
        return anthropic_to_chat.request_to_chat(body)
    except Failure:
        return {}


def _wants_schema(body: Json) -> bool:
    output_config = body.get("output_config")
    form = output_config.get("format") if isinstance(output_config, dict) else None
    return isinstance(form, dict) and isinstance(form.get("schema"), dict)


def take_tag(body: Json) -> tuple[str, Json]:
    """Return the model of a Claude Code Router tag (empty without one), and the body without it.

    The prompt of an agent starts with the tag: `<CCR-SUBAGENT-MODEL>provider,model</...>`.
    """
    system = body.get("system")
    if isinstance(system, list):
        for index, block in enumerate(system):
            model, mended = _untagged(block)
            if model:
                return model, {**body, "system": [*system[:index], mended, *system[index + 1 :]]}
    first, *rest = body["messages"]
    blocks = parts_of(first["content"])
    for index, block in enumerate(blocks):
        model, mended = _untagged(block)
        if model:
            content = [*blocks[:index], mended, *blocks[index + 1 :]]
            return model, {**body, "messages": [{**first, "content": content}, *rest]}
    return "", body


def _untagged(block: Any) -> tuple[str, Any]:
    tag = _TAG.match(block["text"]) if _is_text(block) else None
    return (tag[1], {**block, "text": block["text"][tag.end() :]}) if tag else ("", block)


def _is_text(block: Any) -> bool:
    return isinstance(block, dict) and isinstance(block.get("text"), str)


async def stream(
    upstream: AsyncIterable[SseEvent], *, model: str, stops: Any = None
) -> AsyncIterator[bytes]:
    """Yield llama-server's events for the client, with the requested model's name.

    Raises `Failure` for an error event, and when the stream ends early.
    """
    begun = finished = has_reason = False
    async for event in upstream:
        if passed := _passthrough(event.encoded):
            yield passed
            continue
        data = event.value
        if not isinstance(data, dict):
            continue
        name, kind = event.name, data.get("type")
        if "error" in (name, kind) or "error" in data:
            raise from_stream_error(data.get("error", data))
        if not begun and kind in _LATER:
            yield encode({"type": "message_start", "message": _empty(model)}, "message_start")
        begun = True
        _mend_event(data, model, stops)
        finished = finished or kind == "message_stop"
        has_reason = has_reason or _has_stop_reason(data)
        yield encode(data, name or str(data.get("type", "")))
    if not finished and not has_reason:
        raise ended_early()
    if not finished:
        yield encode({"type": "message_stop"}, "message_stop")


async def collect(upstream: AsyncIterable[SseEvent], *, model: str, stops: Any = None) -> Json:
    """Assemble the events into one message; raises `Failure` like `stream`."""
    message = _empty(model)
    content: dict[int, Json] = {}
    finished = False
    async for event in upstream:
        data = event.value
        if not isinstance(data, dict):
            continue
        kind = data.get("type")
        if event.name == "error" or kind == "error" or "error" in data:
            raise from_stream_error(data.get("error", data))
        _mend_event(data, model, stops)
        if kind == "message_start":
            message |= answers.required(data, "message", dict)
        elif kind == "content_block_start":
            content[answers.index_of(data)] = {**answers.required(data, "content_block", dict)}
        elif kind == "content_block_delta":
            block = content.get(answers.index_of(data))
            if block is None:
                raise malformed("content_block_delta comes before content_block_start")
            _add_delta(block, answers.required(data, "delta", dict))
        elif kind == "message_delta":
            usage = answers.optional(message, "usage", dict) or {}
            message |= {name: data[name] for name in data if name not in _OF_DELTA}
            message |= answers.optional(data, "delta", dict) or {}
            message["usage"] = {**usage, **(answers.optional(data, "usage", dict) or {})}
        finished = finished or kind == "message_stop"
    if not finished and not message["stop_reason"]:
        raise ended_early()
    message["content"] = [_finish_block(content[index]) for index in sorted(content)]
    return message


def _has_stop_reason(data: Json) -> bool:
    """Tell whether only `message_stop` is missing after an event, which some servers omit."""
    delta = data.get("delta") if data.get("type") == "message_delta" else None
    return isinstance(delta, dict) and isinstance(delta.get("stop_reason"), str)


def _empty(model: str) -> Json:
    """Return an empty message.

    llama-server sends no `message_start` if its first token is only part of a character, such as
    an emoji.
    """
    return {
        "id": f"msg_{uuid.uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }


def _results_first(messages: list[Json]) -> list[Json]:
    """Move tool results to a message of their own, before the user's other content.

    llama-server would put them after that content, away from the calls that they answer.
    """
    ordered: list[Json] = []
    for message in messages:
        blocks = message["content"] if isinstance(message["content"], list) else []
        results = [block for block in blocks if _is_result(block)]
        rest = [block for block in blocks if not _is_result(block)]
        if results and rest:
            ordered += [{**message, "content": results}, {**message, "content": rest}]
        else:
            ordered.append(message)
    return ordered


def _is_result(block: Any) -> bool:
    return isinstance(block, dict) and block.get("type") == "tool_result"


def _without_billing(system: Any) -> Any:
    """Drop Claude Code's billing line: it changes with each prompt and defeats the prompt cache."""
    if isinstance(system, str):
        return _after_billing(system)
    if not isinstance(system, list):
        return system
    mended = (
        {**block, "text": _after_billing(block["text"])} if _is_text(block) else block
        for block in system
    )
    return [block for block in mended if not _is_text(block) or block["text"]]


def _after_billing(text: str) -> str:
    return text.partition("\n")[2].lstrip() if text.startswith(_BILLING) else text


def _mend_tools(body: Json, added: list[Json], removed: set[Any]) -> None:
    """Drop tools that only Anthropic's servers can run, and those that `tool_choice` excludes; give
    those that the client runs their schemas, and apply the tool changes of the conversation.

    llama-server would offer the former as functions that nobody answers. Raises `Failure` when
    `tool_choice` names a tool that is missing.
    """
    tools = body.get("tools")
    listed = tools if isinstance(tools, list) else []
    if not listed and not added:
        return
    tool_choice = body.get("tool_choice")
    choice = tool_choice if isinstance(tool_choice, dict) else {}
    named = choice.get("name") if choice.get("type") == "tool" else None
    kept = []
    for index, tool in enumerate([*listed, *added]):
        if not isinstance(tool, dict) or (tool.get("type") and is_hosted(tool)):
            continue
        offered = as_function(tool, index) if tool.get("type") else tool
        name = offered.get("name")
        if named in (None, name) and name not in removed:
            kept.append(_without_null(offered) if None in offered.values() else offered)
    if choice.get("type") == "none":
        kept = []
    if named and not kept:
        raise Failure(400, f"tool_choice: no tool is named {str(named)[:100]!r}")
    body["tools"] = kept
    if not kept:
        body.pop("tools")
        body.pop("tool_choice", None)


def _without_null(tool: Json) -> Json:
    return {name: value for name, value in tool.items() if value is not None}


def _mend_event(data: Json, model: str, stops: Any) -> None:
    if data.get("type") == "message_start" and isinstance(data.get("message"), dict):
        data["message"]["model"] = model
    delta = data.get("delta") if data.get("type") == "message_delta" else None
    # llama-server reports `end_turn` although it names the stop sequence.
    if isinstance(delta, dict) and stops and delta.get("stop_sequence"):
        delta["stop_reason"] = "stop_sequence"
    block = data.get("content_block")
    if isinstance(block, dict) and block.get("type") == "tool_use":
        block.setdefault("input", {})


_DELTAS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "input_json_delta": "partial_json",
}
"""By kind of delta: its field that continues the block's."""


def _add_delta(block: Json, delta: Json) -> None:
    """Append a delta to its block; tool input arrives as fragments of JSON text."""
    field = _DELTAS.get(str(delta.get("type")))
    if field:
        earlier = answers.optional(block, field, str) or ""
        block[field] = earlier + answers.required(delta, field, str)
    elif delta.get("type") == "citations_delta":
        citations = answers.optional(block, "citations", list) or []
        block["citations"] = [*citations, answers.required(delta, "citation", dict)]
    else:
        for name, value in delta.items():
            before = block.get(name)
            continues = isinstance(value, str) and isinstance(before, str)
            if name != "type":
                block[name] = before + value if continues else value


def _finish_block(block: Json) -> Json:
    """Parse the collected input of a tool, whoever runs it."""
    text = block.pop("partial_json", None)
    if text:
        block["input"] = tool_arguments(text)
    return block
