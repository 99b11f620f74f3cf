"""The order of turns: neighbours of one role become one, as Anthropic's API defines.

Many chat templates accept nothing else. The strict ones also refuse a turn of the user right after
the results of tools; for those, the user's text goes into the last result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Json = dict[str, Any]
Content = Any
"""A string, or a list of parts."""
Join = Callable[[Content, Content], Content]
_JOINED = ("user", "assistant")


def join_text(first: Content, second: Content) -> Content:
    """Return two strings joined by an empty line, and any other contents as one list of parts."""
    if not first or not second:
        return first or second
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    return join_parts(first, second)


def join_parts(first: Content, second: Content) -> Content:
    """Return the parts of both contents, in order."""
    return [*parts_of(first), *parts_of(second)]


def parts_of(content: Content) -> list[Any]:
    """Return a content as a list of parts."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return content if isinstance(content, list) else []


def join_turns(messages: list[Json], join: Join) -> list[Json]:
    """Return messages in which no two neighbours are the user's, or the assistant's."""
    joined: list[Json] = []
    for message in messages:
        before = joined[-1] if joined else {}
        if message["role"] in _JOINED and message["role"] == before.get("role"):
            joined[-1] = _both(before, message, join)
        else:
            joined.append(message)
    return joined


def _both(first: Json, second: Json, join: Join) -> Json:
    both = {**first, **second, "content": join(first.get("content"), second.get("content"))}
    for name in ("reasoning_content", "refusal"):
        texts = [
            text for text in (first.get(name), second.get(name)) if isinstance(text, str) and text
        ]
        if texts:
            both[name] = "\n\n".join(texts)
    calls = [message.get("tool_calls") for message in (first, second)]
    listed = [call for part in calls if isinstance(part, list) for call in part]
    return both | ({"tool_calls": listed} if listed else {})


def with_call_ids(messages: list[Json]) -> list[Json]:
    """Return chat messages in which each call and each result has an id; calls and results of the
    older form (`function_call`) become calls and results of tools."""
    if not any(_needs_ids(message) for message in messages):
        return messages
    mended: list[Json] = []
    unanswered: list[str] = []
    for number, message in enumerate(messages):
        if calls := _calls_with_ids(message, number):
            others = {name: value for name, value in message.items() if name != "function_call"}
            mended.append({**others, "tool_calls": calls})
            unanswered += [str(call["id"]) for call in calls]
        elif message["role"] in ("tool", "function"):
            call_id = message.get("tool_call_id") or (unanswered[0] if unanswered else "call")
            mended.append({**message, "role": "tool", "tool_call_id": call_id})
            unanswered = [other for other in unanswered if other != call_id]
        else:
            mended.append(message)
    return mended


def _calls_with_ids(message: Json, number: int) -> list[Json]:
    calls = message.get("tool_calls")
    if isinstance(message.get("function_call"), dict):
        calls = [{"type": "function", "function": message["function_call"]}]
    listed = [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    return [
        {**call, "id": call.get("id") or f"call_{number}_{place}"}
        for place, call in enumerate(listed)
    ]


def _needs_ids(message: Json) -> bool:
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        return any(isinstance(call, dict) and not call.get("id") for call in calls)
    if message["role"] == "tool":
        return not message.get("tool_call_id")
    return message["role"] == "function" or isinstance(message.get("function_call"), dict)


def results_after_calls(messages: list[Json]) -> list[Json]:
    """Return chat messages in which the results of tools directly follow their calls."""
    ordered: list[Json] = []
    results: dict[str, list[Json]] = {}
    for message in messages:
        if message["role"] == "tool":
            results.setdefault(str(message.get("tool_call_id")), []).append(message)
    if not results:
        return messages
    moved: set[int] = set()
    for message in messages:
        if id(message) in moved:
            continue
        ordered.append(message)
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            number = str(call.get("id")) if isinstance(call, dict) else ""
            for result in results.pop(number, ()):
                moved.add(id(result))
                ordered.append(result)
    return ordered


def fold_into_results(messages: list[Json]) -> list[Json]:
    """Return chat messages in which the user's text after a tool's result is in that result."""
    folded: list[Json] = []
    for message in messages:
        before = folded[-1] if folded else {}
        if (
            message["role"] == "user"
            and before.get("role") == "tool"
            and _is_text(message.get("content"))
        ):
            folded[-1] = {**before, "content": join_text(before.get("content"), message["content"])}
        else:
            folded.append(message)
    return folded


def fold_into_result_blocks(messages: list[Json]) -> list[Json]:
    """Return Anthropic messages in which the user's text after a tool's result is in the result."""
    folded: list[Json] = []
    for message in messages:
        before = folded[-1] if folded else {}
        last = parts_of(before.get("content"))[-1:] if before.get("role") == "user" else []
        result = last[0] if last and isinstance(last[0], dict) else {}
        if (
            message["role"] == "user"
            and result.get("type") == "tool_result"
            and _is_text(message["content"])
        ):
            both = join_text(result.get("content"), message["content"])
            content = [*before["content"][:-1], {**result, "content": both}]
            folded[-1] = {**before, "content": content}
        else:
            folded.append(message)
    return folded


def fold_into_outputs(items: list[Json]) -> list[Json]:
    """Return items of the Responses API in which the user's text after a tool's output is in that
    output."""
    folded: list[Json] = []
    for item in items:
        before = folded[-1] if folded else {}
        is_users = item.get("type", "message") == "message" and item.get("role") == "user"
        if (
            is_users
            and before.get("type") == "function_call_output"
            and _is_text(item.get("content"))
        ):
            both = join_text(before.get("output"), item["content"])
            folded[-1] = {**before, "output": both}
        else:
            folded.append(item)
    return folded


def _is_text(content: Content) -> bool:
    return isinstance(content, str) or all(
        isinstance(part, dict) and part.get("type") in ("text", "input_text")
        for part in parts_of(content)
    )
