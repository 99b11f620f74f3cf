"""Names of tools: as the client knows them, and as a model is offered them.

The Responses API groups tools in namespaces, and both of OpenAI's APIs have custom tools, which
take a text instead of JSON. A model is offered plain functions with names that differ; its calls
become calls of the client's tools again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from llama_halo.gateway.convert.tool_calls import ToolCalls
from llama_halo.gateway.http import answers

Json = dict[str, Any]
INPUT = "input"
"""The one argument of the function that stands for a custom tool."""
SEPARATOR = "__"


@dataclass(frozen=True)
class ClientTool:
    """A tool as the client knows it."""

    name: str
    namespace: str = ""
    is_custom: bool = False
    """Whether it takes a text."""


@dataclass
class ToolNames:
    """The tools of one request whose name or kind differs for the model."""

    _by_offered: dict[str, ClientTool] = field(default_factory=dict)
    _offered: dict[ClientTool, str] = field(default_factory=dict)

    @classmethod
    def of(cls, tools: Iterable[ClientTool]) -> ToolNames:
        """Return the names under which a model is offered these tools, which all differ."""
        names = cls()
        listed = list(tools)
        taken = {tool.name for tool in listed if not tool.namespace and not tool.is_custom}
        for tool in listed:
            if not tool.namespace and not tool.is_custom:
                continue
            joint = "" if not tool.namespace or tool.namespace.endswith(SEPARATOR) else SEPARATOR
            offered = whole = f"{tool.namespace}{joint}{tool.name}"
            number = 2
            while offered in taken:
                offered, number = f"{whole}_{number}", number + 1
            taken.add(offered)
            names._by_offered[offered] = tool
            names._offered[tool] = offered
        return names

    def __bool__(self) -> bool:
        return bool(self._by_offered)

    def offered(self, name: Any, namespace: Any = None, *, is_custom: bool = False) -> str:
        """Return the name under which the model is offered a tool."""
        tool = ClientTool(str(name or ""), str(namespace or ""), is_custom=is_custom)
        offered = self._offered.get(tool)
        if offered or not namespace:
            return offered or str(name or "")
        joint = "" if str(namespace).endswith(SEPARATOR) else SEPARATOR
        return f"{namespace}{joint}{name}"  # a call of a tool that is offered no longer

    def tool(self, offered: Any) -> ClientTool | None:
        """Return the client's tool of an offered name, None where nothing differs."""
        return self._by_offered.get(offered) if isinstance(offered, str) else None

    def restored_item(self, item: Json) -> Json:
        """Return a `function_call` item as the call of the client's tool."""
        tool = self.tool(item.get("name")) if item.get("type") == "function_call" else None
        if tool is None:
            return item
        restored = {**item, "name": tool.name}
        if tool.namespace:
            restored["namespace"] = tool.namespace
        if tool.is_custom:
            restored |= {"type": "custom_tool_call", "input": text_input(restored.pop("arguments"))}
        return restored

    def restored_chat_call(self, call: Json) -> Json:
        """Return a call of a chat answer as the call of the client's tool."""
        function = call.get("function") or {}
        tool = self.tool(function.get("name"))
        if tool is None or not tool.is_custom:
            return call
        custom = {"name": tool.name, "input": text_input(function["arguments"])}
        return {"id": call["id"], "type": "custom", "custom": custom}


NO_NAMES = ToolNames()


class CustomCalls:
    """Withholds the calls of a stream until their choice ends, for requests with custom tools: the
    text that the client gets is a JSON string of the function's arguments."""

    def __init__(self, names: ToolNames) -> None:
        self._names = names
        self._calls: dict[int, ToolCalls] = {}

    def restore(self, data: Json) -> Json:
        """Return a chunk of a chat for the client."""
        choices = []
        for choice in answers.choices(data):
            index = answers.index_of(choice, 0)
            delta = choice.get("delta") or {}
            for piece in delta.get("tool_calls") or ():
                self._calls.setdefault(index, ToolCalls()).add(piece)
            others = {name: value for name, value in delta.items() if name != "tool_calls"}
            if choice.get("finish_reason"):
                others |= self._complete(index)
            choices.append({**choice, "delta": others})
        return {**data, "choices": choices}

    def rest(self) -> Json:
        """Return the choices of a chunk with the calls of a stream that ended without a reason."""
        ended = [(index, self._complete(index)) for index in list(self._calls)]
        choices = [
            {"index": index, "delta": delta, "finish_reason": None} for index, delta in ended
        ]
        return {"choices": choices} if choices else {}

    def _complete(self, index: int) -> Json:
        calls = self._calls.pop(index, None)
        if calls is None:
            return {}
        restored = map(self._names.restored_chat_call, calls.complete())
        return {"tool_calls": [{"index": n, **call} for n, call in enumerate(restored)]}


def custom_function(tool: Json, name: str) -> Json:
    """Return the function that stands for a custom tool: one text, in the tool's own format."""
    written = tool.get("format")
    grammar = written.get("grammar") if isinstance(written, dict) else None
    form = (
        {**written, **(grammar if isinstance(grammar, dict) else {})}
        if isinstance(written, dict)
        else {}
    )
    parts = [tool["description"]] if isinstance(tool.get("description"), str) else []
    if isinstance(form.get("definition"), str):
        parts.append(
            f"The input has this format ({form.get('syntax', 'grammar')}):\n{form['definition']}"
        )
    return {
        "name": name,
        "description": "\n\n".join(parts),
        "parameters": {
            "type": "object",
            "properties": {INPUT: {"type": "string", "description": "The whole input, as text."}},
            "required": [INPUT],
        },
    }


def text_input(arguments: Any) -> str:
    """Return the text of a custom tool's call from the arguments of its function."""
    try:
        value = json.loads(arguments)
    except (TypeError, ValueError, RecursionError):
        return str(arguments)
    text = value.get(INPUT) if isinstance(value, dict) else None
    return text if isinstance(text, str) else str(arguments)


def input_arguments(text: Any) -> str:
    """Return the arguments of a custom tool's function from the text of a call."""
    return json.dumps({INPUT: text if isinstance(text, str) else ""})
