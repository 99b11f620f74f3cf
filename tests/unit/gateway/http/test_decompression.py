"""Compressed bodies: each encoding, cut anywhere, and those that unpack to more than they say."""

from __future__ import annotations

import gzip
import os
import sys
import zlib
from collections.abc import Callable

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_halo.gateway.http.decompression import (
    ERRORS,
    MAX_MEMBERS,
    PIECE_BYTES,
    Decompressor,
    decompressor_for,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACK: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("X-GZIP", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "raw deflate": ("deflate", raw_deflate),
    "br": ("br", brotli.compress),
    "zstd": ("zstd", zstd.compress),
}
DATA = os.urandom(3 * PIECE_BYTES) + b"x" * 5 * PIECE_BYTES + b"the end"


def start(case: str) -> Decompressor:
    decompressor = decompressor_for(PACK[case][0])
    assert decompressor is not None
    return decompressor


def unpack(decompressor: Decompressor, packed: bytes, size: int) -> list[bytes]:
    """Return the pieces of a body that arrives in parts of a size."""
    parts = [packed[at : at + size] for at in range(0, len(packed), size)]
    return [piece for part in parts for piece in decompressor.pieces(part)]


@pytest.mark.parametrize("size", [1000, 2**14, 2**20])
@pytest.mark.parametrize("case", PACK)
def test_a_body_is_unpacked_in_bounded_pieces_however_it_is_cut(case: str, size: int) -> None:
    decompressor = start(case)
    pieces = unpack(decompressor, PACK[case][1](DATA), size)
    assert b"".join(pieces) == DATA
    assert max(map(len, pieces)) <= 2 * PIECE_BYTES
    assert decompressor.is_complete


@pytest.mark.parametrize("case", PACK)
@given(data=st.binary(max_size=60), size=st.integers(1, 9))
def test_any_body_comes_back(case: str, data: bytes, size: int) -> None:
    decompressor = start(case)
    assert b"".join(unpack(decompressor, PACK[case][1](data), size)) == data
    assert decompressor.is_complete


@pytest.mark.parametrize("case", PACK)
def test_a_body_that_is_cut_off_is_not_complete(case: str) -> None:
    decompressor = start(case)
    unpack(decompressor, PACK[case][1](DATA)[:-20], 1000)
    assert not decompressor.is_complete


@pytest.mark.parametrize("case", PACK)
def test_a_bomb_gives_its_first_pieces_before_the_rest_is_unpacked(case: str) -> None:
    bomb = PACK[case][1](bytes(2**26))
    assert len(bomb) < 2**17
    pieces = start(case).pieces(bomb)
    assert sum(len(next(pieces)) for _ in range(4)) <= 8 * PIECE_BYTES


@pytest.mark.parametrize("case", ["gzip", "zstd"])
def test_members_follow_each_other_up_to_a_number(case: str) -> None:
    pack = PACK[case][1]
    assert b"".join(unpack(start(case), pack(b"a") + pack(b"") + pack(b"b"), 5)) == b"ab"
    with pytest.raises(ERRORS):
        unpack(start(case), pack(b"") * (MAX_MEMBERS + 1), 2**20)


@pytest.mark.parametrize("case", ["deflate", "raw deflate", "br"])
def test_nothing_may_follow_the_end_of_the_others(case: str) -> None:
    with pytest.raises(ERRORS):
        unpack(start(case), PACK[case][1](b"a") * 2, 1)


@pytest.mark.parametrize("case", PACK)
def test_garbage_is_an_error(case: str) -> None:
    with pytest.raises(ERRORS):
        unpack(start(case), b"\x07garbage that is no compressed data" * 9, 50)


def test_encodings() -> None:
    assert decompressor_for("") is None
    assert decompressor_for(" Identity ") is None
    assert decompressor_for("utf-8") is None
    assert decompressor_for("utf-8, gzip") is not None
    with pytest.raises(LookupError):
        decompressor_for("gzip, br")
