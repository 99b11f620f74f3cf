"""Anthropic's tools that the client runs: a model is offered them as plain functions.

Claude knows these tools by their type, so a request has no schema of them. The schemas here follow
Anthropic's tool reference; one serves all versions of a tool.
"""

from __future__ import annotations

import re
from typing import Any

from llama_halo.gateway.http.errors import Failure

Json = dict[str, Any]
_VERSION = re.compile(r"_\d{8}$")
_HOSTED = (
    *("web_search", "web_fetch", "code_execution", "tool_search_tool", "mcp_toolset", "advisor"),
    *("tool_search_tool_bm25", "tool_search_tool_regex"),
)
_TEXT, _NUMBER = {"type": "string"}, {"type": "integer"}
_POINT = {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2}


def _schema(required: list[str], **properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": required}


def _described(description: str, schema: Json = _TEXT) -> Json:
    return {**schema, "description": description}


_PATH = _described("Absolute path of the file or folder.")
_EDITS: Json = {
    "path": _PATH,
    "file_text": _described("Of create: the content of the new file."),
    "old_str": _described("Of str_replace: the text to replace, which must occur exactly once."),
    "new_str": _described("Of str_replace: the text that replaces it."),
    "insert_line": _described(
        "Of insert: the line after which to insert; 0 for the start.", _NUMBER
    ),
    "insert_text": _described("Of insert: the text to insert."),
    "view_range": _described("Of view: the first and the last line; -1 for the end.", _POINT),
}
_COMPUTER_ACTIONS = [
    *("key", "type", "mouse_move", "left_click", "left_click_drag", "right_click", "middle_click"),
    *(
        "double_click",
        "screenshot",
        "cursor_position",
        "left_mouse_down",
        "left_mouse_up",
        "scroll",
    ),
    *("hold_key", "wait", "triple_click", "zoom"),
]
_FUNCTIONS: dict[str, tuple[str, str, Json]] = {
    "bash": (
        "bash",
        "Run a command in a bash session that keeps its state between calls.",
        _schema(
            [],
            command=_described("The command to run. Required unless restart is true."),
            restart=_described("Start the session anew.", {"type": "boolean"}),
        ),
    ),
    "text_editor": (
        "str_replace_based_edit_tool",
        "View, create and edit text files.",
        _schema(
            ["command", "path"],
            command={**_TEXT, "enum": ["view", "create", "str_replace", "insert"]},
            **_EDITS,
        ),
    ),
    "memory": (
        "memory",
        "Keep notes between conversations, as files in /memories.",
        _schema(
            ["command"],
            command={
                **_TEXT,
                "enum": ["view", "create", "str_replace", "insert", "delete", "rename"],
            },
            **_EDITS,
            old_path=_described("Of rename: the present path."),
            new_path=_described("Of rename: the new path."),
        ),
    ),
    "computer": (
        "computer",
        "Control a computer by mouse and keyboard, and take screenshots.",
        _schema(
            ["action"],
            action={**_TEXT, "enum": _COMPUTER_ACTIONS},
            coordinate=_described("x and y in pixels from the top left corner.", _POINT),
            start_coordinate=_described("Of left_click_drag: where it starts.", _POINT),
            text=_described("The text to type, or the keys to press."),
            scroll_direction={**_TEXT, "enum": ["up", "down", "left", "right"]},
            scroll_amount=_NUMBER,
            duration=_described("Seconds.", {"type": "number"}),
            region=_described("Of zoom: x0, y0, x1, y1.", {"type": "array", "items": _NUMBER}),
        ),
    ),
}
"""By kind: the name by which the client knows the tool, its description, and its schema."""


def is_hosted(tool: Json) -> bool:
    """Tell whether only Anthropic's servers can run a tool."""
    return _kind(tool) in _HOSTED


def as_function(tool: Json, index: int) -> Json:
    """Return a tool with its schema; raises `Failure` (400) for a kind that is not known."""
    kind = _kind(tool)
    if kind in ("", "custom"):
        return tool
    if kind not in _FUNCTIONS:
        raise Failure(
            400,
            f"tools.{index}.type: {str(tool.get('type'))[:60]!r} is not supported by this"
            " model: give the tool with its input_schema (type custom)",
        )
    name, description, schema = _FUNCTIONS[kind]
    sides = [tool.get(f"display_{side}_px") for side in ("width", "height")]
    if all(isinstance(side, int) for side in sides):
        description += f" The screen has {sides[0]} x {sides[1]} pixels."
    return {
        "name": tool.get("name") or name,
        "description": description,
        "input_schema": schema,
    }


def _kind(tool: Json) -> str:
    """Return a tool's type without its version; empty if it has none."""
    kind = tool.get("type")
    return _VERSION.sub("", kind) if isinstance(kind, str) else ""
