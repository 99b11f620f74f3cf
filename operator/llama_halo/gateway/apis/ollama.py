"""The Ollama API over llama-server's OpenAI routes.

Answers have Ollama's format: lines of JSON, durations in nanoseconds. Options that the pod fixes
(context, threads, layers) are ignored without an error.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from llama_halo.gateway.apis import openai_chat
from llama_halo.gateway.apis.exchange import NDJSON, ApiExchange
from llama_halo.gateway.apis.openai_chat import until_done
from llama_halo.gateway.apis.openai_embeddings import check_dimensions, unit_vector
from llama_halo.gateway.apis.system_messages import fold_system
from llama_halo.gateway.apis.validation import validate_messages, validate_model
from llama_halo.gateway.convert.common import (
    data_url,
    mapping,
    pick_fields,
    thought_of,
    tool_arguments,
)
from llama_halo.gateway.convert.tool_calls import ToolCalls
from llama_halo.gateway.convert.turns import join_text, join_turns
from llama_halo.gateway.http import answers
from llama_halo.gateway.http.errors import Failure
from llama_halo.gateway.http.json_codec import dumps
from llama_halo.gateway.http.sse import SseEvent
from llama_halo.gateway.http.token_usage import TokenUsage

Json = dict[str, Any]
CHAT_PATH, GENERATE_PATH, EMBED_PATH = "/api/chat", "/api/generate", "/api/embed"
NANOSECONDS_A_MILLISECOND = 1_000_000
_OPTIONS = {
    "num_predict": "max_tokens",
    "num_keep": "n_keep",
    **{
        name: name
        for name in (
            *("temperature", "top_p", "top_k", "min_p", "typical_p", "seed", "stop"),
            *("repeat_penalty", "repeat_last_n", "presence_penalty", "frequency_penalty"),
            *("mirostat", "mirostat_tau", "mirostat_eta"),
        )
    },
}
_PICTURES = (("/9j/", "jpeg"), ("iVBOR", "png"), ("R0lGOD", "gif"), ("UklGR", "webp"))


def validate_chat(body: Any) -> Json:
    """Return the body of `/api/chat`; without messages, it asks to load or unload a model."""
    request = validate_model(_with_model(body))
    return request if not request.get("messages") else validate_messages(request)


def validate_prompt(body: Any) -> Json:
    """Return the body of `/api/generate`; raises `Failure` (400) for a wrong type."""
    request = validate_model(_with_model(body))
    if not isinstance(request.get("prompt", ""), str):
        raise Failure(400, "prompt: a text is required")
    if not isinstance(request.get("system") or "", str):
        raise Failure(400, "system: a text is required")
    return request


def without_prompt(path: str, body: Json) -> Json | None:
    """Return the answer to a request without a prompt, None for any other request.

    Ollama's clients load and unload models this way. Here it changes nothing: the operator decides
    which models are in memory, and a request with a prompt loads one.
    """
    asks = {CHAT_PATH: body.get("messages"), GENERATE_PATH: body.get("prompt")}
    if path not in asks or asks[path]:
        return None
    reason = "unload" if body.get("keep_alive") in (0, "0", "0s") else "load"
    text = (
        {"message": {"role": "assistant", "content": ""}} if path == CHAT_PATH else {"response": ""}
    )
    return {**_head(body["model"]), **text, "done": True, "done_reason": reason}


def chat(body: Json) -> ApiExchange:
    """Return the exchange of an `/api/chat` request."""
    messages = fold_system(_messages(body["messages"]), join_text, keeps_first=True)
    mended = {"messages": join_turns(messages, join_text), **_common(body)}
    if isinstance(body.get("tools"), list):
        mended["tools"] = body["tools"]
    return _build_exchange(openai_chat.PATH, mended, body, _message, CHAT_PATH)


def generate(body: Json) -> ApiExchange:
    """Return the exchange of an `/api/generate` request.

    It goes to `/infill` with a suffix, to `/v1/completions` if `raw`, else to the chat route.
    """
    prompt, suffix = body.get("prompt", ""), body.get("suffix")
    if isinstance(suffix, str) and suffix:
        mended = {"input_prefix": prompt, "input_suffix": suffix, **_common(body)}
        mended["n_predict"] = mended.pop("max_tokens", 256)
        return _build_exchange("/infill", mended, body, _response, GENERATE_PATH)
    if body.get("raw"):
        mended = {"prompt": prompt, **_common(body)}
        return _build_exchange("/v1/completions", mended, body, _response, GENERATE_PATH)
    system = [{"role": "system", "content": body["system"]}] if body.get("system") else []
    user = {"role": "user", "content": prompt, "images": body.get("images") or []}
    mended = {"messages": _messages([*system, user]), **_common(body)}
    return _build_exchange(openai_chat.PATH, mended, body, _response, GENERATE_PATH)


def embedding(body: Json) -> Json:
    """Return llama-server's body for embeddings; raises `Failure` (400) without an input."""
    texts = body.get("input", body.get("prompt"))
    if not isinstance(texts, (str, list)) or not texts:
        raise Failure(400, "input: a text or a list of texts is required")
    check_dimensions(body)
    return {"model": body["model"], "input": texts} | pick_fields(body, ("dimensions",))


def embedded(answer: Json, body: Json, path: str) -> Json:
    """Return Ollama's embeddings, normalized; the older route has a single one, as it is.

    An answer of an Ollama provider is passed on.
    """
    if isinstance(answer.get("embeddings"), list):
        return {**answer, "model": body["model"]}
    vectors = answers.vectors(answer)
    if path == "/api/embeddings":
        return {"embedding": vectors[0] if vectors else []}
    return {
        "model": body["model"],
        "embeddings": [unit_vector(vector) for vector in vectors],
        "prompt_eval_count": TokenUsage.of(answer.get("usage")).prompt,
    }


def _with_model(body: Any) -> Any:
    """Return the body with a `model`: older clients send it as `name`."""
    if isinstance(body, dict) and "model" not in body and "name" in body:
        return {**body, "model": body["name"]}
    return body


def _common(body: Json) -> Json:
    """Return llama-server's parameters for `options`, `format` and `think`."""
    raw_options = body.get("options")
    options = raw_options if isinstance(raw_options, dict) else {}
    parameters = {_OPTIONS[name]: value for name, value in options.items() if name in _OPTIONS}
    if isinstance(parameters.get("max_tokens"), int) and parameters["max_tokens"] < 0:
        del parameters["max_tokens"]  # no limit, which is llama-server's default
    answer_format = body.get("format")
    if answer_format == "json":
        parameters["response_format"] = {"type": "json_object"}
    elif isinstance(answer_format, dict):
        schema = {"name": "answer", "schema": answer_format}
        parameters["response_format"] = {"type": "json_schema", "json_schema": schema}
    think = body.get("think")
    if isinstance(think, bool):
        parameters["chat_template_kwargs"] = {"enable_thinking": think}
    elif isinstance(think, str) and think:
        parameters["chat_template_kwargs"] = {"enable_thinking": True}
        parameters["reasoning_effort"] = think
    return parameters


def _messages(messages: list[Json]) -> list[Json]:
    """Return messages in OpenAI's format: images as parts, tool calls with ids, and each tool
    result with the id of its call, which Ollama's clients leave out."""
    converted: list[Json] = []
    calls: list[tuple[str, str]] = []  # (id, name) of calls without a result
    count = 0
    for message in messages:
        mended: Json = {"role": message["role"], "content": _content(message)}
        if message.get("thinking"):
            mended["reasoning_content"] = message["thinking"]
        tool_calls = message.get("tool_calls")
        if isinstance(tool_calls, list) and tool_calls:
            mended["tool_calls"] = [_call(call, count + n) for n, call in enumerate(tool_calls)]
            count += len(tool_calls)
            calls += [(call["id"], call["function"]["name"]) for call in mended["tool_calls"]]
        if message["role"] == "tool":
            number = message.get("tool_call_id") or _answered(calls, message.get("tool_name"))
            calls = [call for call in calls if call[0] != number]
            mended["tool_call_id"] = number
        converted.append(mended)
    return converted


def _answered(calls: list[tuple[str, str]], name: Any) -> str:
    """Return the id of the first call without a result, of function `name` if it is set."""
    fitting = [number for number, function in calls if name in (None, "", function)]
    return fitting[0] if fitting else "call_0"


def _call(call: Any, number: int) -> Json:
    raw_function = call.get("function") if isinstance(call, dict) else None
    function = raw_function if isinstance(raw_function, dict) else {}
    arguments = function.get("arguments", {})
    return {
        "id": (isinstance(call, dict) and call.get("id")) or f"call_{number}",
        "type": "function",
        "function": {
            "name": str(function.get("name", "")),
            "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments),
        },
    }


def _content(message: Json) -> Any:
    content, images = message.get("content") or "", message.get("images")
    if not isinstance(images, list) or not images:
        return content
    pictures = [{"type": "image_url", "image_url": {"url": _picture(image)}} for image in images]
    return [*([{"type": "text", "text": content}] if content else []), *pictures]


def _picture(data: Any) -> str:
    """Return a picture as a data URL; some clients send one instead of the base64 alone."""
    text = str(data)
    if data_url(text):
        return text
    kind = next((image_type for mark, image_type in _PICTURES if text.startswith(mark)), "png")
    return f"data:image/{kind};base64,{text}"


def _build_exchange(
    path: str,
    mended: Json,
    body: Json,
    piece: Callable[[str, str, list[Json]], Json],
    native_path: str,
) -> ApiExchange:
    name = body["model"]
    quiet = {**_head(name), **piece("", "", []), "done": False}
    sent = {**mended, "model": name, "stream": True, "stream_options": {"include_usage": True}}
    is_chat = path == openai_chat.PATH
    return ApiExchange(
        path=path,
        body=sent,
        streams=body.get("stream", True) is not False,
        stream=lambda events: _stream(events, name, piece),
        collect=lambda events: _collect(events, name, piece),
        heartbeat=_line(quiet),
        native_path=native_path,
        content_type=NDJSON,
        count_path=f"{openai_chat.PATH}/input_tokens" if is_chat else "",
    )


@dataclass
class _Answer:
    """The part of an answer that has arrived."""

    text: str = ""
    thoughts: str = ""
    calls: ToolCalls = field(default_factory=ToolCalls)
    reason: str = ""
    counts: Json = field(default_factory=dict)
    done: bool = False
    is_native: bool = False
    """Whether it comes from an Ollama provider, line by line."""

    def take(self, data: Json) -> tuple[str, str]:
        """Add one event; return its text and its thinking text."""
        text, thought = answers.optional(data, "content", str) or "", ""
        for choice in answers.choices(data):
            delta = choice.get("delta") or {}
            text += delta.get("content") or choice.get("text") or ""
            text += answers.optional(delta, "refusal", str) or ""
            thought += thought_of(delta)
            for call in delta.get("tool_calls") or ():
                self.calls.add(call)
            self.reason = choice.get("finish_reason") or self.reason
        self.done = self.done or data.get("stop") is True  # the last event of /infill
        self.text += text
        self.thoughts += thought
        self._count(data)
        return text, thought

    def _count(self, data: Json) -> None:
        usage, timings = TokenUsage.of(data.get("usage")), mapping(data.get("timings"))
        counts = {
            "prompt_eval_count": usage.prompt or answers.count(data.get("tokens_evaluated")),
            "eval_count": usage.answer or answers.count(data.get("tokens_predicted")),
            "prompt_eval_duration": _nanoseconds(timings, "prompt_ms"),
            "eval_duration": _nanoseconds(timings, "predicted_ms"),
        }
        self.counts |= {name: count for name, count in counts.items() if count}

    def tool_calls(self) -> list[Json]:
        """Return the calls in Ollama's format: complete, with arguments as objects."""
        return [
            {
                "id": call["id"],
                "function": {
                    "index": index,
                    "name": call["function"]["name"],
                    "arguments": tool_arguments(call["function"]["arguments"]),
                },
            }
            for index, call in enumerate(self.calls.complete())
        ]

    def ending(self) -> Json:
        """Return the fields of the last line besides the message."""
        reason = "length" if self.reason == "length" else "stop"
        total = sum(self.counts.get(f"{stage}_duration", 0) for stage in ("prompt_eval", "eval"))
        return {"done": True, "done_reason": reason, "total_duration": total, **self.counts}


async def _stream(
    upstream: AsyncIterable[SseEvent], model: str, piece: Callable[[str, str, list[Json]], Json]
) -> AsyncIterator[bytes]:
    answer = _Answer()
    async for event in _values(upstream, answer):
        if _is_line(event):
            yield _line({**event, "model": model})
            continue
        text, thought = answer.take(event)
        if text or thought:
            yield _line({**_head(model), **piece(text, thought, []), "done": False})
    if answer.is_native:
        return
    if calls := answer.tool_calls():
        yield _line({**_head(model), **piece("", "", calls), "done": False})
    yield _line({**_head(model), **piece("", "", []), **answer.ending()})


async def _collect(
    upstream: AsyncIterable[SseEvent], model: str, piece: Callable[[str, str, list[Json]], Json]
) -> Json:
    answer = _Answer()
    whole: Json = {}
    async for event in _values(upstream, answer):
        if _is_line(event):
            whole = _with_line(whole, event)
        else:
            answer.take(event)
    if answer.is_native:
        return {**whole, "model": model}
    content = piece(answer.text, answer.thoughts, answer.tool_calls())
    return {**_head(model), **content, **answer.ending()}


def _with_line(whole: Json, line: Json) -> Json:
    """Return the lines of an Ollama provider so far as one, and the next."""
    if not whole:
        return line
    both = {**whole, **line}
    for name in ("response", "thinking"):
        _join(both, whole, line, name)
    if isinstance(line.get("message"), dict):
        before, after = mapping(whole.get("message")), line["message"]
        both["message"] = {**before, **after}
        for name in ("content", "thinking", "tool_calls"):
            _join(both["message"], before, after, name)
    return both


def _join(both: Json, first: Json, second: Json, name: str) -> None:
    """Set a field to a text or list of two parts together."""
    before, after = first.get(name), second.get(name)
    if isinstance(before, str) and isinstance(after, str):
        both[name] = before + after
    elif isinstance(before, list) and isinstance(after, list):
        both[name] = [*before, *after]
    elif before and not after:
        both[name] = before


def _is_line(data: Json) -> bool:
    """Tell whether an event is a line of an Ollama provider, which is passed on."""
    return isinstance(data.get("done"), bool) and ("message" in data or "response" in data)


async def _values(upstream: AsyncIterable[SseEvent], answer: _Answer) -> AsyncIterator[Json]:
    """Yield the data of the events up to `[DONE]`, up to the event of /infill that stops, or up to
    the last line of an Ollama provider."""
    async for data in until_done(upstream):
        answer.is_native = _is_line(data)
        yield data
        if answer.done or (answer.is_native and data["done"]):
            return


def _message(text: str, thought: str, calls: list[Json]) -> Json:
    message: Json = {"role": "assistant", "content": text}
    return {
        "message": message
        | ({"thinking": thought} if thought else {})
        | ({"tool_calls": calls} if calls else {})
    }


def _response(text: str, thought: str, _: list[Json]) -> Json:
    return {"response": text, **({"thinking": thought} if thought else {})}


def _head(model: str) -> Json:
    return {"model": model, "created_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")}


def _line(data: Mapping[str, Any]) -> bytes:
    return dumps(data) + b"\n"


def _nanoseconds(timings: Mapping[str, Any], name: str) -> int:
    return round(answers.milliseconds(timings.get(name)) * NANOSECONDS_A_MILLISECOND)
