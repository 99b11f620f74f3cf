"""The models of whisper.cpp: not GGUF, but ggml's older format with a header of fixed numbers.

The memory besides the weights follows from those numbers: the caches of whisper.cpp 1.8, for as
many decoders as it may start, and a bound on its compute buffers.
"""

from __future__ import annotations

import struct

from llama_halo.errors import NotAGGUF, UnsupportedModel
from llama_halo.gguf.companions import Companion
from llama_halo.gguf.header import ReadAt
from llama_halo.gguf.memory import MIB

WHISPER = "whisper"
_MAGIC = 0x67676D6C
_HEADER = struct.Struct("<12i")
_MOST = 2**17
_DECODERS = 5
"""whisper.cpp starts with one decoder, and retries what it did not understand with more."""
_CELLS = 256
"""Caches are padded to a multiple of this many cells."""
_HALF = 2


def companion(read_at: ReadAt, size: int) -> Companion:
    """Return the companion of a file; raises `NotAGGUF` for any other, `UnsupportedModel` for
    impossible sizes."""
    data = read_at(0, _HEADER.size) if size >= _HEADER.size else b""
    if len(data) < _HEADER.size or _HEADER.unpack(data)[0] != _MAGIC:
        raise NotAGGUF(
            "it is not a whisper.cpp model (ggml-….bin): use one, or set the spec.mode that"
            " fits this file"
        )
    numbers = _HEADER.unpack(data)[1:]
    if not all(0 < number < _MOST for number in numbers[:-1]):
        raise UnsupportedModel("its header has sizes that no model of whisper.cpp has")
    more = _caches(numbers) + _compute(numbers)
    return Companion(
        kind=WHISPER,
        architecture=WHISPER,
        weights=size,
        positions=1,
        values=-(-more // 4),
        has_audio=True,
    )


def _caches(numbers: tuple[int, ...]) -> int:
    _, audio_context, audio_state, _, _, text_context, text_state, _, text_layers, *_ = numbers
    heard, text = _padded(audio_context), _padded(text_context)
    own = 2 * text_layers * text_state * text * _HALF * _DECODERS
    across = 2 * text_layers * text_state * heard * _HALF
    return own + across + 2 * audio_state * heard * _HALF


def _compute(numbers: tuple[int, ...]) -> int:
    """Return a bound on the buffers of its four graphs, with the attention scores that it keeps
    without flash attention."""
    vocabulary, audio_context, audio_state, heads, *_ = numbers
    heard = _padded(audio_context)
    encode = heard * (64 * audio_state + heads * heard * 4)
    return encode + 24 * MIB + 448 * vocabulary * 4 + 48 * 1024 * audio_state


def _padded(cells: int) -> int:
    return -(-cells // _CELLS) * _CELLS
