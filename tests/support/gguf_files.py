"""Writes GGUF files that are headers only: true dimensions, no tensor data, or none at all."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

U32, F32, BOOL, TEXT, ARRAY, U64 = 4, 6, 7, 8, 9, 10
Tensor = tuple[str, Sequence[int], int, int]
"""Name, shape, type, offset."""


def header_bytes(
    metadata: Mapping[str, Any],
    tensors: Sequence[Tensor] = (),
    *,
    version: int = 3,
    tensor_count: int | None = None,
    key_count: int | None = None,
) -> bytes:
    """Return a header; whole numbers become u32, lists arrays of what their first item is."""
    parts = [b"GGUF", struct.pack("<I", version)]
    parts.append(struct.pack("<Q", len(tensors) if tensor_count is None else tensor_count))
    parts.append(struct.pack("<Q", len(metadata) if key_count is None else key_count))
    for key, value in metadata.items():
        kind, data = _value(value)
        parts += [_text(key), struct.pack("<I", kind), data]
    for name, shape, kind, offset in tensors:
        parts += [_text(name), struct.pack("<I", len(shape))]
        parts += [struct.pack("<Q", item) for item in shape]
        parts.append(struct.pack("<IQ", kind, offset))
    return b"".join(parts)


def write(path: Path, metadata: Mapping[str, Any], tensors: Sequence[Tensor] = ()) -> Path:
    path.write_bytes(header_bytes(metadata, tensors))
    return path


def _value(value: Any) -> tuple[int, bytes]:
    if isinstance(value, bool):
        return BOOL, struct.pack("<?", value)
    if isinstance(value, int):
        return U32, struct.pack("<I", value)
    if isinstance(value, float):
        return F32, struct.pack("<f", value)
    if isinstance(value, str):
        return TEXT, _text(value)
    kind, _ = _value(value[0]) if value else (U32, b"")
    items = b"".join(_value(item)[1] for item in value)
    return ARRAY, struct.pack("<IQ", kind, len(value)) + items


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data
