"""Documents of a request: as text for a model, or refused where nothing can be made of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llama_halo.gateway.convert.common import mapping, objects_in
from llama_halo.gateway.http.errors import Failure

Json = dict[str, Any]
PDF = "application/pdf"
_TEXTS = frozenset(
    {
        *("application/json", "application/xml", "application/yaml", "application/x-yaml"),
        *("application/toml", "application/javascript", "application/x-sh", "application/sql"),
        *("application/x-ndjson", "application/typescript"),
    }
)
_OPAQUE = (
    *("encrypted_content", "encrypted_index", "encrypted_stdout", "signature", "cache_control"),
    *("id", "tool_use_id", "status"),
)
DOCUMENTS = frozenset({"document", "file", "input_file", "container_upload"})
"""Kinds of parts that are documents."""


@dataclass(frozen=True)
class PdfText:
    """The text of a PDF, or why it has none."""

    text: str = ""
    problem: str = ""


@dataclass(frozen=True)
class _Document:
    """A document of a message."""

    media_type: str
    data: str
    """Base64; empty if the document is elsewhere."""
    title: Any = None


PdfTexts = Mapping[str, PdfText]
"""By the PDF's base64."""
NO_PDFS: PdfTexts = {}


def part_kinds(body: Mapping[str, Any]) -> set[str]:
    """Return the kinds of parts of a request of any API, at any depth."""
    kinds: set[str] = set()
    contents = [
        item.get(name)
        for listed in ("messages", "input")
        for item in objects_in(body.get(listed))
        for name in ("content", "output")
    ]
    while contents:
        content = contents.pop()
        if isinstance(content, list):
            for part in content:
                if isinstance(part, dict):
                    kind = part.get("type")
                    kinds.add(kind if isinstance(kind, str) else "")
                    contents.append(part.get("content"))
    return kinds


def pdfs_in(body: Mapping[str, Any]) -> list[str]:
    """Return the base64 of each PDF of a request of any API."""
    if not DOCUMENTS & part_kinds(body):
        return []
    documents = (_document_of(part) for part in _parts(body))
    return [document.data for document in documents if document and _is_pdf(document)]


def with_texts(body: Json, texts: PdfTexts) -> Json:
    """Return a request whose PDFs are text.

    Raises `Failure` (400) for a document that is no text and no PDF, and for a PDF that cannot be
    read; in the result of a tool, a line says so instead: a refusal would end the session.
    """
    if not DOCUMENTS & part_kinds(body):
        return body
    mended = dict(body)
    for listed in ("messages", "input"):
        if isinstance(body.get(listed), list):
            mended[listed] = [
                _item_with_texts(item, f"{listed}.{index}", texts)
                for index, item in enumerate(body[listed])
            ]
    return mended


def document_text(text: str, labels: Mapping[str, Any], kind: str = "document") -> str:
    """Return the text of a document between marks that name it."""
    named = (
        f' {name}="{label}"' for name, label in labels.items() if isinstance(label, str) and label
    )
    return f"<{kind}{''.join(named)}>\n{text}\n</{kind}>"


def readable_json(block: Json) -> str:
    """Return a block or item that no model's API has as JSON, without what only its maker reads;
    empty if nothing is left."""
    readable = _open(block)
    if not readable:
        return ""
    return document_text(json.dumps(readable, ensure_ascii=False), {}, str(block.get("type")))


def text_of_data(media_type: str, data: Any) -> str:
    """Return the text of a file in base64; empty if it is none."""
    kind = media_type.partition(";")[0].strip().lower()
    if not (kind.startswith("text/") or kind in _TEXTS) or not isinstance(data, str):
        return ""
    try:
        return base64.b64decode(data, validate=False).decode(errors="replace")
    except ValueError:
        return ""


def text_of_file(part: Json) -> str:
    """Return the text of a `file` or `input_file` part that is a text file; else an empty one."""
    document = _document_of(part)
    text = text_of_data(document.media_type, document.data) if document else ""
    return document_text(text, {"title": document.title}) if text and document else ""


def _open(value: Any, depth: int = 0) -> Any:
    if depth > 16:
        return None
    if isinstance(value, dict):
        return {
            name: _open(item, depth + 1)
            for name, item in value.items()
            if name not in _OPAQUE and item is not None and not (depth == 0 and name == "type")
        }
    if isinstance(value, list):
        return [_open(item, depth + 1) for item in value]
    return value


def _parts(body: Mapping[str, Any]) -> Iterator[Json]:
    """Yield the parts of messages and items, and of the results of tools among them."""
    for listed in ("messages", "input"):
        for item in objects_in(body.get(listed)):
            for name in ("content", "output"):
                for part in objects_in(item.get(name)):
                    yield part
                    yield from objects_in(part.get("content"))


def _document_of(part: Json) -> _Document | None:
    kind = part.get("type")
    if kind not in DOCUMENTS:
        return None
    if kind == "document":
        source = mapping(part.get("source"))
        is_inline = source.get("type") == "base64" and isinstance(source.get("data"), str)
        data = source["data"] if is_inline else ""
        return _Document(str(source.get("media_type")), data, part.get("title"))
    file = mapping(part.get("file")) if kind == "file" else part
    data, name = file.get("file_data"), file.get("filename")
    if not isinstance(data, str) or not data:
        return _Document("", "", name)
    head, separator, content = data.removeprefix("data:").partition(";base64,")
    if not separator:  # some clients send the base64 alone
        head, content = PDF if data.startswith("JVBER") else "", data
    return _Document(head, content, name)


def _is_pdf(document: _Document) -> bool:
    return document.media_type.startswith(PDF) and bool(document.data)


def _item_with_texts(item: Any, path: str, texts: PdfTexts) -> Any:
    if not isinstance(item, dict):
        return item
    mended = item
    for name in ("content", "output"):
        if isinstance(item.get(name), list):
            is_result = name == "output" or item.get("role") == "tool"
            parts = list(_with_texts(item[name], f"{path}.{name}", texts, is_result=is_result))
            mended = {**mended, name: parts}
    return mended


def _with_texts(parts: list[Any], path: str, texts: PdfTexts, *, is_result: bool) -> Iterator[Any]:
    for index, part in enumerate(parts):
        if not isinstance(part, dict):
            yield part
            continue
        here = f"{path}.{index}"
        document = _document_of(part)
        if document is not None:
            kind = "input_text" if part["type"] == "input_file" else "text"
            yield {"type": kind, "text": _text(document, here, texts, is_result=is_result)}
        elif part.get("type") == "tool_result" and isinstance(part.get("content"), list):
            inner = _with_texts(part["content"], f"{here}.content", texts, is_result=True)
            yield {**part, "content": list(inner)}
        else:
            yield part


def _text(document: _Document, path: str, texts: PdfTexts, *, is_result: bool) -> str:
    read = texts.get(document.data, PdfText(problem="it cannot be read here"))
    if not document.data:
        problem = "it is referenced by ID or URL: send it inline, as base64"
    elif not _is_pdf(document):
        problem = f"{document.media_type or 'its type'} is neither text nor PDF"
    else:
        problem = read.problem
    if not problem:
        return document_text(read.text, {"title": document.title})
    if is_result:
        name = f" {document.title!r}" if isinstance(document.title, str) else ""
        return f"(a document{name} that this model cannot read: {problem})"
    raise Failure(400, f"{path}: this model cannot read the document: {problem}")
