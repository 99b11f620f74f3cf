"""A small Hub: the real one's routes that llama-halo uses, with files from a folder, and faults."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34
Json = Any


@dataclass
class Hub:
    """Serves every repository from one folder, or from the folder of a commit inside it.

    `/OWNER/REPO/resolve/REVISION/FILE` is a redirect to `/cdn/…`, as on the Hub; `/plain/FILE` is
    a file on an ordinary web server.
    """

    folder: Path
    token: str = ""
    """Asked for when it is not empty."""
    revisions: dict[str, str] = field(default_factory=lambda: {"main": COMMIT})
    """Branches and tags, and the commit that each is at."""
    paths_info: bool = True
    """Whether it has the route `paths-info`; mirrors may have `tree` alone."""
    page_files: int = 1000
    """Files in one page of `tree`."""
    moved: int = 0
    """The status of a redirect to the same path below `/moved`, for every request of the API."""
    weak: bool = False
    """Whether the ETags of files are marked as weak."""
    error_code: str = ""
    """The Hub's X-Error-Code, with `fails_with`."""
    ranges: bool = True
    etags: bool = True
    fails_with: int = 0
    fails_next: list[int] = field(default_factory=list)
    """For one request to the files each."""
    retry_after: str = ""
    shifts: int = 0
    """By how much the range that is sent lies beside the one that was asked for."""
    encoding: str = ""
    endless: bool = False
    cut_after: int = 0
    """Bytes of each answer, after which the connection is cut."""
    bytes_per_second: int = 0
    stop_at: int | None = None
    """The place in a file from which on nothing is sent for now."""
    flips: bool = False
    """Sends one byte wrong."""
    sent_bytes: int = 0
    asked: list[str] = field(default_factory=list)
    authorized: list[str] = field(default_factory=list)
    """Paths that came with an Authorization header."""
    keyed: list[str] = field(default_factory=list)
    """Paths that came with an X-Key header."""
    address: str = "127.0.0.1"
    url: str = ""

    def path_of(self, commit: str, file: str) -> Path:
        of_commit = self.folder / commit
        return (of_commit if of_commit.is_dir() else self.folder) / file


@lru_cache(maxsize=256)
def _sha256(path: Path, _size: int, _modified: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sha256_of(path: Path) -> str:
    value = path.stat()
    return _sha256(path, value.st_size, value.st_mtime_ns)


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Serve a Hub on loopback, or on the address it names."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer((hub.address, 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    hub.url = f"http://{hub.address}:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_GET(self) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        hub.asked.append(self.path)
        if "Authorization" in self.headers:
            hub.authorized.append(path)
        if "X-Key" in self.headers:
            hub.keyed.append(path)
        if hub.fails_with:
            code = {"X-Error-Code": hub.error_code} if hub.error_code else {}
            limited = {"RateLimit": '"api";r=0;t=55'} if hub.fails_with == 429 else {}
            return self._answer(hub.fails_with, **code, **limited)
        if hub.moved and path.startswith("/api/"):
            return self._answer(hub.moved, Location=f"/moved{self.path}")
        if path.removeprefix("/moved").startswith("/api/models/"):
            return self._allowed() and self._api(path.removeprefix("/moved"))
        if "/resolve/" in path:
            return self._allowed() and self._resolve(path)
        if path.startswith("/elsewhere/"):
            host = hub.url.replace("127.0.0.1", "localhost")
            return self._answer(302, Location=f"{host}/plain/{path.removeprefix('/elsewhere/')}")
        return self._file(path)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self.body = json.loads(self.rfile.read(length) or b"{}")
        self.do_GET()

    def _allowed(self) -> bool:
        if self.hub.token and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self._answer(401, **{"X-Error-Code": "RepoNotFound"})
            return False
        return True

    def _commit(self, revision: str) -> str:
        commits = self.hub.revisions
        return revision if revision in commits.values() else commits.get(revision, "")

    def _api(self, path: str) -> None:
        if "/tree/" in path:
            return self._tree(path.partition("/tree/")[2])
        description, revision = path.rsplit("/", 1)
        if not self.hub.paths_info and description.endswith("/paths-info"):
            return self._answer(404)
        commit = self._commit(revision)
        if not commit:
            return self._answer(404, **{"X-Error-Code": "RevisionNotFound"})
        if description.endswith("/revision"):
            return self._json({"id": description, "sha": commit})
        if self.command != "POST":
            return self._answer(405)
        return self._listed(commit, self.body["paths"])

    def _tree(self, place: str) -> None:
        """List one folder, as many files a page as the Hub is told."""
        revision, _, folder = place.partition("/")
        commit = self._commit(revision)
        root = self.hub.path_of(commit, "")
        names = sorted(
            str(path.relative_to(root)) for path in (root / folder).glob("*") if path.is_file()
        )
        start = int(parse_qs(urlsplit(self.path).query).get("cursor", ["0"])[0])
        end = start + self.hub.page_files
        following = f'<https://hub.invalid/any?cursor={end}>; rel="next"'
        links = {"Link": following} if end < len(names) else {}
        self._listed(commit, names[start:end], **links)

    def _listed(self, commit: str, names: list[str], **headers: str) -> None:
        value = [(name, self.hub.path_of(commit, name)) for name in names]
        entries = [
            {
                "type": "file",
                "path": name,
                "size": file.stat().st_size,
                "oid": "0" * 40,
                "lfs": {
                    "oid": sha256_of(file),
                    "size": file.stat().st_size,
                    "pointerSize": 135,
                },
            }
            for name, file in value
            if file.is_file()
        ]
        self._answer(200, json.dumps(entries).encode(), **headers)

    def _resolve(self, path: str) -> None:
        revision, _, file = path.partition("/resolve/")[2].partition("/")
        commit = self._commit(revision)
        if not commit:
            return self._answer(404, **{"X-Error-Code": "RevisionNotFound"})
        if not self.hub.path_of(commit, file).is_file():
            return self._answer(404, **{"X-Error-Code": "EntryNotFound"})
        # Another host in the browser's sense, as the Hub's is: credentials must not follow.
        host = self.hub.url.replace("127.0.0.1", "localhost")
        return self._answer(302, Location=f"{host}/cdn/{commit}/{file}")

    def _file(self, path: str) -> None:
        where, _, file = path.strip("/").partition("/")
        commit, _, rest = file.partition("/")
        value = self.hub.path_of(commit, rest) if where == "cdn" else self.hub.folder / file
        if self.hub.fails_next:
            extra = {"Retry-After": self.hub.retry_after} if self.hub.retry_after else {}
            return self._answer(self.hub.fails_next.pop(0), **extra)
        return self._send(value) if value.is_file() else self._answer(404)

    def _send(self, path: Path) -> None:
        hub, size = self.hub, path.stat().st_size
        asked = self.headers.get("Range", "")
        weak = "W/" if hub.weak else ""
        headers = {"ETag": f'{weak}"{sha256_of(path)}"'} if hub.etags else {}
        if hub.encoding:
            headers["Content-Encoding"] = hub.encoding
        if not (asked and hub.ranges):
            return self._stream(200, path, 0, size, headers)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last or size - 1) + 1, size)
        if start >= size:
            return self._answer(416)
        shifted = start + hub.shifts
        headers["Content-Range"] = f"bytes {shifted}-{shifted + end - start - 1}/{size}"
        if hub.endless:
            return self._send_for_ever(headers)
        return self._stream(206, path, start, end, headers)

    def _stream(self, status: int, path: Path, start: int, end: int, headers: Json) -> None:
        hub = self.hub
        self._head(status, {**headers, "Content-Length": str(end - start)})
        sent, began = 0, time.monotonic()
        with path.open("rb") as file, contextlib.suppress(OSError):
            file.seek(start)
            while part := file.read(min(2**16, end - start - sent)):
                if hub.flips and start + sent == 0 and end - start > 1:
                    part = part[:-1] + bytes([part[-1] ^ 1])
                while hub.stop_at is not None and start + sent >= hub.stop_at:
                    time.sleep(0.01)
                self.wfile.write(part)
                sent += len(part)
                hub.sent_bytes += len(part)
                if hub.cut_after and sent >= hub.cut_after:
                    self.close_connection = True
                    return
                if hub.bytes_per_second:
                    time.sleep(max(sent / hub.bytes_per_second - time.monotonic() + began, 0))

    def _send_for_ever(self, headers: Json) -> None:
        self._head(206, {**headers, "Connection": "close"})
        self.close_connection = True
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(bytes(2**16))

    def _json(self, value: Json) -> None:
        self._answer(200, json.dumps(value).encode())

    def _answer(self, status: int, data: bytes = b"", **headers: str) -> None:
        self._head(status, {**headers, "Content-Length": str(len(data))})
        self.wfile.write(data)

    def _head(self, status: int, headers: Json) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return
