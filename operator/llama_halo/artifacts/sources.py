"""Opens a model file for reading at any place: a path, a URL, or `hf:REPO/FILE[@REVISION]`.

Of a remote file only what is asked for is fetched, by HTTP ranges. Used by the command line; it
knows nothing of Kubernetes.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from llama_halo.errors import GGUFError, SourceError
from llama_halo.gguf.header import Header, ReadAt, read_header
from llama_halo.gguf.shards import combine, shard_names

HUB = "https://huggingface.co"
TIMEOUT_SECONDS = 30
PATIENCE_SECONDS = 120
"""For all that one range may take: a server can also send for ever."""
_SPAN = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18})$")
_UNREADABLE = (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, ImportError)


@dataclass(frozen=True)
class ModelFile:
    """A file that is open for reading."""

    size: int
    read_at: ReadAt


def read_model_header(source: str) -> Header:
    """Read the header of a model; of a sharded one, all shards' headers together.

    Raises `SourceError` when a file cannot be read, and `GGUFError` when it is no usable model.
    """
    first = _read_one(source)
    with _about(source):
        others = shard_names(source, first)[1:]
    headers = [first, *(_read_one(each) for each in others)]
    with _about(source):
        return combine(headers)


def _read_one(source: str) -> Header:
    with open_file(source) as file, _about(source):
        return read_header(file.read_at, file.size)


@contextmanager
def _about(source: str) -> Iterator[None]:
    """Name the file in what is wrong with it."""
    try:
        yield
    except GGUFError as error:
        shown = _shown(source) if "://" in source else source
        raise type(error)(f"{shown}: {error}") from error


@contextmanager
def open_file(source: str) -> Iterator[ModelFile]:
    """Open a path, an http(s) URL, or `hf:OWNER/REPO/FILE[@REVISION]`."""
    if source.startswith("hf:"):
        with _open_url(_hub_url(source), source, _authorization()) as file:
            yield file
    elif source.startswith(("http://", "https://")):
        with _open_url(source, _shown(source), {}) as file:
            yield file
    else:
        with _open_path(Path(source)) as file:
            yield file


@contextmanager
def _open_path(path: Path) -> Iterator[ModelFile]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise SourceError(f"{path}: it is no file")
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size

            def read_at(offset: int, count: int) -> bytes:
                return os.pread(stream.fileno(), count, offset)

            yield ModelFile(size, read_at)
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: {getattr(error, 'strerror', None) or error}") from error


@contextmanager
def _open_url(url: str, shown: str, headers: dict[str, str]) -> Iterator[ModelFile]:
    try:
        with httpx.Client(
            headers={**headers, "Accept-Encoding": "identity"},
            follow_redirects=True,
            timeout=TIMEOUT_SECONDS,
        ) as client:
            ranges = _Ranges(client, url, shown)
            _, size = ranges.get(0, 1)
            yield ModelFile(size, lambda offset, count: ranges.get(offset, count)[0])
    except _UNREADABLE as error:
        raise SourceError(f"{shown}: {str(error)[:200] or type(error).__name__}") from error


@dataclass(frozen=True)
class _Ranges:
    """A remote file, of which only what is asked for is taken, whatever the server sends."""

    client: httpx.Client
    url: str
    shown: str

    def get(self, offset: int, count: int) -> tuple[bytes, int]:
        """Return bytes from an offset, and the size of the file."""
        ending = time.monotonic() + PATIENCE_SECONDS
        asked = {"Range": f"bytes={offset}-{offset + count - 1}"}
        with self.client.stream("GET", self.url, headers=asked) as response:
            if response.status_code != 206:
                # A server that ignores ranges would send the whole model: hang up.
                raise SourceError(f"{self.shown}: {_refusal(response.status_code)}")
            span = _SPAN.match(response.headers.get("Content-Range", ""))
            plain = response.headers.get("Content-Encoding", "identity") == "identity"
            if span is None or int(span[1]) != offset or not plain:
                raise SourceError(f"{self.shown}: the server does not send the range asked for")
            found = bytearray()
            for part in response.iter_raw():
                found += part
                if len(found) >= count:
                    break
                if time.monotonic() > ending:
                    raise SourceError(f"{self.shown}: {count} bytes took too long")
            return bytes(found[:count]), int(span[2])


def _authorization() -> dict[str, str]:
    token = os.environ.get("HF_TOKEN", "").strip()
    if not token:
        return {}
    if not re.fullmatch(r"[!-~]+", token):
        raise SourceError("HF_TOKEN has characters that no token has: set it anew")
    return {"Authorization": f"Bearer {token}"}


def _shown(url: str) -> str:
    """Return a URL without what may be secret in it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the URL"
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:200]
    return "".join(each for each in shown if each.isprintable())


def _hub_url(source: str) -> str:
    """Return where the Hub (or HF_ENDPOINT) serves `hf:OWNER/NAME/PATH[@REVISION]`."""
    where, _, revision = source.removeprefix("hf:").partition("@")
    parts = where.split("/")
    if len(parts) < 3 or not all(parts) or not re.fullmatch(r"[\w./@-]+", source[3:], re.ASCII):
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
