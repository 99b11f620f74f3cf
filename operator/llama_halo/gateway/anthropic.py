"""The Anthropic Messages API over llama-server's own /v1/messages; pure but for the iteration.

What llama-server's route lacks or does differently is mended here, each with its reason.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Mapping
from typing import Any

from llama_halo.gateway.failures import Failure, anthropic_error, from_upstream
from llama_halo.gateway.requests import checked
from llama_halo.gateway.sse import SseEvent, encode

Json = dict[str, Any]
_ROLES = ("user", "assistant", "system")
_BILLING = "x-anthropic-billing-header"


def validate(body: Any) -> Json:
    """Refuse what llama-server would answer with 500; return the body."""
    for index, message in enumerate(checked(body)["messages"]):
        if message["role"] not in _ROLES:
            raise Failure(400, f"messages.{index}.role: must be one of {', '.join(_ROLES)}")
        if not isinstance(message.get("content"), (str, list)):
            raise Failure(400, f"messages.{index}.content: a string or a list is required")
    found: Json = body
    return found


def upstream_body(body: Json) -> Json:
    """Return the body that llama-server gets."""
    mended = {**body, "messages": _fold_system(body["messages"])}
    if "system" in body:
        mended["system"] = _without_billing(body["system"])
        if not mended["system"]:
            del mended["system"]
    _mend_tools(mended)
    thinking = body.get("thinking")
    if isinstance(thinking, dict) and thinking.get("type") == "disabled":
        # llama-server ignores `disabled`; the template's own switch works.
        given = body.get("chat_template_kwargs")
        kwargs = given if isinstance(given, dict) else {}
        mended["chat_template_kwargs"] = {**kwargs, "enable_thinking": False}
    return mended


def stream_body(body: Json) -> Json:
    """Return the body for a generation; always a stream, since llama-server does not notice that
    the client of any other request has gone."""
    return {**upstream_body(body), "stream": True}


async def stream(
    upstream: AsyncIterable[SseEvent], *, model: str, request_id: str
) -> AsyncIterator[bytes]:
    """Yield the client's events: llama-server's, with the requested model's name and Anthropic's
    shape of errors. An upstream that ends early ends in an error event."""
    finished = False
    async for event in upstream:
        data = event.json()
        if not isinstance(data, dict):
            continue
        if event.name == "error" or data.get("type") == "error" or "error" in data:
            yield encode(anthropic_error(_in_band(data), request_id), "error")
            return
        _mend_event(data, model)
        finished = finished or data.get("type") == "message_stop"
        yield encode(data, event.name or str(data.get("type", "")))
    if not finished:
        gone = Failure(502, "the model's server ended in the middle of the answer")
        yield encode(anthropic_error(gone, request_id), "error")


async def collect(upstream: AsyncIterable[SseEvent], *, model: str) -> Json:
    """Put a stream together to the one message that a client without streaming expects."""
    message: Json = {}
    blocks: dict[int, Json] = {}
    finished = False
    async for event in upstream:
        data = event.json()
        if not isinstance(data, dict):
            continue
        kind = data.get("type")
        if event.name == "error" or kind == "error" or "error" in data:
            raise _in_band(data)
        _mend_event(data, model)
        if kind == "message_start":
            message = {**data["message"]}
        elif kind == "content_block_start":
            blocks[data["index"]] = {**data["content_block"]}
        elif kind == "content_block_delta":
            _add_delta(blocks[data["index"]], data["delta"])
        elif kind == "message_delta":
            message |= data.get("delta", {})
            message["usage"] = {**message.get("usage", {}), **data.get("usage", {})}
        finished = finished or kind == "message_stop"
    if not finished:
        raise Failure(502, "the model's server ended in the middle of the answer")
    message["content"] = [_finish_block(blocks[index]) for index in sorted(blocks)]
    return message


def _fold_system(messages: list[Json]) -> list[Json]:
    """Turn system messages into text of the neighbouring user message, in place: strict chat
    templates refuse them anywhere but first, and Claude Code sends one in every request."""
    folded: list[Json] = []
    open_fold = False  # the last message is a user message made of a system message
    for message in messages:
        role, content = message["role"], _blocks(message["content"])
        joins = bool(folded) and folded[-1]["role"] == "user"
        if role == "system" and joins:
            folded[-1] = {**folded[-1], "content": _blocks(folded[-1]["content"]) + content}
        elif role == "system":
            folded.append({"role": "user", "content": content})
            open_fold = True
            continue
        elif role == "user" and open_fold:
            folded[-1] = {**folded[-1], "content": folded[-1]["content"] + content}
        else:
            folded.append(message)
        open_fold = False
    return folded


def _blocks(content: str | list[Any]) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _without_billing(system: Any) -> Any:
    """Drop Claude Code's billing line: it changes with each prompt and loses the prompt cache."""
    if isinstance(system, str):
        return "" if system.startswith(_BILLING) else system
    if not isinstance(system, list):
        return system
    return [
        block
        for block in system
        if not (isinstance(block, Mapping) and str(block.get("text", "")).startswith(_BILLING))
    ]


def _mend_tools(body: Json) -> None:
    """Leave out tools that only Anthropic's servers can run, and all of them when none is wanted:
    llama-server would offer them as functions that nobody answers."""
    tools = body.get("tools")
    if not isinstance(tools, list):
        return
    choice = body.get("tool_choice")
    unwanted = isinstance(choice, dict) and choice.get("type") == "none"
    kept = [
        tool
        for tool in tools
        if isinstance(tool, dict) and tool.get("type") in (None, "custom") and not unwanted
    ]
    body["tools"] = kept
    if not kept:
        body.pop("tools")
        body.pop("tool_choice", None)


def _mend_event(data: Json, model: str) -> None:
    if data.get("type") == "message_start" and isinstance(data.get("message"), dict):
        data["message"]["model"] = model
    block = data.get("content_block")
    if isinstance(block, dict) and block.get("type") == "tool_use":
        block.setdefault("input", {})


def _add_delta(block: Json, delta: Json) -> None:
    """Append a delta to its block; tool input arrives as fragments of JSON text."""
    fields = {
        "text_delta": "text",
        "thinking_delta": "thinking",
        "signature_delta": "signature",
        "input_json_delta": "partial_json",
    }
    field = fields.get(str(delta.get("type")))
    if field:
        block[field] = block.get(field, "") + delta[field]


def _finish_block(block: Json) -> Json:
    """Parse the collected tool input."""
    text = block.pop("partial_json", None)
    if block.get("type") == "tool_use" and text:
        parsed = SseEvent("", text).json()
        block["input"] = parsed if isinstance(parsed, dict) else {}
    return block


def _in_band(data: Json) -> Failure:
    error = data["error"] if isinstance(data.get("error"), dict) else data
    code = error.get("code")
    return from_upstream(code if isinstance(code, int) else 500, {"error": error})
