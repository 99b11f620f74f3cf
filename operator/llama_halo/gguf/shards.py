"""Sharded models: the names of their files, and their combined header."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from llama_halo.errors import DamagedGGUF
from llama_halo.gguf.header import Header

MAX_SHARDS = 1000
_NAME = re.compile(r"-(\d{5})-of-(\d{5})(\.gguf(?:[@?].*)?)$")
"""A revision or a URL's query may follow the name."""


def shard_names(name: str, header: Header) -> list[str]:
    """Return the names of all files of a model; `name` is the first.

    `x-00001-of-00003.gguf` is the first of three; a model in one file has just that. Raises
    `DamagedGGUF` when the name does not fit the header.
    """
    count = header.whole("split.count", 1)
    if count <= 1:
        return [name]
    match = _NAME.search(name)
    if match is None or int(match[2]) != count or count > MAX_SHARDS:
        raise DamagedGGUF(
            f"the file is one of {count} shards, and is not called …-00001-of-{count:05}.gguf:"
            " llama.cpp finds the others by their names, which must not be changed"
        )
    if header.whole("split.no") != 0 or int(match[1]) != 1:
        raise DamagedGGUF(
            f"this is shard {match[1]} of {count}: a model is named by its first,"
            f" …-00001-of-{count:05}.gguf"
        )
    stem = name[: match.start()]
    return [f"{stem}-{index:05}-of-{count:05}{match[3]}" for index in range(1, count + 1)]


def combine(headers: Sequence[Header]) -> Header:
    """Return the first header with all shards' tensors; raises `DamagedGGUF` on a mismatch."""
    first = headers[0]
    tensors: dict[str, int] = {}
    types: Counter[str] = Counter()
    for number, header in enumerate(headers):
        if header.whole("split.no") != number:
            raise DamagedGGUF(
                f"file {number + 1} is shard {header.whole('split.no') + 1} by its header"
                " (split.no): restore the files' names"
            )
        twice = tensors.keys() & header.tensors.keys()
        if twice:
            raise DamagedGGUF(f"tensor {min(twice)} is in two shards")
        tensors |= header.tensors
        types.update(header.tensor_types)
    expected = first.whole("split.tensors.count", len(tensors))
    if expected != len(tensors):
        raise DamagedGGUF(
            f"the shards have {len(tensors)} tensors, but split.tensors.count is {expected}:"
            " download them again"
        )
    return replace(
        first,
        tensors=tensors,
        tensor_types=dict(types),
        parameters=sum(header.parameters for header in headers),
    )
