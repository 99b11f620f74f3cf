"""The last changes to a request for llama-server, on any of its routes."""

from __future__ import annotations

from typing import Any

from llama_halo.gateway.convert import tool_schemas
from llama_halo.gateway.convert.common import mapping, objects_in
from llama_halo.gateway.convert.documents import DOCUMENTS, PdfTexts, part_kinds, with_texts
from llama_halo.gateway.convert.tool_calls import short_id
from llama_halo.gateway.convert.turns import (
    fold_into_outputs,
    fold_into_result_blocks,
    fold_into_results,
)
from llama_halo.gateway.http.errors import Failure

Json = dict[str, Any]
_PICTURES = frozenset({"image", "image_url", "input_image"})
_MAX_DEPTH = 6
_SCHEMA_FIELDS = ("input_schema", "parameters")


def for_llama_server(body: Json, texts: PdfTexts, *, strict: bool) -> Json:
    """Return a request whose documents are text and whose tools' schemas fit a grammar.

    With `strict`, the user's text after the results of tools is in the last of them, and ids of
    calls have nine letters and digits: some chat templates refuse anything else. Raises `Failure`
    (400) for what llama-server cannot take.
    """
    kinds = part_kinds(body)
    mended = with_texts(body, texts) if DOCUMENTS & kinds else body
    if _PICTURES & (kinds if mended is body else part_kinds(mended)):
        _refuse_pictures_elsewhere(mended)
    changes: Json = {}
    tools = mended.get("tools")
    if isinstance(tools, list) and not tool_schemas.are_plain(_schemas_of(tools)):
        taken = [_tool(tool, index) for index, tool in enumerate(tools)]
        if any(after is not before for after, before in zip(taken, tools, strict=True)):
            changes["tools"] = taken
    if strict:
        changes |= _strict(mended)
    if "id_slot" in mended:  # which would choose another key's slot, with its cache
        mended = {name: value for name, value in mended.items() if name != "id_slot"}
    return {**mended, **changes} if changes else mended


def _schemas_of(tools: list[Any]) -> list[Any]:
    """Return the schemas of the arguments of all tools that have one."""
    schemas = []
    for tool in tools:
        if isinstance(tool, dict):
            holder = _holder(tool)
            schemas += [holder[field] for field in _SCHEMA_FIELDS if field in holder]
    return schemas


def _holder(tool: Json) -> Json:
    """Return the object of a tool that has its name and schema."""
    function = tool.get("function")
    return function if isinstance(function, dict) else tool


def _tool(tool: Any, index: int) -> Any:
    """Return a tool, of any API, with a schema that llama-server takes."""
    if not isinstance(tool, dict):
        return tool
    before = holder = _holder(tool)
    for field in _SCHEMA_FIELDS:
        if field not in holder:
            continue
        named = f"tools.{index} ({str(holder.get('name'))[:64]})"
        schema = tool_schemas.mended(holder[field], f"{named}.{field}")
        if schema is not holder[field]:
            holder = {**holder, field: schema}
    if holder is before:
        return tool
    return holder if before is tool else {**tool, "function": holder}


def _strict(body: Json) -> Json:
    if isinstance(body.get("input"), list):
        return {"input": [_with_short_ids(item) for item in fold_into_outputs(body["input"])]}
    messages = body.get("messages")
    if not isinstance(messages, list):
        return {}
    is_chat = any(message.get("role") == "tool" for message in messages)
    folded = fold_into_results(messages) if is_chat else fold_into_result_blocks(messages)
    return {"messages": [_with_short_ids(message) for message in folded]}


def _with_short_ids(item: Json) -> Json:
    """Return a message, block, call or item of any API with short ids of calls."""
    ids = {
        name: short_id(item[name])
        for name in ("tool_call_id", "tool_use_id", "call_id")
        if isinstance(item.get(name), str)
    }
    if item.get("type") in ("function", "tool_use") and isinstance(item.get("id"), str):
        ids["id"] = short_id(item["id"])
    inner = {
        name: [_with_short_ids(part) if isinstance(part, dict) else part for part in item[name]]
        for name in ("content", "tool_calls")
        if isinstance(item.get(name), list)
    }
    return {**item, **ids, **inner}


def _refuse_pictures_elsewhere(body: Json) -> None:
    """Raise `Failure` (400) for a picture that is not in the request: llama-server drops one that
    is named by an id, and would fetch one that is named by a URL."""
    for listed in ("messages", "input"):
        for index, item in enumerate(objects_in(body.get(listed))):
            for name in ("content", "output"):
                _check_pictures(item.get(name), f"{listed}.{index}.{name}")


def _check_pictures(content: Any, path: str, depth: int = 0) -> None:
    for index, part in enumerate(objects_in(content)):
        kind, here = part.get("type"), f"{path}.{index}"
        url = part.get("image_url")
        url = url.get("url") if isinstance(url, dict) else url
        is_inline = isinstance(url, str) and url.startswith("data:")
        if kind == "image":
            is_inline = mapping(part.get("source")).get("type") == "base64"
        if kind in _PICTURES and not is_inline:
            raise Failure(
                400,
                f"{here}: images referenced by ID or URL are not available: send them inline",
            )
        if depth < _MAX_DEPTH:
            _check_pictures(part.get("content"), f"{here}.content", depth + 1)
