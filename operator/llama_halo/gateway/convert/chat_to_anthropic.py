"""Converts Chat Completions requests for Anthropic providers, and the answers back."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

from llama_halo.gateway.convert.common import (
    DONE,
    ChatChunks,
    data_url,
    mapping,
    object_schema,
    objects_in,
    pick_fields,
    text_of,
    tool_arguments,
    tool_call_delta,
)
from llama_halo.gateway.convert.documents import PDF
from llama_halo.gateway.http import answers
from llama_halo.gateway.http.errors import Failure
from llama_halo.gateway.http.sse import SseEvent
from llama_halo.gateway.http.token_usage import TokenUsage

Json = dict[str, Any]
MAX_TOKENS = 8192
"""`max_tokens` if the client sets none: Anthropic's API requires it."""
_REASONS = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_CHOICES = {"required": "any", "auto": "auto", "none": "none"}


def request_to_anthropic(body: Json) -> Json:
    """Convert a chat request to a Messages request."""
    texts = [text_of(message.get("content")) for message in body["messages"] if _is_system(message)]
    system = [text for text in texts if text.strip()]
    messages: list[Json] = []
    for index, message in enumerate(body["messages"]):
        if not _is_system(message):
            _add(messages, message, f"messages.{index}.content")
    if not messages:
        raise Failure(400, "messages: none of them has content, which the Anthropic API requires")
    last = messages[-1]["content"][-1]
    if messages[-1]["role"] == "assistant" and last["type"] == "text":
        last["text"] = last["text"].rstrip()  # the API refuses white space at the end
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    request: Json = {
        "model": body["model"],
        "max_tokens": limit if isinstance(limit, int) else MAX_TOKENS,
        "messages": messages,
        **({"system": "\n\n".join(system)} if system else {}),
    }
    if isinstance(body.get("temperature"), (int, float)):
        request["temperature"] = min(body["temperature"], 1)  # Anthropic's maximum
    else:
        request |= pick_fields(body, ("top_p",))  # newer models accept only one of the two
    request |= pick_fields(body, ("top_k",))
    stop = body.get("stop")
    stops = [stop] if isinstance(stop, str) else stop if isinstance(stop, list) else []
    # Anthropic's API refuses stop sequences of white space alone.
    if kept := [text for text in stops if isinstance(text, str) and text.strip()]:
        request["stop_sequences"] = kept
    if mapping(body.get("response_format")).get("type") == "json_object":
        request["system"] = "\n\n".join([*system, "Answer with one JSON object, and nothing else."])
    schema = mapping(mapping(body.get("response_format")).get("json_schema")).get("schema")
    if isinstance(schema, dict):
        request["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    tools = [mapping(tool.get("function")) for tool in objects_in(body.get("tools"))]
    if tools:
        request["tools"] = [_tool(tool) for tool in tools]
        request |= _choice(body)
    return request


def drop_unsigned_thinking(messages: list[Json]) -> list[Json]:
    """Return messages without unsigned thinking blocks, which Anthropic's API refuses."""
    kept_messages = []
    for message in messages:
        content = message.get("content")
        if not isinstance(content, list):
            kept_messages.append(message)
        elif kept_blocks := [block for block in content if not _is_unsigned(block)]:
            kept_messages.append({**message, "content": kept_blocks})
    return kept_messages


def _is_unsigned(block: Any) -> bool:
    return mapping(block).get("type") == "thinking" and not block.get("signature")


def _is_system(message: Json) -> bool:
    return message.get("role") in ("system", "developer")


def _add(messages: list[Json], message: Json, path: str) -> None:
    """Append a message; consecutive messages of one role become one."""
    role = "assistant" if message["role"] == "assistant" else "user"
    blocks = list(_blocks(message, path))
    if not blocks:
        return
    if messages and messages[-1]["role"] == role:
        both = messages[-1]["content"] + blocks
        # Results of tools must come before anything else that the user says.
        messages[-1]["content"] = sorted(both, key=lambda block: block["type"] != "tool_result")
    else:
        messages.append({"role": role, "content": blocks})


def _blocks(message: Json, path: str) -> Iterator[Json]:
    """Yield a message's blocks; raises `Failure` (400) for a part that Anthropic's API has not."""
    content = message.get("content")
    parts = list(_part_blocks(content, path))
    if message["role"] in ("tool", "function"):
        call_id = str(message.get("tool_call_id", ""))
        plain = all(part["type"] == "text" for part in parts)
        result = text_of(content) if plain else parts
        yield {"type": "tool_result", "tool_use_id": call_id, "content": result}
        return
    yield from parts
    if isinstance(message.get("refusal"), str) and message["refusal"].strip():
        yield {"type": "text", "text": message["refusal"]}
    for call in objects_in(message.get("tool_calls")):
        function = mapping(call.get("function"))
        head = {"id": str(call.get("id", "")), "name": str(function.get("name", ""))}
        yield {"type": "tool_use", **head, "input": tool_arguments(function.get("arguments"))}


def _part_blocks(content: Any, path: str) -> Iterator[Json]:
    """Yield the blocks of a content; text of white space alone is refused there, so it is left
    out."""
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else objects_in(content)
    for index, part in enumerate(parts):
        kind = part.get("type")
        text = part.get("refusal") if kind == "refusal" else part.get("text")
        if kind in ("text", "refusal"):
            if isinstance(text, str) and text.strip():
                yield {"type": "text", "text": text}
        elif kind == "image_url":
            image = part.get("image_url")
            yield from _image(image if isinstance(image, str) else mapping(image).get("url"))
        elif kind == "file" and (inline := data_url(mapping(part.get("file")).get("file_data"))):
            yield _document(inline, mapping(part.get("file")).get("filename"), f"{path}.{index}")
        else:
            raise Failure(
                400,
                f"{path}.{index}: the provider speaks the Anthropic API, which has no"
                f" {str(kind)[:40]!r} of this form: send text, pictures, or a PDF as base64",
            )


def _document(inline: tuple[str, str], name: Any, path: str) -> Json:
    media, data = inline
    if media != PDF:
        raise Failure(
            400, f"{path}: the provider speaks the Anthropic API, which takes PDFs, and not {media}"
        )
    source = {"type": "base64", "media_type": media, "data": data}
    return {
        "type": "document",
        "source": source,
        **({"title": name} if isinstance(name, str) else {}),
    }


def _image(url: Any) -> Iterator[Json]:
    inline = data_url(url)
    if inline:
        media, data = inline
        kind = media.partition(";")[0].replace("image/jpg", "image/jpeg")
        yield {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}
    elif isinstance(url, str):
        yield {"type": "image", "source": {"type": "url", "url": url}}


def _tool(function: Json) -> Json:
    schema = object_schema(function.get("parameters"))
    return {**pick_fields(function, ("name", "description", "strict")), "input_schema": schema}


def _choice(body: Json) -> Json:
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        name = mapping(choice.get("function")).get("name")
        tool_choice: Json = {"type": "tool", "name": name}
    elif isinstance(choice, str) and choice in _CHOICES:
        tool_choice = {"type": _CHOICES[choice]}
    elif body.get("parallel_tool_calls") is False:
        tool_choice = {"type": "auto"}
    else:
        return {}
    if body.get("parallel_tool_calls") is False and tool_choice["type"] != "none":
        tool_choice["disable_parallel_tool_use"] = True
    return {"tool_choice": tool_choice}


@dataclass
class _StreamState:
    """The state of the message that is being received."""

    calls: dict[int, int] = field(default_factory=dict)
    """Index of each tool call, by the index of its block."""
    usage: TokenUsage = field(default_factory=TokenUsage)
    chunks: ChatChunks = field(default_factory=ChatChunks)
    has_ended: bool = False


async def events_to_chat(upstream: AsyncIterable[SseEvent]) -> AsyncIterator[SseEvent]:
    """Convert the events of an Anthropic message to the chunks of a chat."""
    state = _StreamState()
    async for event in upstream:
        data = event.value
        if not isinstance(data, dict):
            continue
        kind = data.get("type")
        if kind == "error":
            yield SseEvent.of({"error": data.get("error")})
            return
        for converted in _events_of(state, data):
            yield converted
        if kind == "message_stop":
            state.has_ended = True
            break
    if state.has_ended:
        yield state.chunks.usage(state.usage)
        yield DONE


def _events_of(state: _StreamState, data: Json) -> Iterator[SseEvent]:
    kind, delta = data.get("type"), mapping(data.get("delta"))
    block = mapping(data.get("content_block"))
    if kind == "message_start":
        state.usage.note(data)
        number = mapping(data.get("message")).get("id")
        state.chunks.number = number if isinstance(number, str) and number else state.chunks.number
        yield state.chunks.chunk({"role": "assistant", "content": ""})
    elif kind == "content_block_start" and block.get("type") == "tool_use":
        index = state.calls.setdefault(answers.index_of(data, 0), len(state.calls))
        call_id, name = str(block.get("id", "")), str(block.get("name", ""))
        yield state.chunks.chunk(tool_call_delta(index, call_id=call_id, name=name))
    elif kind == "content_block_delta":
        piece = _piece(state, answers.index_of(data, 0), delta)
        if piece:
            yield state.chunks.chunk(piece)
    elif kind == "message_delta":
        state.usage.note(data)
        if not state.has_ended and isinstance(delta.get("stop_reason"), str):
            state.has_ended = True  # some servers leave out message_stop
            yield state.chunks.chunk({}, _REASONS.get(delta["stop_reason"], "stop"))


def _piece(state: _StreamState, index: int, delta: Json) -> Json:
    if isinstance(delta.get("text"), str):
        return {"content": delta["text"]}
    if isinstance(delta.get("thinking"), str):
        return {"reasoning_content": delta["thinking"]}
    if isinstance(delta.get("partial_json"), str) and index in state.calls:
        return tool_call_delta(state.calls[index], arguments=delta["partial_json"])
    return {}
