"""Reads the header of a GGUF file: metadata, and the sizes of tensors; never the tensor data.

Files are not trusted. Every count and length is checked against the rest of the file and against a
fixed bound before anything is read or stored for it. A hostile file therefore ends in a named
error, in bounded memory and time. The format is `docs/gguf.md` of ggml. The bounds on names,
dimensions and offsets are those of `gguf.cpp` in llama.cpp b11434.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from llama_halo.errors import DamagedGGUF, NotAGGUF, UnsupportedModel
from llama_halo.gguf.cursor import Cursor
from llama_halo.gguf.tensor_types import TENSOR_TYPES

ReadAt = Callable[[int, int], bytes]
"""(offset, count) -> that many bytes; fewer only at the end of the file."""
Scalar = bool | int | float | str
Value = Scalar | tuple[Scalar, ...]

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_KEYS = 65_536
MAX_TENSORS = 262_144
MAX_ITEMS = 16_777_216
"""Items of all arrays together; the largest vocabularies have a tenth of that."""
MAX_NAME_BYTES = 65_535
MAX_TENSOR_NAME_BYTES = 63
MAX_DIMENSIONS = 4
MAX_TENSOR_TYPE = 4095
"""Forks number their types from 96 to some hundreds; anything larger is damage."""
MAX_TEXT_BYTES = 2**20
"""Bytes of one string value, for example a chat template."""
MAX_KEPT_CHARACTERS = 8 * 2**20
"""Characters of all string values together."""
KEPT_ITEMS = 4096
"""Longer arrays, and arrays of strings, are skipped; their lengths are kept."""
MAX_KEPT_ITEMS = 1_048_576
"""Items of all kept arrays together; further arrays are skipped, too."""

_SCALARS = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_TEXT, _ARRAY = 8, 9


@dataclass(frozen=True)
class Header:
    """The header of a GGUF file; `shards.combine` makes one for a sharded model."""

    metadata: Mapping[str, Value]
    array_lengths: Mapping[str, int]
    """Length of every array, kept or skipped."""
    tensors: Mapping[str, int]
    """Bytes of each tensor, padded to the alignment, in the file's order."""
    tensor_types: Mapping[str, int]
    """Bytes of all tensors of a type, by the type's name."""
    parameters: int

    @property
    def tensor_bytes(self) -> int:
        return sum(self.tensors.values())

    def text(self, key: str) -> str:
        """Return a string value, empty if it is absent or of another type."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else ""

    def whole(self, key: str, default: int = 0) -> int:
        """Return an integer, the default if it is absent or of another type."""
        value = self.metadata.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else default


def read_header(read_at: ReadAt, size: int | None = None) -> Header:
    """Read the header of a file of `size` bytes (None: not known).

    Raises `NotAGGUF` unless the file is a GGUF of a version that llama.cpp reads, `DamagedGGUF` if
    it is truncated or has impossible values, and `UnsupportedModel` for types of tensors that
    llama.cpp does not know.
    """
    cursor = Cursor(read_at, size)
    if cursor.take(4, "its first four bytes") != MAGIC:
        raise NotAGGUF("the file does not start with GGUF")
    version = cursor.number("<I", "the version")
    if version not in VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS
        problem = "it is big-endian" if swapped else f"version {version}; llama.cpp reads 2 and 3"
        raise NotAGGUF(f"this kind of GGUF cannot be read: {problem}")
    tensor_count = cursor.number("<Q", "the number of tensors")
    key_count = cursor.number("<Q", "the number of keys")
    _at_most("tensors", tensor_count, MAX_TENSORS)
    _at_most("keys", key_count, MAX_KEYS)
    metadata, lengths = _metadata(cursor, key_count)
    alignment = _alignment(metadata)
    tensors, types, parameters, end = _tensors(cursor, tensor_count, alignment)
    needed = _padded(cursor.position, alignment) + end
    if tensors and size is not None and needed > size:
        raise DamagedGGUF(f"the file ends early: its tensors need {needed} bytes, it has {size}")
    return Header(metadata, lengths, tensors, types, parameters)


def _metadata(cursor: Cursor, count: int) -> tuple[dict[str, Value], dict[str, int]]:
    metadata: dict[str, Value] = {}
    lengths: dict[str, int] = {}
    left, kept, characters = MAX_ITEMS, MAX_KEPT_ITEMS, 0
    for index in range(count):
        key = cursor.text(MAX_NAME_BYTES, f"key {index}")
        if not key or key in metadata or key in lengths:
            raise DamagedGGUF(f"key {index} is {'there twice: ' + key if key else 'empty'}")
        kind = cursor.number("<I", f"the type of {key}")
        if kind != _ARRAY:
            metadata[key] = value = _scalar(cursor, kind, key)
            characters += len(value) if isinstance(value, str) else 0
            _at_most("characters of text", characters, MAX_KEPT_CHARACTERS)
            continue
        items, lengths[key] = _array(cursor, key, left, keep=min(kept, KEPT_ITEMS))
        left -= lengths[key]
        if items is not None:
            metadata[key] = items
            kept -= len(items)
    return metadata, lengths


def _scalar(cursor: Cursor, kind: int, key: str) -> Scalar:
    if kind == _TEXT:
        return cursor.text(MAX_TEXT_BYTES, key)
    layout = _SCALARS.get(kind)
    if layout is None:
        raise DamagedGGUF(f"{key} has type {kind}, which does not exist")
    value: Scalar = layout.unpack(cursor.take(layout.size, key))[0]
    return value


def _array(
    cursor: Cursor, key: str, left: int, *, keep: int
) -> tuple[tuple[Scalar, ...] | None, int]:
    """Return an array (None if it has strings, or more than `keep` items) and its length."""
    kind = cursor.number("<I", f"the type of the items of {key}")
    length = cursor.number("<Q", f"the length of {key}")
    layout = _SCALARS.get(kind)
    if layout is None and kind != _TEXT:
        raise DamagedGGUF(f"{key} is an array of type {kind}, which does not exist")
    _at_most(f"items of arrays, with {key},", length, left)
    least = length * (layout.size if layout else 8)
    cursor.expect(least, key)
    if layout is None:
        cursor.skip_texts(length, key)
        return None, length
    if length > keep:
        cursor.skip(least, key)
        return None, length
    data = cursor.take(least, key)
    return tuple(item for (item,) in layout.iter_unpack(data)), length


def _alignment(metadata: Mapping[str, Value]) -> int:
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    # llama.cpp accepts any power of two; no file needs more than a huge page.
    if not isinstance(alignment, int) or not 0 < alignment <= 2**21 or alignment & (alignment - 1):
        raise DamagedGGUF(f"general.alignment is {str(alignment)[:40]}, no power of two up to 2^21")
    return alignment


def _tensors(
    cursor: Cursor, count: int, alignment: int
) -> tuple[dict[str, int], dict[str, int], int, int]:
    """Return bytes by tensor and by type, the number of values, and where the data ends.

    The end is that of the last tensor without its padding: some writers pad only between tensors,
    and llama.cpp loads such a file.
    """
    tensors: dict[str, int] = {}
    types: dict[str, int] = {}
    parameters = start = end = 0
    for index in range(count):
        name = cursor.text(MAX_TENSOR_NAME_BYTES, f"the name of tensor {index}")
        if name in tensors:
            raise DamagedGGUF(f"tensor {name} is a duplicate")
        values, kind, offset = _tensor(cursor, name)
        if offset != start:
            raise DamagedGGUF(f"tensor {name} has offset {offset}, expected {start}")
        tensor_type = TENSOR_TYPES[kind]
        size = values // tensor_type.block_values * tensor_type.block_bytes
        end = start + size
        tensors[name] = _padded(size, alignment)
        types[tensor_type.name] = types.get(tensor_type.name, 0) + tensors[name]
        parameters += values
        start += tensors[name]
        if start >= 2**63:
            raise DamagedGGUF(f"tensor {name} ends beyond 2^63 bytes")
    return tensors, types, parameters, end


def _tensor(cursor: Cursor, name: str) -> tuple[int, int, int]:
    """Return a tensor's number of values, its type and its offset in the data."""
    dimensions = cursor.number("<I", f"the dimensions of {name}")
    _at_most(f"dimensions of {name}", dimensions, MAX_DIMENSIONS)
    shape = [cursor.number("<Q", f"the shape of {name}") for _ in range(dimensions)]
    kind = cursor.number("<I", f"the type of {name}")
    offset = cursor.number("<Q", f"the offset of {name}")
    if kind not in TENSOR_TYPES:
        problem = f"tensor {name} has type {kind}, which llama.cpp"
        if kind > MAX_TENSOR_TYPE:
            raise DamagedGGUF(f"{problem} cannot have")
        raise UnsupportedModel(
            f"{problem} does not know: it is a fork's quantization, or one that llama.cpp has"
            " removed; take a file in another quantization"
        )
    values = 1
    for extent in shape:
        values *= extent
        if not 0 < values < 2**62:
            raise DamagedGGUF(f"tensor {name} has the impossible shape {shape}")
    if shape and shape[0] % TENSOR_TYPES[kind].block_values:
        raise DamagedGGUF(
            f"tensor {name} has rows of {shape[0]} values, which is no whole number of blocks of"
            f" {TENSOR_TYPES[kind].name}"
        )
    return values, kind, offset


def _at_most(field: str, value: int, most: int) -> None:
    if value > most:
        raise DamagedGGUF(f"{value} {field} are more than any model has ({most})")


def _padded(size: int, alignment: int) -> int:
    return (size + alignment - 1) // alignment * alignment
