"""Converts requests of the Responses API to Chat Completions, and the answers back."""

from __future__ import annotations

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
from llama_halo.gateway.convert.responses_items import parts_as_chat
from llama_halo.gateway.convert.tool_calls import PendingCall, ToolCallIndex, new_id
from llama_halo.gateway.convert.turns import join_text, join_turns
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
    for index, item in enumerate(items):
        _add(messages, item, f"input.{index}")
    chat: Json = {
        "model": body["model"],
        "messages": join_turns([_finished(message) for message in messages], join_text),
        **pick_fields(body, ("temperature", "top_p")),
    }
    if isinstance(body.get("max_output_tokens"), int):
        chat["max_tokens"] = body["max_output_tokens"]
    effort = mapping(body.get("reasoning")).get("effort")
    if isinstance(effort, str):
        chat["reasoning_effort"] = effort
    answer_format = mapping(mapping(body.get("text")).get("format"))
    if answer_format.get("type") == "json_schema":
        schema = pick_fields(answer_format, ("name", "schema", "strict"))
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif answer_format.get("type") == "json_object":
        chat["response_format"] = {"type": "json_object"}
    tools = objects_in(body.get("tools"))
    if tools:
        chat["tools"] = [_tool(tool) for tool in tools]
        chat |= pick_fields(body, ("parallel_tool_calls",))
        choice = body.get("tool_choice")
        if isinstance(choice, dict) and choice.get("name"):
            choice = {"type": "function", "function": {"name": choice["name"]}}
        chat |= {"tool_choice": choice} if choice else {}
    return chat


def _tool(tool: Json) -> Json:
    function = pick_fields(tool, ("name", "description", "strict"))
    return {
        "type": "function",
        "function": {**function, "parameters": object_schema(tool.get("parameters"))},
    }


def _add(messages: list[Json], item: Json, path: str) -> None:
    """Append an item; a call joins the assistant's message before it, or starts one, and so do the
    thoughts before it."""
    kind, last = item.get("type", "message"), messages[-1] if messages else {}
    if kind == "function_call":
        arguments = item.get("arguments")
        function = {
            "name": str(item.get("name", "")),
            "arguments": arguments if isinstance(arguments, str) else "{}",
        }
        call = {"id": str(item.get("call_id", "")), "type": "function", "function": function}
        if last.get("role") != "assistant":
            last = {"role": "assistant", "content": None}
            messages.append(last)
        last.setdefault("tool_calls", []).append(call)
    elif kind == "function_call_output":
        output = item.get("output")
        call_id = str(item.get("call_id", ""))
        messages.append({"role": "tool", "tool_call_id": call_id, "content": text_of(output)})
    elif kind == "reasoning":
        thoughts = text_of(item.get("content"))
        if last.get("role") == "assistant" and "reasoning_content" not in last:
            last["reasoning_content"] = thoughts
        else:
            messages.append({"role": "assistant", "content": None, "reasoning_content": thoughts})
    elif kind == "message":
        role = "system" if item.get("role") == "developer" else item.get("role", "user")
        content = parts_as_chat(item.get("content"), f"{path}.content")
        if role == last.get("role") == "assistant" and last["content"] is None:
            last["content"] = content
        else:
            messages.append({"role": role, "content": content})


def _finished(message: Json) -> Json:
    """Return a message whose thoughts are there only beside calls, where providers may want them,
    and an assistant's message that had nothing else as an empty one."""
    if message["role"] != "assistant" or "reasoning_content" not in message:
        return message
    if message.get("tool_calls"):
        return message
    others = {name: value for name, value in message.items() if name != "reasoning_content"}
    return {**others, "content": message["content"] or ""}


_CUTS = {"length": "max_output_tokens", "content_filter": "content_filter"}
_PARTS = {"message": "output_text", "reasoning": "reasoning_text"}


@dataclass
class _OpenCall(PendingCall):
    """A call of a tool, as far as it has arrived."""

    item: Json = field(default_factory=dict)
    """Its item; empty until that begins."""


@dataclass
class _Response:
    """The state of the response that is streamed to the client."""

    call_id: str = ""
    output: list[Json] = field(default_factory=list)
    text: Json | None = None
    """The open message or reasoning item; None if there is none."""
    calls_seen: ToolCallIndex = field(default_factory=ToolCallIndex)
    calls: list[_OpenCall] = field(default_factory=list)
    cut: str = ""
    """Why the answer is incomplete; empty if it is whole."""
    usage: Any = None

    def begin(self, _: Json) -> Iterator[SseEvent]:
        self.call_id = new_id("resp")
        for kind in ("response.created", "response.in_progress"):
            yield _event(kind, response=self.head("in_progress"))

    def take(self, choice: Json) -> Iterator[SseEvent]:
        delta = mapping(choice.get("delta"))
        yield from self.say("reasoning", thought_of(delta))
        for name in ("content", "refusal"):
            text = delta.get(name)
            yield from self.say("message", text if isinstance(text, str) else "")
        for piece in objects_in(delta.get("tool_calls")):
            yield from self.call(piece)
        self.cut = self.cut or _CUTS.get(str(choice.get("finish_reason")), "")

    def say(self, kind: str, text: str) -> Iterator[SseEvent]:
        """Yield the events of a piece of text or of thoughts."""
        if not text:
            return
        part_kind = _PARTS[kind]
        if self.text is None or self.text["type"] != kind:
            yield from self.close()
            name = new_id("msg" if kind == "message" else "rs")
            part: Json = {"type": part_kind, "text": ""}
            item: Json = {"id": name, "type": kind, "status": "in_progress"}
            if kind == "message":
                part, item = {**part, "annotations": []}, {**item, "role": "assistant"}
            else:
                item["summary"] = []
            self.text = {**item, "content": [part]}
            self.output.append(self.text)
            yield _event("response.output_item.added", item={**item, "content": []})
            yield _event("response.content_part.added", item_id=name, part={**part})
        self.text["content"][0]["text"] += text
        yield _event(f"response.{part_kind}.delta", item_id=self.text["id"], delta=text)

    def call(self, piece: Json) -> Iterator[SseEvent]:
        """Yield the events of a piece of a tool call, whose name may come after its id."""
        index, is_new = self.calls_seen.assign(piece)
        if is_new:
            self.calls.append(_OpenCall())
        call = self.calls[index]
        call.take(piece)
        yield from self._advance(call)

    def _advance(self, call: _OpenCall, *, is_last: bool = False) -> Iterator[SseEvent]:
        if not call.item and (call.name or is_last):
            yield from self.close()
            call.item = {
                "id": new_id("fc"),
                "type": "function_call",
                "call_id": call.call_id or new_id("call"),
                "name": call.name,
                "arguments": "",
                "status": "in_progress",
            }
            self.output.append(call.item)
            yield _event("response.output_item.added", item={**call.item})
        if call.item and call.pending:
            call.item["arguments"] += call.pending
            kind, delta = "response.function_call_arguments.delta", call.pending
            call.pending = ""
            yield _event(kind, item_id=call.item["id"], delta=delta)

    def close(self) -> Iterator[SseEvent]:
        """Close the open message or reasoning item, if there is one."""
        item, self.text = self.text, None
        if item:
            item["status"] = "completed"
            part, name = item["content"][0], item["id"]
            yield _event(f"response.{part['type']}.done", item_id=name, text=part["text"])
            yield _event("response.content_part.done", item_id=name, part=part)
            yield _event("response.output_item.done", item=item)

    def end(self) -> Iterator[SseEvent]:
        for call in self.calls:
            yield from self._advance(call, is_last=True)
        yield from self.close()
        for call in self.calls:
            item = call.item
            item["status"] = "completed"
            kind = "response.function_call_arguments.done"
            arguments = {"name": item["name"], "arguments": item["arguments"]}
            yield _event(kind, item_id=item["id"], **arguments)
            yield _event("response.output_item.done", item=item)
        status = "incomplete" if self.cut else "completed"
        cause = {"incomplete_details": {"reason": self.cut}} if self.cut else {}
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
    """Convert the chunks of a chat to the events of a response."""
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
