"""A small Hub: the routes of the real one that downloads use, with files from a folder."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Hub:
    """Serves `/OWNER/REPO/resolve/REVISION/FILE` by a redirect to `/cdn/FILE`, as the Hub does."""

    folder: Path
    token: str = ""
    """Asked for when it is not empty."""
    ranges: bool = True
    fails_with: int = 0
    shifts: int = 0
    """By how much the range that is sent lies beside the one that was asked for."""
    encoding: str = ""
    endless: bool = False
    sent_bytes: int = 0
    asked: list[str] = field(default_factory=list)
    url: str = ""


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Serve a Hub on loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            hub.asked.append(self.path)
            if hub.fails_with:
                return self._answer(hub.fails_with)
            if "/resolve/" in self.path:
                if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
                    return self._answer(401)
                return self._answer(302, Location="/cdn/" + self.path.rpartition("/")[2])
            path = hub.folder / self.path.rpartition("/")[2]
            return self._send(path) if path.is_file() else self._answer(404)

        def _send(self, path: Path) -> None:
            data, asked = path.read_bytes(), self.headers.get("Range", "")
            if not (asked and hub.ranges):
                hub.sent_bytes += len(data)
                return self._answer(200, data)
            first, _, last = asked.removeprefix("bytes=").partition("-")
            if int(first) >= len(data):
                return self._answer(416)
            part = data[int(first) : int(last) + 1]
            hub.sent_bytes += len(part)
            start = int(first) + hub.shifts
            headers = {"Content-Range": f"bytes {start}-{start + len(part) - 1}/{len(data)}"}
            if hub.encoding:
                headers["Content-Encoding"] = hub.encoding
            if hub.endless:
                return self._send_for_ever(headers)
            return self._answer(206, part, **headers)

        def _send_for_ever(self, headers: dict[str, str]) -> None:
            self.send_response(206)
            for name, value in {**headers, "Connection": "close"}.items():
                self.send_header(name, value)
            self.end_headers()
            self.close_connection = True
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(bytes(2**16))

        def _answer(self, status: int, data: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
