"""Models of whisper.cpp: what their header says, and how much memory they need."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_halo.errors import GGUFError, NotAGGUF
from llama_halo.gguf.companions import from_json, to_json
from tests.support.whisper_headers import BASE, LARGE, MB, TINY, header, read

# Caches for one decoder, and the four compute buffers, as whisper-server of 1.8.5 prints them.
PRINTED_MB = {TINY: 14.95 + 130.73, BASE: 28.31 + 140.40}


@pytest.mark.parametrize("numbers", PRINTED_MB)
def test_what_the_server_prints_is_within_the_bound(numbers: tuple[int, ...]) -> None:
    result = read(header(numbers), 100 * MB)
    more = result.bound_bytes(flash_attention=True) - result.weights
    assert PRINTED_MB[numbers] * MB < more < 3 * PRINTED_MB[numbers] * MB
    assert result.weights == 100 * MB
    assert from_json(to_json(result)) == result


def test_a_large_model_has_room_for_all_its_decoders() -> None:
    result = read(header(LARGE), 3095 * MB)
    # Five times 84 MB of its own cache, 252 MB of what it heard, and its graphs.
    assert 3095 + 670 < result.bound_bytes(flash_attention=True) / MB < 3095 + 1400


@given(st.binary(max_size=200))
def test_any_bytes_are_a_model_or_a_named_error(data: bytes) -> None:
    try:
        read(data)
    except GGUFError:
        return
    assert data.startswith(struct.pack("<i", 0x67676D6C))


@pytest.mark.parametrize("data", [b"", b"GGUF" + bytes(60), header(TINY, magic=7)])
def test_another_kind_of_file_is_told(data: bytes) -> None:
    with pytest.raises(NotAGGUF, match="not a whisper"):
        read(data)
