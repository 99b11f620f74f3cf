"""Headers of whisper.cpp's models."""

from __future__ import annotations

import struct
from typing import Any

from llama_halo.gguf import whisper
from llama_halo.gguf.companions import Companion

MB = 10**6


# n_vocab, audio context, state, heads and layers, text context, state, heads and layers, mels, type
TINY = (51864, 1500, 384, 6, 4, 448, 384, 6, 4, 80, 1)
BASE = (51865, 1500, 512, 8, 6, 448, 512, 8, 6, 80, 1)
LARGE = (51866, 1500, 1280, 20, 32, 448, 1280, 20, 32, 128, 1)
SPEC: dict[str, Any] = {"source": {"local": {"path": "a.bin"}}, "mode": "Transcription"}


def read(data: bytes, length: int | None = None) -> Companion:
    return whisper.companion(lambda at, count: data[at : at + count], length or len(data))


def header(numbers: tuple[int, ...], magic: int = 0x67676D6C) -> bytes:
    return struct.pack("<12i", magic, *numbers)
