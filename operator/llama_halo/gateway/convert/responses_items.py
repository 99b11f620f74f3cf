"""Items of a Responses request, as llama-server and the converters take them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from llama_halo.gateway.convert import compatibility
from llama_halo.gateway.convert.common import mapping, objects_in
from llama_halo.gateway.convert.compatibility import Decision
from llama_halo.gateway.convert.documents import readable_json, text_of_file
from llama_halo.gateway.convert.tool_names import (
    ClientTool,
    ToolNames,
    custom_function,
    input_arguments,
)
from llama_halo.gateway.http.errors import Failure

Json = dict[str, Any]
_TARGET = "llama-server"
"""Every target of this API omits and refuses the same kinds."""
_HOSTED_ITEMS = frozenset(
    {
        *("file_search_call", "web_search_call", "code_interpreter_call", "mcp_call"),
        *("mcp_approval_request", "mcp_approval_response", "tool_search_call"),
    }
)
"""What OpenAI's servers did for an earlier turn: a model reads it as text."""
_TOOL_LISTS = ("additional_tools", "tool_search_output")
_READ_ELSEWHERE = ("configuration_update", *_TOOL_LISTS)
_PARTS = {"input_text": "input_text", "output_text": "output_text", "text": "input_text"}


class RequestItems:
    """The items and tools of one request, and the names under which its tools are offered."""

    def __init__(self, body: Json) -> None:
        raw_input = body.get("input")
        self._items: list[Json] = raw_input if isinstance(raw_input, list) else []
        # A tool that the conversation brings again counts once.
        listed = list(dict(_flat(_all_tools(body.get("tools"), self._items))).items())
        self.tool_names = ToolNames.of(tool for tool, _ in listed)
        self.tools = [_function(tool, entry, self.tool_names) for tool, entry in listed]

    def settings(self) -> Json:
        """Return the settings that items of the conversation change: `reasoning` and `text`."""
        changed: Json = {}
        for item in self._items:
            if item.get("type") == "configuration_update":
                changed |= {name: item[name] for name in ("reasoning", "text") if item.get(name)}
        return changed

    def items(self) -> tuple[list[Json], list[str]]:
        """Return the items for a model, and the texts of leading system messages.

        Those texts go into the instructions: strict chat templates accept one system message.
        Raises `Failure` (400) for an item that has no meaning here.
        """
        converted: list[Json] = []
        leading: list[str] = []
        shown: list[Json] = []  # images and files of tool results, which follow those of one turn
        for index, item in enumerate(self._items):
            kind, role = item.get("type", "message"), item.get("role")
            if kind in ("function_call_output", "custom_tool_call_output"):
                output, files = _output({**item, "type": "function_call_output"})
                converted.append(output)
                shown += files
                continue
            converted += _as_users(shown)
            shown = []
            if kind == "message" and role in ("system", "developer") and not converted:
                leading.append(_text(item.get("content")))
            else:
                converted += self._item(item, kind, f"input.{index}")
        return [*converted, *_as_users(shown)], leading

    def _item(self, item: Json, kind: Any, path: str) -> Iterator[Json]:
        if kind == "message":
            role = "user" if item.get("role") in ("system", "developer") else item.get("role")
            yield {**item, "type": kind, "role": role, "content": _content(item.get("content"))}
        elif kind == "function_call":
            arguments = item.get("arguments")
            name = self.tool_names.offered(item.get("name"), item.get("namespace"))
            others = {name: value for name, value in item.items() if name != "namespace"}
            text = arguments if isinstance(arguments, str) else json.dumps(arguments or {})
            yield {**others, "name": name, "arguments": text}
        elif kind == "custom_tool_call":
            name = self.tool_names.offered(item.get("name"), item.get("namespace"), is_custom=True)
            head = {"type": "function_call", "call_id": item.get("call_id"), "name": name}
            yield {**head, "arguments": input_arguments(item.get("input"))}
        elif kind == "reasoning":
            yield from _reasoning(item)
        elif kind in _HOSTED_ITEMS:
            if text := readable_json(item):
                part = {"type": "output_text", "text": text}
                yield {"type": "message", "role": "assistant", "content": [part]}
        elif kind not in _READ_ELSEWHERE and _decision("items", kind) != Decision.OMITTED:
            raise _unknown(str(kind), item, path)


def _unknown(kind: str, item: Json, path: str) -> Failure:
    if kind == "item_reference":
        return Failure(
            400,
            f"{path}: Item with id {str(item.get('id'))[:100]!r} not found: the router stores no"
            " responses: send the whole conversation as input (store: false)",
        )
    return Failure(
        400,
        f"{path}.type: {kind[:60]!r} is not supported: send messages, calls of functions and custom"
        " tools, their outputs, and reasoning",
    )


def join_messages(items: list[Json]) -> list[Json]:
    """Return items in which no two messages of one role follow each other."""
    joined: list[Json] = []
    for item in items:
        before = joined[-1] if joined else {}
        if item.get("type") == before.get("type") == "message" and item["role"] == before["role"]:
            contents = [_listed(part["content"], item["role"]) for part in (before, item)]
            joined[-1] = {**before, "content": [*contents[0], *contents[1]]}
        else:
            joined.append(item)
    return joined


def _all_tools(tools: Any, items: Iterable[Json]) -> list[Json]:
    """Return a request's tools, and those that items of the conversation bring."""
    listed = objects_in(tools)
    for item in items:
        if item.get("type") in _TOOL_LISTS:
            listed += objects_in(item.get("tools"))
    return listed


def _flat(
    tools: list[Json], namespace: str = "", path: str = "tools"
) -> Iterator[tuple[ClientTool, Json]]:
    """Yield the functions and custom tools, also of namespaces.

    Raises `Failure` (400) for a tool that the client would have to run in a form of its own.
    """
    for index, tool in enumerate(tools):
        kind, here = tool.get("type"), f"{path}.{index}"
        if kind in ("function", "custom"):
            name = str(tool.get("name") or "")
            yield ClientTool(name, namespace, is_custom=kind == "custom"), tool
        elif kind == "namespace":
            yield from _flat(objects_in(tool.get("tools")), str(tool.get("name") or ""), here)
        elif _decision("tools", kind) != Decision.OMITTED or tool.get("execution") == "client":
            raise _no_such_tool(kind, here)


def _decision(category: str, kind: Any) -> Decision | None:
    return compatibility.decision("responses", category, str(kind), _TARGET)


def _no_such_tool(kind: Any, path: str) -> Failure:
    return Failure(
        400,
        f"{path}.type: {str(kind)[:60]!r} is not supported: declare the tool as a function, or as a"
        " custom tool",
    )


def _function(tool: ClientTool, entry: Json, names: ToolNames) -> Json:
    name = names.offered(tool.name, tool.namespace, is_custom=tool.is_custom)
    if tool.is_custom:
        return {"type": "function", **custom_function(entry, name)}
    return {**{key: value for key, value in entry.items() if value is not None}, "name": name}


def _as_users(files: list[Json]) -> list[Json]:
    return [{"type": "message", "role": "user", "content": files}] if files else []


def _output(item: Json) -> tuple[Json, list[Json]]:
    """Return a tool's output, and its images and PDFs: models accept those only from the user."""
    output = item.get("output")
    if not isinstance(output, list):
        text = (
            output
            if isinstance(output, str)
            else ""
            if output is None
            else readable_json({"type": "output", "value": output})
        )
        return {**item, "output": text}, []
    parts = _content(output)
    files = [part for part in parts if part.get("type") not in _PARTS]
    return {**item, "output": _text(parts)}, files


def _reasoning(item: Json) -> Iterator[Json]:
    """Yield a reasoning item that can be read; OpenAI's servers encrypt theirs, at most with a
    summary."""
    texts = list(_texts(item.get("content"))) or list(_texts(item.get("summary")))
    if texts:
        content = [{"type": "reasoning_text", "text": text} for text in texts]
        yield {**item, "summary": [], "content": content}


def _texts(parts: Any) -> Iterator[str]:
    for part in objects_in(parts):
        if isinstance(part.get("text"), str) and part["text"]:
            yield part["text"]


def _content(content: Any) -> Any:
    """Return a content whose text files are text."""
    if not isinstance(content, list):
        return content if isinstance(content, str) else ""
    return [_part(part) for part in objects_in(content)]


def _part(part: Json) -> Json:
    if part.get("type") == "input_file" and (text := text_of_file(part)):
        return {"type": "input_text", "text": text}
    if part.get("type") == "refusal":
        return {"type": "output_text", "text": str(part.get("refusal") or "")}
    return part


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(_texts(content))


def _listed(content: Any, role: str) -> list[Json]:
    if isinstance(content, str):
        kind = "output_text" if role == "assistant" else "input_text"
        return [{"type": kind, "text": content}]
    return objects_in(content)


def parts_as_chat(content: Any, path: str) -> Any:
    """Return a content as one of Chat Completions; raises `Failure` (400) for a file that is not in
    the request."""
    parts = objects_in(content)
    if all(part.get("type") in _PARTS for part in parts):
        return content if isinstance(content, str) else "\n".join(_texts(content))
    return [_part_as_chat(part, f"{path}.{index}") for index, part in enumerate(parts)]


def _part_as_chat(part: Json, path: str) -> Json:
    kind = part.get("type")
    if kind in _PARTS:
        return {"type": "text", "text": str(part.get("text") or "")}
    if kind == "input_image" and isinstance(part.get("image_url"), str):
        detail = {"detail": part["detail"]} if isinstance(part.get("detail"), str) else {}
        return {"type": "image_url", "image_url": {"url": part["image_url"], **detail}}
    if kind == "input_file" and isinstance(part.get("file_data"), str):
        data = part["file_data"]
        whole = data if data.startswith("data:") else f"data:application/pdf;base64,{data}"
        name = part.get("filename")
        file = {"filename": name if isinstance(name, str) and name else "document.pdf"}
        return {"type": "file", "file": {**file, "file_data": whole}}
    if kind == "input_audio" and mapping(part.get("input_audio")):
        return {"type": "input_audio", "input_audio": part["input_audio"]}
    raise Failure(
        400,
        f"{path}: {str(kind)[:40]!r} cannot be sent to this model: send text, or images and files"
        " inline, as a data: URL",
    )
