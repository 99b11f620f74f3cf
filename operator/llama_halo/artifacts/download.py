"""Downloads one file into the store: resumes a partial download, verifies it, and renames it.

Received bytes survive the process in the `.partial` file, whose size is the offset to resume from.
The checksum covers the whole file, including the bytes that an earlier process received.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from llama_halo.artifacts import store
from llama_halo.artifacts.http import (
    connect,
    content_span,
    refusal,
    same_version,
    send,
    shown,
    version,
    wait_seconds,
)
from llama_halo.errors import (
    SourceChanged,
    SourceError,
    StoreError,
    StoreFull,
)

log = logging.getLogger(__name__)

CHUNK_BYTES = 2**20
CHECKED_BYTES = 64 * 2**20
"""Bytes after which the free space is checked again: other downloads fill the disk, too."""
STALLED_SECONDS, STALLED_BYTES = 120, 2**16
"""A connection that receives fewer bytes in this time is replaced by a new one."""
PAUSES_SECONDS = (1, 2, 4, 8, 15, 30)
"""Pauses between tries that receive nothing; a try that receives bytes starts over."""
MAX_PAUSE_SECONDS = 120
"""Upper limit of a server's Retry-After."""


@dataclass(frozen=True)
class RemoteFile:
    """A file to download, with the size and checksum that its inspection found."""

    url: str
    name: str
    """Path below the model's folder, including the folders of its repository."""
    size: int
    sha256: str | None = None
    version: str = ""
    """ETag or Last-Modified at the inspection; shows a change of a file without a checksum."""


class Download:
    """The download of one file into a folder; the caller holds the origin's lock there."""

    def __init__(
        self,
        file: RemoteFile,
        folder: Path,
        headers: Mapping[str, str],
        *,
        origin: str,
        reserve: store.Reserve,
    ) -> None:
        self._file = file
        self._origin = origin
        self._reserve = reserve
        self._headers = headers
        self._path = folder / file.name
        self._partial = store.partial_of(self._path, origin)
        self._name = shown(file.url)
        self._digest = hashlib.sha256()

    def run(self) -> store.Manifest:
        """Download the missing bytes; return the manifest of the finished file.

        Raises `SourceError`, its subclasses, and `StoreError`. A resumed file that fails its
        checksum is downloaded once more before that is an error.
        """
        manifest = store.manifest_of(self._path)
        if manifest and self._file.sha256 in (None, manifest.sha256):
            return manifest
        try:
            store.prepare_partial(self._path, self._origin)
        except OSError as error:
            raise self._disk_error(error) from error
        if not (self._file.sha256 or self._file.version):
            self._partial.unlink(missing_ok=True)  # nothing shows whether it is the same file
        resumed = self._partial.exists()
        try:
            return self._download_once()
        except SourceChanged:
            # The bytes of an earlier process may be damaged, for example after a power cut.
            if not resumed or self._partial.exists():
                raise
            log.warning("checksum differs, downloading once more", extra={"file": self._file.name})
            return self._download_once()

    def _download_once(self) -> store.Manifest:
        try:
            with self._partial.open("a+b") as stream:
                self._digest = _digest_of(stream.fileno())
                self._receive(stream.fileno())
                os.fsync(stream.fileno())
            return self._verify_and_finish()
        except OSError as error:
            raise self._disk_error(error) from error

    def _verify_and_finish(self) -> store.Manifest:
        checksum = self._digest.hexdigest()
        if self._file.sha256 and checksum != self._file.sha256:
            self._partial.unlink()
            raise SourceChanged(
                f"{self._name}: the bytes received have SHA-256 {checksum}, expected"
                f" {self._file.sha256}: the file was changed or damaged on its way"
            )
        manifest = store.Manifest(self._name, checksum, self._file.size, self._file.version)
        store.finish(self._partial, self._path, manifest)
        return manifest

    def _receive(self, target: int) -> None:
        """Request the missing bytes until the file is complete."""
        failures = 0
        with connect() as client:
            while (received_bytes := os.fstat(target).st_size) < self._file.size:
                problem, pause = self._try(client, target, received_bytes)
                now = os.fstat(target).st_size
                if now >= self._file.size:
                    break
                failures = 0 if now > received_bytes else failures + 1
                if failures > len(PAUSES_SECONDS):
                    raise SourceError(problem)
                log.info("trying again", extra={"reason": problem, "bytes": now})
                time.sleep(max(pause, PAUSES_SECONDS[failures - 1] if failures else 0))
        if received_bytes > self._file.size:
            self._partial.unlink()
            raise SourceChanged(
                f"{self._name}: the partial file has {received_bytes} bytes, more than the expected"
                f" {self._file.size}"
            )

    def _try(self, client: httpx.Client, target: int, received_bytes: int) -> tuple[str, float]:
        """Send one request; return why to send another, and the seconds to wait for the server.

        Raises an error that another request cannot fix.
        """
        try:
            self._request_missing(client, target, received_bytes)
        except _TransientError as error:
            return str(error), error.seconds
        except httpx.HTTPError as error:
            return f"{self._name}: {str(error)[:200] or type(error).__name__}", 0.0
        except (ValueError, ImportError, httpx.InvalidURL) as error:
            raise SourceError(f"{self._name}: {str(error)[:200]}") from error
        return f"{self._name}: the connection was cut", 0.0

    def _request_missing(self, client: httpx.Client, target: int, received_bytes: int) -> None:
        """Request all bytes from an offset, and write them to the file."""
        range_headers = {"Range": f"bytes={received_bytes}-"} if received_bytes else {}
        if received_bytes and not self._file.sha256 and self._file.version.startswith('"'):
            range_headers["If-Range"] = self._file.version
        with send(client, self._file.url, self._headers, headers=range_headers) as response:
            self._check_response(response)
            if response.status_code == 206:
                start, size = content_span(self._name, response)
                if size != self._file.size:
                    raise self._changed(f"{size} bytes", f"{self._file.size} bytes")
                if start != received_bytes:
                    raise SourceError(f"{self._name}: the server does not send the range asked for")
            elif received_bytes:
                # The server ignores ranges: start over.
                os.ftruncate(target, 0)
                self._digest, received_bytes = hashlib.sha256(), 0
            self._write_body(response, target, received_bytes)

    def _write_body(self, response: httpx.Response, target: int, received_bytes: int) -> None:
        """Write and hash the received bytes; raises for too many bytes, and for too slow ones."""
        since, then = time.monotonic(), received_bytes
        for part in response.iter_raw():
            received_bytes += len(part)
            if received_bytes > self._file.size:
                raise SourceChanged(
                    f"{self._name}: the server sends more than the expected {self._file.size} bytes"
                )
            if received_bytes // CHECKED_BYTES > (received_bytes - len(part)) // CHECKED_BYTES:
                store.ensure_free_space(self._path.parent, 0, self._reserve)
            left = memoryview(part)
            while left:
                left = left[os.write(target, left) :]
            self._digest.update(part)
            if received_bytes - then >= STALLED_BYTES:
                since, then = time.monotonic(), received_bytes
            elif time.monotonic() - since > STALLED_SECONDS:
                raise _TransientError(
                    f"{self._name}: the download stalled: less than"
                    f" {STALLED_BYTES // 1024} KiB in {STALLED_SECONDS} s"
                )

    def _check_response(self, response: httpx.Response) -> None:
        status = response.status_code
        if status in (408, 429) or status >= 500:
            wait = min(wait_seconds(response), MAX_PAUSE_SECONDS)
            raise _TransientError(str(refusal(self._name, response)), wait)
        if status not in (200, 206):
            raise refusal(self._name, response)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise SourceError(f"{self._name}: the server sends it compressed")
        current = version(response)
        is_comparable = self._file.version and current and not self._file.sha256
        if is_comparable and not same_version(current, self._file.version):
            raise self._changed(current, self._file.version)

    def _changed(self, current: str, expected: str) -> SourceChanged:
        return SourceChanged(
            f"{self._name}: the file is not the one that was inspected: {expected} then,"
            f" {current} now"
        )

    def _disk_error(self, error: OSError) -> StoreError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            missing = self._file.size - store.stored_bytes(self._path, self._origin)
            return StoreFull(store.disk_full_message(self._path.parent, missing, self._reserve))
        return store.unusable(self._partial, error)


class _TransientError(SourceError):
    """An error that another try may not meet; `seconds` is the server's Retry-After."""

    def __init__(self, message: str, seconds: float = 0.0) -> None:
        super().__init__(message)
        self.seconds = seconds


def _digest_of(target: int) -> hashlib._Hash:
    digest, offset = hashlib.sha256(), 0
    while part := os.pread(target, CHUNK_BYTES, offset):
        digest.update(part)
        offset += len(part)
    return digest
