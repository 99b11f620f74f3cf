"""Opens a model file for reading at any place: a path, a URL, or `hf:REPO/FILE[@REVISION]`.

Of a remote file only what is asked for is fetched, by HTTP ranges. Used by the command line; it
knows nothing of Kubernetes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from llama_halo.errors import DamagedGGUF, GGUFError, SourceError
from llama_halo.gguf.header import Header, ReadAt, read_header
from llama_halo.gguf.shards import combine, shard_names

HUB = "https://huggingface.co"
TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class ModelFile:
    """A file that is open for reading."""

    name: str
    size: int
    read_at: ReadAt


def read_model_header(source: str) -> Header:
    """Read the header of a model; of a sharded one, all shards' headers together.

    Raises `SourceError` when a file cannot be read, and `GGUFError` when it is no usable model.
    """
    first = _read_one(source)
    try:
        others = shard_names(source, first)[1:]
        return combine([first, *(_read_one(each) for each in others)])
    except DamagedGGUF as error:
        raise DamagedGGUF(f"{source}: {error}") from error


def _read_one(source: str) -> Header:
    with open_file(source) as file:
        try:
            return read_header(file.read_at, file.size)
        except GGUFError as error:
            raise type(error)(f"{source}: {error}") from error


@contextmanager
def open_file(source: str) -> Iterator[ModelFile]:
    """Open a path, an http(s) URL, or `hf:REPO/FILE[@REVISION]`."""
    if source.startswith("hf:"):
        token = os.environ.get("HF_TOKEN", "")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        with _open_url(_hub_url(source), source, headers) as file:
            yield file
    elif source.startswith(("http://", "https://")):
        with _open_url(source, source, {}) as file:
            yield file
    else:
        with _open_path(Path(source)) as file:
            yield file


@contextmanager
def _open_path(path: Path) -> Iterator[ModelFile]:
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size

            def read_at(offset: int, count: int) -> bytes:
                return os.pread(stream.fileno(), count, offset)

            yield ModelFile(path.name, size, read_at)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from error


@contextmanager
def _open_url(url: str, shown: str, headers: dict[str, str]) -> Iterator[ModelFile]:
    with httpx.Client(
        headers={**headers, "Accept-Encoding": "identity"},
        follow_redirects=True,
        timeout=TIMEOUT_SECONDS,
    ) as client:

        def get(offset: int, count: int) -> httpx.Response:
            asked = {"Range": f"bytes={offset}-{offset + count - 1}"}
            try:
                with client.stream("GET", url, headers=asked) as response:
                    if response.status_code != 206:
                        # A server that ignores ranges would send the whole model: hang up.
                        raise SourceError(f"{shown}: {_refusal(response.status_code)}")
                    response.read()
                    return response
            except httpx.HTTPError as error:
                raise SourceError(f"{shown}: {error or type(error).__name__}") from error

        def read_at(offset: int, count: int) -> bytes:
            return get(offset, count).content[:count]

        total = get(0, 1).headers.get("Content-Range", "").rpartition("/")[2]
        if not total.isdecimal():
            raise SourceError(f"{shown}: the server does not say how large the file is")
        yield ModelFile(url.rpartition("/")[2], int(total), read_at)


def _hub_url(source: str) -> str:
    """Return where the Hub (or HF_ENDPOINT) serves `hf:OWNER/NAME/PATH[@REVISION]`."""
    where, _, revision = source.removeprefix("hf:").partition("@")
    parts = where.split("/")
    if len(parts) < 3 or not all(parts):
        raise SourceError(f"{source}: write hf:OWNER/REPO/FILE, or hf:OWNER/REPO/FILE@REVISION")
    endpoint = os.environ.get("HF_ENDPOINT", HUB).rstrip("/")
    repo, file = "/".join(parts[:2]), "/".join(parts[2:])
    return f"{endpoint}/{repo}/resolve/{revision or 'main'}/{file}"


def _refusal(status: int) -> str:
    reasons = {
        200: "the server ignores ranges, and would send the whole file: download it first",
        401: "not allowed (401): set HF_TOKEN to a token that may read it",
        403: "not allowed (403): accept the model's terms on its page, or use another token",
        404: "there is no such file (404)",
        416: "the file is empty (416)",
        429: "too many requests (429): wait, or set HF_TOKEN",
    }
    return reasons.get(status, f"the server answered {status}")
