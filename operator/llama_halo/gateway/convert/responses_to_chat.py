"""Converts requests of the Responses API to Chat Completions, and the answers back."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

from llama_halo.gateway.convert.common import (
    ToolCallIndex,
    encode_events,
    mapping,
    new_id,
    objects_in,
    pick_fields,
    text_of,
)
from llama_halo.gateway.http.sse import SseEvent
from llama_halo.gateway.http.token_usage import TokenUsage

Json = dict[str, Any]


def request_to_chat(body: Json) -> Json:
    """Return a Responses body, as prepared for llama-server, as one of Chat Completions."""
    instructions = body.get("instructions")
    messages: list[Json] = [{"role": "system", "content": instructions}] if instructions else []
    raw_input = body.get("input")
    items = (
        [{"role": "user", "content": raw_input}]
        if isinstance(raw_input, str)
        else objects_in(raw_input)
    )
    for item in items:
        _add(messages, item)
    chat: Json = {
        "model": body["model"],
        "messages": messages,
        **pick_fields(body, ("temperature", "top_p")),
    }
    if isinstance(body.get("max_output_tokens"), int):
        chat["max_tokens"] = body["max_output_tokens"]
    answer_format = mapping(mapping(body.get("text")).get("format"))
    if answer_format.get("type") == "json_schema":
        schema = pick_fields(answer_format, ("name", "schema", "strict"))
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif answer_format.get("type") == "json_object":
        chat["response_format"] = {"type": "json_object"}
    tools = objects_in(body.get("tools"))
    if tools:
        parts = ("name", "description", "parameters", "strict")
        chat["tools"] = [
            {"type": "function", "function": pick_fields(tool, parts)} for tool in tools
        ]
        chat |= pick_fields(body, ("parallel_tool_calls",))
        choice = body.get("tool_choice")
        if isinstance(choice, dict) and choice.get("name"):
            choice = {"type": "function", "function": {"name": choice["name"]}}
        chat |= {"tool_choice": choice} if choice else {}
    return chat


def _add(messages: list[Json], item: Json) -> None:
    """Append an item; a call joins the assistant's message before it, or starts one."""
    kind = item.get("type", "message")
    if kind == "function_call":
        arguments = item.get("arguments")
        function = {
            "name": str(item.get("name", "")),
            "arguments": arguments if isinstance(arguments, str) else "{}",
        }
        call = {"id": str(item.get("call_id", "")), "type": "function", "function": function}
        if not messages or messages[-1]["role"] != "assistant":
            messages.append({"role": "assistant", "content": None})
        messages[-1].setdefault("tool_calls", []).append(call)
    elif kind == "function_call_output":
        output = item.get("output")
        call_id = str(item.get("call_id", ""))
        messages.append({"role": "tool", "tool_call_id": call_id, "content": text_of(output)})
    elif kind == "message":
        role = "system" if item.get("role") == "developer" else item.get("role", "user")
        messages.append({"role": role, "content": _content(item.get("content"))})


def _content(content: Any) -> Any:
    pictures = [part for part in objects_in(content) if part.get("type") == "input_image"]
    if not pictures:
        return text_of(content)
    urls = [picture.get("image_url") for picture in pictures]
    return [
        {"type": "text", "text": text_of(content)},
        *({"type": "image_url", "image_url": {"url": url}} for url in urls),
    ]


@dataclass
class _Response:
    """The state of the response that is streamed to the client."""

    call_id: str = ""
    output: list[Json] = field(default_factory=list)
    text: Json | None = None
    """The open message item; None if there is none."""
    calls_seen: ToolCallIndex = field(default_factory=ToolCallIndex)
    calls: list[Json] = field(default_factory=list)
    cut: bool = False
    usage: Any = None

    def begin(self, _: Json) -> Iterator[SseEvent]:
        self.call_id = new_id("resp")
        for kind in ("response.created", "response.in_progress"):
            yield _event(kind, response=self.head("in_progress"))

    def take(self, choice: Json) -> Iterator[SseEvent]:
        delta = mapping(choice.get("delta"))
        text = delta.get("content")
        if isinstance(text, str) and text:
            yield from self.say(text)
        for piece in objects_in(delta.get("tool_calls")):
            yield from self.call(piece)
        self.cut = self.cut or choice.get("finish_reason") == "length"

    def say(self, text: str) -> Iterator[SseEvent]:
        if self.text is None:
            name = new_id("msg")
            part = {"type": "output_text", "text": "", "annotations": []}
            item = {"id": name, "type": "message", "role": "assistant", "status": "in_progress"}
            self.text = {**item, "content": [part]}
            self.output.append(self.text)
            yield _event("response.output_item.added", item={**item, "content": []})
            yield _event("response.content_part.added", item_id=name, part={**part})
        self.text["content"][0]["text"] += text
        yield _event("response.output_text.delta", item_id=self.text["id"], delta=text)

    def call(self, piece: Json) -> Iterator[SseEvent]:
        (index, is_new), function = self.calls_seen.assign(piece), mapping(piece.get("function"))
        if is_new:
            yield from self.close()
            call_id = str(piece.get("id") or new_id("call"))
            item = {
                "id": new_id("fc"),
                "type": "function_call",
                "call_id": call_id,
                "name": str(function.get("name") or ""),
                "arguments": "",
                "status": "in_progress",
            }
            self.calls.append(item)
            self.output.append(item)
            yield _event("response.output_item.added", item={**item})
        item, arguments = self.calls[index], function.get("arguments")
        if isinstance(arguments, str) and arguments:
            item["arguments"] += arguments
            kind = "response.function_call_arguments.delta"
            yield _event(kind, item_id=item["id"], delta=arguments)

    def close(self) -> Iterator[SseEvent]:
        """Close the open message item, if there is one."""
        item, self.text = self.text, None
        if item:
            item["status"] = "completed"
            part, name = item["content"][0], item["id"]
            yield _event("response.output_text.done", item_id=name, text=part["text"])
            yield _event("response.content_part.done", item_id=name, part=part)
            yield _event("response.output_item.done", item=item)

    def end(self) -> Iterator[SseEvent]:
        yield from self.close()
        for item in self.calls:
            item["status"] = "completed"
            kind = "response.function_call_arguments.done"
            yield _event(kind, item_id=item["id"], arguments=item["arguments"])
            yield _event("response.output_item.done", item=item)
        status = "incomplete" if self.cut else "completed"
        cause = {"incomplete_details": {"reason": "max_output_tokens"}} if self.cut else {}
        response = {**self.head(status), **cause, "usage": _usage(self.usage)}
        yield _event(f"response.{status}", response=response)

    def head(self, status: str) -> Json:
        return {
            "id": self.call_id,
            "object": "response",
            "status": status,
            "output": self.output,
        }


def events_to_responses(upstream: AsyncIterable[SseEvent]) -> AsyncIterator[SseEvent]:
    """Convert the chunks of a chat to the events of a response; thinking text is dropped."""
    return encode_events(upstream, _Response())


def _usage(usage: Any) -> Json:
    tokens = TokenUsage.of(usage)
    return {
        "input_tokens": tokens.prompt,
        "input_tokens_details": {"cached_tokens": tokens.cached},
        "output_tokens": tokens.answer,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": tokens.prompt + tokens.answer,
    }


def _event(kind: str, **fields: Any) -> SseEvent:
    return SseEvent.of({"type": kind, **fields}, kind)
