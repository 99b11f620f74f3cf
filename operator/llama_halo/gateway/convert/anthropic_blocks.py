"""Content blocks of Anthropic's API that no other API has, as blocks that models read.

Documents and search results become text; so does what Anthropic's servers did for an earlier turn.
A PDF stays a document: only the target decides whether it goes on or becomes text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llama_halo.gateway.convert.common import mapping, objects_in, text_of
from llama_halo.gateway.convert.documents import document_text, readable_json, text_of_data

Json = dict[str, Any]
_PLAIN = frozenset({"text", "image", "thinking", "tool_use"})
_HOSTED = (
    *("server_tool_use", "mcp_tool_use", "mcp_tool_result", "advisor_tool_result"),
    *("web_search_tool_result", "web_fetch_tool_result", "code_execution_tool_result"),
    *("bash_code_execution_tool_result", "text_editor_code_execution_tool_result"),
    *("tool_search_tool_result", "browser_state"),
)
_CHANGES = ("tool_addition", "tool_removal")
_BOOKKEEPING = (*_CHANGES, "redacted_thinking", "mcp_tool_listing", "fallback")
"""What only Anthropic's servers can read, or what says nothing to a model."""


def readable_messages(messages: list[Json]) -> list[Json]:
    """Return messages with blocks that models read; one that had none of those is left out."""
    readable = []
    for message in messages:
        content = message["content"]
        if not isinstance(content, list) or _is_plain(content):
            readable.append(message)
        elif blocks := list(_readable(content)):
            readable.append({**message, "content": blocks})
    return readable


def tool_changes(messages: list[Json]) -> tuple[list[Json], set[Any]]:
    """Return the tools that messages define, and the names of those that messages remove."""
    added: list[Json] = []
    removed: set[Any] = set()
    for change in _changes(messages):
        tool = mapping(change.get("tool"))
        definition = mapping(tool.get("definition"))
        name = tool.get("name") or tool.get("tool_name") or definition.get("name")
        if not isinstance(name, str):
            continue
        if change["type"] == "tool_removal":
            removed.add(name)
        else:
            removed.discard(name)
            added += [definition] if definition else []
    return added, removed


def _changes(messages: list[Json]) -> Iterator[Json]:
    """Yield the changes of tools, also those of a range that was compacted."""
    for message in messages:
        for block in objects_in(message["content"]):
            kind = block.get("type")
            changes = [block] if kind in _CHANGES else ()
            if kind == "compaction":
                changes = objects_in(block.get("tool_changes"))
            yield from (change for change in changes if change.get("type") in _CHANGES)


def _is_plain(content: list[Any]) -> bool:
    for block in content:
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "tool_result":
            inner = block.get("content")
            if isinstance(inner, list) and not _is_plain(inner):
                return False
        elif kind not in _PLAIN:
            return False
    return True


def _readable(blocks: list[Any]) -> Iterator[Json]:
    for block in objects_in(blocks):
        kind = block.get("type")
        if kind == "document":
            yield from _document(block)
        elif kind == "search_result":
            yield _text(
                document_text(
                    text_of(block.get("content")),
                    {name: block.get(name) for name in ("title", "source")},
                    "search_result",
                )
            )
        elif kind == "tool_result" and isinstance(block.get("content"), list):
            yield {**block, "content": list(_readable(block["content"]))}
        elif kind == "compaction":
            if isinstance(block.get("content"), str) and block["content"]:
                yield _text(document_text(block["content"], {}, "summary"))
        elif kind == "tool_reference":
            yield _text(f"The tool {block.get('tool_name')} is available.")
        elif kind in _HOSTED:
            if text := readable_json(block):
                yield _text(text)
        elif kind not in _BOOKKEEPING:
            yield block


def _document(block: Json) -> Iterator[Json]:
    source = mapping(block.get("source"))
    kind, data = source.get("type"), source.get("data")
    labels = {"title": block.get("title"), "context": block.get("context")}
    if kind == "text":
        yield _text(document_text(str(data or ""), labels))
    elif kind == "content":
        content = source.get("content")
        yield _text(document_text(text_of(content), labels))
        yield from (part for part in objects_in(content) if part.get("type") == "image")
    elif kind == "base64" and (text := text_of_data(str(source.get("media_type")), data)):
        yield _text(document_text(text, labels))
    else:
        if isinstance(block.get("context"), str):
            yield _text(f"About the next document: {block['context']}")
        yield block


def _text(text: str) -> Json:
    return {"type": "text", "text": text}
