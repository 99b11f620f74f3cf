"""The header reader: what it reads, and that a hostile file ends in a named error."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_halo.errors import DamagedGGUF, GGUFError, NotAGGUF, UnsupportedModel
from llama_halo.gguf.cursor import MAX_BYTES
from llama_halo.gguf.header import KEPT_ITEMS, Header, read_header
from llama_halo.gguf.layers import dimensions
from llama_halo.gguf.shards import combine, shard_names
from tests.support.gguf_files import header_bytes
from tests.support.gguf_models import MODELS

F32, Q4_0 = 0, 2
METADATA: dict[str, Any] = {
    "general.architecture": "llama",
    "general.name": "Tiny",
    "llama.block_count": 2,
    "llama.rope.freq_base": 10000.0,
    "tokenizer.ggml.add_bos_token": True,
    "tokenizer.ggml.tokens": [f"token {index}" for index in range(KEPT_ITEMS + 1)],
    "llama.attention.head_count_kv": [8, 0],
}
TENSORS = [("output.weight", [64, 10], Q4_0, 0), ("norm.weight", [64], F32, 384)]
DATA = 384 + 256


def read(data: bytes, size: int | None = -1) -> Header:
    return read_header(
        lambda offset, count: data[offset : offset + count], len(data) if size == -1 else size
    )


def whole(metadata: dict[str, Any] = METADATA, tensors: Any = TENSORS, **more: Any) -> bytes:
    """Return a file with its data, which is never looked at."""
    head = header_bytes(metadata, tensors, **more)
    return head + bytes(-len(head) % 32) + bytes(DATA)


def test_metadata_and_sizes_are_read_and_long_arrays_are_passed_over() -> None:
    header = read(whole())
    assert header.text("general.name") == "Tiny"
    assert header.whole("llama.block_count") == 2
    assert header.metadata["llama.rope.freq_base"] == 10000.0
    assert header.metadata["tokenizer.ggml.add_bos_token"] is True
    assert header.metadata["llama.attention.head_count_kv"] == (8, 0)
    assert "tokenizer.ggml.tokens" not in header.metadata
    assert header.array_lengths["tokenizer.ggml.tokens"] == KEPT_ITEMS + 1
    assert header.tensors == {"output.weight": 384, "norm.weight": 256}
    assert header.tensor_types == {"Q4_0": 384, "F32": 256}
    assert header.parameters == 704
    assert header.tensor_bytes == DATA


def test_no_tensor_data_is_ever_asked_for() -> None:
    data, asked = whole(), []

    def read_at(offset: int, count: int) -> bytes:
        asked.append(offset)
        return data[offset : offset + count]

    read_header(read_at, None)
    assert max(asked) < len(header_bytes(METADATA, TENSORS))


def test_the_last_tensor_needs_no_padding() -> None:
    """Some writers pad between tensors alone; llama.cpp loads such a file."""
    head = header_bytes(METADATA, [("norm.weight", [64], F32, 0), ("bias", [3], F32, 256)])
    data = head + bytes(-len(head) % 32) + bytes(256 + 12)
    assert read(data).tensors == {"norm.weight": 256, "bias": 32}
    with pytest.raises(DamagedGGUF, match=f"need {len(data)} bytes, it has {len(data) - 1}"):
        read(data[:-1])


def patched(offset: int, layout: str, *values: Any) -> bytes:
    data = bytearray(whole())
    struct.pack_into(layout, data, offset, *values)
    return bytes(data)


def with_value(kind: int, data: bytes) -> bytes:
    key = struct.pack("<Q", 3) + b"key"
    return header_bytes({}, key_count=1) + key + struct.pack("<I", kind) + data


def tensor(shape: list[int], kind: int = F32, offset: int = 0, name: str = "t") -> Any:
    return whole(METADATA, [(name, shape, kind, offset)])


@pytest.mark.parametrize(
    ("data", "error", "arguments"),
    [
        (b"", DamagedGGUF, "first four bytes"),
        (b"<html>not found</html>", NotAGGUF, "does not start with GGUF"),
        (patched(4, "<I", 1), NotAGGUF, "version 1"),
        (patched(4, ">I", 3), NotAGGUF, "big-endian"),
        (patched(8, "<Q", 2**63), DamagedGGUF, "tensors are more than any model"),
        (patched(16, "<Q", 2**63), DamagedGGUF, "keys are more than any model"),
        (patched(24, "<Q", 2**63 - 1), DamagedGGUF, "key 0 is"),
        (whole()[:-1], DamagedGGUF, "ends early"),
        (whole()[:200], DamagedGGUF, "the file ends within"),
        (with_value(8, struct.pack("<Q", 2**40)), DamagedGGUF, "key is 1099511627776 bytes long"),
        (with_value(77, b""), DamagedGGUF, "type 77"),
        (with_value(9, struct.pack("<IQ", 4, 2**62)), DamagedGGUF, "items of arrays"),
        (with_value(9, struct.pack("<IQ", 8, 10**6)), DamagedGGUF, "the file ends within key"),
        (with_value(9, struct.pack("<IQ", 9, 1)), DamagedGGUF, "array of type 9"),
        (
            with_value(9, struct.pack("<IQQ", 8, 5000, 2**62) + bytes(60_000)),
            DamagedGGUF,
            "the file ends within key",
        ),
        (tensor([64, 0]), DamagedGGUF, "impossible shape"),
        (tensor([2**40, 2**40]), DamagedGGUF, "impossible shape"),
        (tensor([1, 1, 1, 1, 1]), DamagedGGUF, "dimensions of t"),
        (tensor([33], Q4_0), DamagedGGUF, "rows of 33 values"),
        (tensor([64], 5), UnsupportedModel, "type 5, which llama.cpp does not know"),
        (tensor([64], 31), UnsupportedModel, "type 31, .* has removed"),
        (tensor([64], 144), UnsupportedModel, "type 144, .* a fork's quantization"),
        (tensor([64], 2**31), DamagedGGUF, "type 2147483648, which llama.cpp cannot have"),
        (tensor([64], offset=32), DamagedGGUF, "offset 32, expected 0"),
        (tensor([64], name="n" * 64), DamagedGGUF, "64 bytes long"),
        (whole({"general.alignment": 3}), DamagedGGUF, "no power of two"),
        (whole({"general.alignment": 0}), DamagedGGUF, "no power of two"),
        (whole({"": 1}), DamagedGGUF, "key 0 is empty"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_what_was_seen(
    data: bytes, error: type[GGUFError], arguments: str
) -> None:
    with pytest.raises(error, match=arguments):
        read(data)


def test_a_file_of_unknown_size_that_goes_on_for_ever_is_left() -> None:
    """A vocabulary of thousands of millions of bytes: the reader gives up at its bound."""
    head = with_value(9, struct.pack("<IQ", 8, 16_000_000))
    item = struct.pack("<Q", 2000) + bytes(2000)
    furthest = 0

    def endless(offset: int, count: int) -> bytes:
        nonlocal furthest
        furthest = max(furthest, offset + count)
        if offset < len(head):
            return (head + item * (count // len(item) + 1))[offset : offset + count]
        start = (offset - len(head)) % len(item)
        return (item * (count // len(item) + 2))[start : start + count]

    with pytest.raises(DamagedGGUF, match="ends within key"):
        read_header(endless)
    assert furthest <= MAX_BYTES


@given(st.data())
def test_a_header_with_random_damage_is_read_or_refused_and_nothing_else(data: Any) -> None:
    """Whatever becomes of the bytes: no other exception than the named ones, in either step."""
    name = data.draw(st.sampled_from(sorted(MODELS)))
    damaged = bytearray(header_bytes(MODELS[name], TENSORS))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        width = data.draw(st.sampled_from([1, 4, 8]))
        value = data.draw(st.integers(0, 2 ** (8 * width) - 1))
        damaged[at : at + width] = value.to_bytes(width, "little")
    cut = data.draw(st.integers(0, len(damaged)))
    kept = bytes(damaged if data.draw(st.booleans()) else damaged[:cut])
    try:
        dimensions(read(kept, None))
    except GGUFError:
        return


SHARD = "model-00001-of-00003.gguf"


def shard(number: int, count: int = 3, tensors: Any = ()) -> Header:
    split = {"split.no": number, "split.count": count, "split.tensors.count": 3}
    return read(header_bytes(split, tensors), None)


def test_the_shards_of_a_model_are_found_by_the_name_of_the_first() -> None:
    assert shard_names("x.gguf", read(whole())) == ["x.gguf"]
    names = shard_names("hf:o/r/" + SHARD + "@main", shard(0))
    assert names[2] == "hf:o/r/model-00003-of-00003.gguf@main"


@pytest.mark.parametrize(
    ("name", "header", "arguments"),
    [
        ("renamed.gguf", lambda: shard(0), "must not be changed"),
        ("model-00001-of-00004.gguf", lambda: shard(0), "must not be changed"),
        ("model-00002-of-00003.gguf", lambda: shard(1), "named by its first"),
        ("model-00001-of-99999.gguf", lambda: shard(0, 99999), "must not be changed"),
    ],
)
def test_a_shard_that_is_not_the_first_or_was_renamed_is_refused(
    name: str, header: Callable[[], Header], arguments: str
) -> None:
    with pytest.raises(DamagedGGUF, match=arguments):
        shard_names(name, header())


def test_shards_together_have_the_tensors_of_all() -> None:
    parts = [shard(index, tensors=[(f"t{index}", [64], F32, 0)]) for index in range(3)]
    assert combine(parts).tensor_bytes == 3 * 256
    assert combine(parts).parameters == 192
    with pytest.raises(DamagedGGUF, match="have 2 tensors"):
        combine(parts[:2])
    with pytest.raises(DamagedGGUF, match="by its header"):
        combine([parts[0], parts[2]])
    twice = shard(1, tensors=[("t0", [64], F32, 0)])
    with pytest.raises(DamagedGGUF, match="two shards"):
        combine([parts[0], twice])
