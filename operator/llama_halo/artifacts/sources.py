"""Opens a model file for reading: a path, a URL, or `hf:OWNER/REPO/FILE[@REVISION]`.

Only the requested bytes of a remote file are fetched, by HTTP range requests.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from llama_halo.artifacts import hub
from llama_halo.artifacts.http import (
    REQUEST_ERRORS,
    connect,
    content_span,
    refusal,
    send,
    shown,
    version,
)
from llama_halo.errors import GGUFError, SourceError, SourceMissing
from llama_halo.gguf import whisper
from llama_halo.gguf.companions import Companion
from llama_halo.gguf.header import Header, ReadAt, read_header
from llama_halo.gguf.shards import combine, shard_names

RANGE_TIMEOUT_SECONDS = 120
"""Time limit of one range request: a server may send data for ever."""
_NOT_READABLE = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM)


@dataclass(frozen=True)
class ModelFile:
    """A file that is open for reading."""

    size: int
    read_at: ReadAt
    version: str = ""
    """ETag or Last-Modified; empty if it has neither."""


@dataclass(frozen=True)
class SourceFile:
    """One file of a model, as it was when its header was read."""

    source: str
    size: int
    version: str


def read_model(
    source: str, headers: Mapping[str, str] | None = None
) -> tuple[Header, list[SourceFile]]:
    """Read the header of a model, combined for all shards, and the facts of its files.

    Raises `SourceError` when a file cannot be read, and `GGUFError` when it is not a usable model.
    """
    first, facts = _read_one(source, headers)
    with _about(source):
        others = shard_names(source, first)[1:]
    parts = [(first, facts), *(_read_one(other, headers) for other in others)]
    with _about(source):
        return combine([header for header, _ in parts]), [facts for _, facts in parts]


def read_model_header(source: str) -> Header:
    """Read the header of a model, combined for all shards."""
    return read_model(source)[0]


def read_whisper(
    source: str, headers: Mapping[str, str] | None = None
) -> tuple[Companion, list[SourceFile]]:
    """Read the header of a whisper.cpp model, and the facts of its only file."""
    with open_file(source, headers) as file, _about(source):
        companion = whisper.companion(file.read_at, file.size)
        return companion, [SourceFile(source, file.size, file.version)]


def _read_one(source: str, headers: Mapping[str, str] | None) -> tuple[Header, SourceFile]:
    with open_file(source, headers) as file, _about(source):
        return read_header(file.read_at, file.size), SourceFile(source, file.size, file.version)


@contextmanager
def _about(source: str) -> Iterator[None]:
    """Put the file's name into a `GGUFError`."""
    try:
        yield
    except GGUFError as error:
        name = shown(source) if "://" in source else source
        raise type(error)(f"{name}: {error}") from error


@contextmanager
def open_file(source: str, headers: Mapping[str, str] | None = None) -> Iterator[ModelFile]:
    """Open a path, an http(s) URL (with headers of its own), or `hf:OWNER/REPO/FILE[@REVISION]`."""
    if source.startswith("hf:"):
        where = hub.parse(source)
        with _open_url(where.url, source, hub.authorization()) as file:
            yield file
    elif source.startswith(("http://", "https://")):
        with _open_url(source, shown(source), headers or {}) as file:
            yield file
    else:
        with _open_path(Path(source)) as file:
            yield file


@contextmanager
def _open_path(path: Path) -> Iterator[ModelFile]:
    if "\0" in str(path):
        raise SourceError(f"{str(path)!r}: no path has a NUL character")
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise SourceError(f"{path}: it is not a regular file")
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size

            def read_at(offset: int, count: int) -> bytes:
                return os.pread(stream.fileno(), count, offset)

            yield ModelFile(size, read_at)
    except OSError as error:
        kind = SourceMissing if error.errno in _NOT_READABLE else SourceError
        raise kind(f"{path}: {error.strerror or error}") from error


@contextmanager
def _open_url(url: str, name: str, headers: Mapping[str, str]) -> Iterator[ModelFile]:
    try:
        with connect() as client:
            ranges = _Ranges(client, url, name, headers)
            _, size, current_version = ranges.get(0, 1)
            yield ModelFile(
                size, lambda offset, count: ranges.get(offset, count)[0], current_version
            )
    except REQUEST_ERRORS as error:
        raise SourceError(f"{name}: {str(error)[:200] or type(error).__name__}") from error


@dataclass(frozen=True)
class _Ranges:
    """A remote file that is read by ranges; bytes beyond a range are discarded."""

    client: httpx.Client
    url: str
    name: str
    secrets: Mapping[str, str]

    def get(self, offset: int, count: int) -> tuple[bytes, int, str]:
        """Return bytes from an offset, the size of the file, and its version."""
        ending = time.monotonic() + RANGE_TIMEOUT_SECONDS
        span = f"bytes={offset}-{offset + count - 1}"
        with send(self.client, self.url, self.secrets, headers={"Range": span}) as response:
            if response.status_code != 206:
                # A server that ignores ranges would send the whole model: close the connection.
                raise refusal(self.name, response)
            start, size = content_span(self.name, response)
            if start != offset:
                raise SourceError(f"{self.name}: the server does not send the range asked for")
            data = bytearray()
            for part in response.iter_raw():
                data += part
                if len(data) >= count:
                    break
                if time.monotonic() > ending:
                    raise SourceError(f"{self.name}: {count} bytes took too long")
            return bytes(data[:count]), size, version(response)
