"""Converts Chat Completions requests for Ollama providers, and the answers back."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from typing import Any

from llama_halo.gateway.convert.common import (
    DONE,
    ChatChunks,
    data_url,
    mapping,
    objects_in,
    pick_fields,
    text_of,
    tool_arguments,
    tool_call_delta,
)
from llama_halo.gateway.convert.tool_calls import new_id
from llama_halo.gateway.http import answers
from llama_halo.gateway.http.answers import parse
from llama_halo.gateway.http.errors import Failure, from_provider, malformed
from llama_halo.gateway.http.sse import SseEvent
from llama_halo.gateway.http.token_usage import TokenUsage

Json = dict[str, Any]
_EFFORTS: dict[Any, Any] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
}
MAX_LINE_BYTES = 16 * 2**20
_OPTIONS = (
    *("temperature", "top_p", "top_k", "min_p", "typical_p", "seed"),
    *("presence_penalty", "frequency_penalty", "repeat_penalty", "repeat_last_n"),
)


def request_to_ollama(body: Json) -> Json:
    """Convert a chat request to an `/api/chat` request."""
    names = {
        str(call.get("id")): mapping(call.get("function")).get("name")
        for message in body["messages"]
        for call in objects_in(message.get("tool_calls"))
    }
    options = pick_fields(body, _OPTIONS)
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    if isinstance(limit, int):
        options["num_predict"] = limit
    stop = body.get("stop")
    if stop:
        options["stop"] = [stop] if isinstance(stop, str) else stop
    request: Json = {
        "model": body["model"],
        "messages": [
            _message(message, names, f"messages.{index}.content")
            for index, message in enumerate(body["messages"])
        ],
        "options": options,
        **(pick_fields(body, ("tools",)) if body.get("tool_choice") != "none" else {}),
    }
    answer_format = mapping(body.get("response_format"))
    if answer_format.get("type") == "json_object":
        request["format"] = "json"
    elif isinstance(mapping(answer_format.get("json_schema")).get("schema"), dict):
        request["format"] = answer_format["json_schema"]["schema"]
    thinks = mapping(body.get("chat_template_kwargs")).get("enable_thinking")
    effort = body.get("reasoning_effort")
    if isinstance(thinks, bool):
        request["think"] = thinks
    if effort in _EFFORTS:
        request["think"] = _EFFORTS[effort]
    if isinstance(body.get("thinking_budget_tokens"), int):
        request.setdefault("think", True)
    return request


def _message(message: Json, names: dict[Any, Any], path: str) -> Json:
    content = message.get("content")
    role = {"developer": "system", "function": "tool"}.get(message["role"], message["role"])
    texts = [text_of(content), message.get("refusal")]
    converted: Json = {
        "role": role,
        "content": "\n".join(text for text in texts if isinstance(text, str) and text),
    }
    if isinstance(message.get("reasoning_content"), str):
        converted["thinking"] = message["reasoning_content"]
    pictures = [
        _picture(part, f"{path}.{index}")
        for index, part in enumerate(objects_in(content))
        if part.get("type") not in ("text", "refusal")
    ]
    if pictures:
        converted["images"] = pictures
    calls = objects_in(message.get("tool_calls"))
    if calls:
        converted["tool_calls"] = [{"function": _function(call)} for call in calls]
    tool_name = names.get(str(message.get("tool_call_id")))
    if role == "tool" and isinstance(tool_name, str):
        converted["tool_name"] = tool_name
    return converted


def _picture(part: Json, path: str) -> str:
    """Return a picture's base64; raises `Failure` (400) for a part that Ollama's API has not."""
    inline = data_url(mapping(part.get("image_url")).get("url"))
    if part.get("type") == "image_url" and inline:
        return inline[1]
    raise Failure(
        400,
        f"{path}: the provider speaks the Ollama API, which has no"
        f" {str(part.get('type'))[:40]!r} of this form: send text, or pictures as base64",
    )


def _function(call: Json) -> Json:
    function = mapping(call.get("function"))
    arguments = tool_arguments(function.get("arguments"))
    return {"name": str(function.get("name", "")), "arguments": arguments}


async def lines(chunks: AsyncIterable[bytes]) -> AsyncIterator[Json]:
    """Yield the JSON object of each line; lines without one are skipped."""
    pending: list[bytes] = []
    size = 0
    async for piece in chunks:
        pending.append(piece)
        size += len(piece)
        if b"\n" in piece:
            *whole, rest = b"".join(pending).split(b"\n")
            pending, size = [rest], len(rest)
            for line in whole:
                line_object = _object(line)
                if line_object is not None:
                    yield line_object
        if size > MAX_LINE_BYTES:
            raise malformed(f"a line has more than {MAX_LINE_BYTES // 2**20} MiB")
    line_object = _object(b"".join(pending))
    if line_object is not None:
        yield line_object


def _object(line: bytes) -> Json | None:
    try:
        value = parse(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


async def events_to_chat(chunks: AsyncIterable[bytes], provider: str) -> AsyncIterator[SseEvent]:
    """Convert the lines of an Ollama answer to the chunks of a chat; raises `Failure`, in the
    provider's words, for an error."""
    calls, answer = 0, ChatChunks()
    async for line in lines(chunks):
        if line.get("error"):
            raise from_provider(provider, 200, line)
        message = mapping(line.get("message"))
        for delta in _deltas(message):
            yield answer.chunk(delta)
        for call in objects_in(message.get("tool_calls")):
            function = mapping(call.get("function"))
            yield answer.chunk(
                tool_call_delta(
                    calls,
                    call_id=str(call.get("id") or new_id("call")),
                    name=str(function.get("name", "")),
                    arguments=json.dumps(tool_arguments(function.get("arguments"))),
                )
            )
            calls += 1
        if line.get("done"):
            reason = "length" if line.get("done_reason") == "length" else "stop"
            yield answer.chunk({}, "tool_calls" if calls else reason)
            prompt, tokens = line.get("prompt_eval_count"), line.get("eval_count")
            yield answer.usage(TokenUsage(answers.count(prompt), answer=answers.count(tokens)))
            yield DONE
            return


async def events(chunks: AsyncIterable[bytes], provider: str) -> AsyncIterator[SseEvent]:
    """Yield the lines of an Ollama answer as they came, as events for Ollama's own clients; raises
    `Failure` for an error."""
    async for line in lines(chunks):
        if line.get("error"):
            raise from_provider(provider, 200, line)
        yield SseEvent.of(line)


def _deltas(message: Json) -> Iterator[Json]:
    if isinstance(message.get("thinking"), str) and message["thinking"]:
        yield {"reasoning_content": message["thinking"]}
    if isinstance(message.get("content"), str) and message["content"]:
        yield {"content": message["content"]}
