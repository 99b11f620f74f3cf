"""Downloads a model's files into the store, and serves the progress."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from llama_halo.artifacts import store
from llama_halo.artifacts.download import Download, RemoteFile
from llama_halo.artifacts.inspect import combined_checksum
from llama_halo.errors import StoreError

Json = dict[str, Any]
SAMPLE_SECONDS = 1.0
SAMPLES = 15


def fetch(
    root: Path,
    folder: str,
    files: Sequence[RemoteFile],
    headers: Mapping[str, str],
    *,
    namespace: str,
    reserve: store.Reserve,
) -> Json:
    """Download the missing files; return the size and checksum of all.

    A second process of the same namespace for the same source waits for the first, and then finds
    the files complete. Other processes for the folder do not wait.
    """
    if not root.is_dir():
        raise StoreError(
            f"the store {root} is not a directory: mount it, or name another with --store"
        )
    target = root / folder
    origin = store.origin_of(namespace, files[0].url)
    with store.locked(target, origin):
        missing = sum(
            max(file.size - store.stored_bytes(target / file.name, origin), 0) for file in files
        )
        store.ensure_free_space(root, missing, reserve)
        manifests = [
            Download(file, target, headers, origin=origin, reserve=reserve).run() for file in files
        ]
    return {
        "bytes": sum(manifest.bytes for manifest in manifests),
        "sha256": combined_checksum([e.sha256 for e in manifests]),
    }


class Progress:
    """The bytes of the files on disk, whichever process of the origin downloads them, and their
    rate."""

    def __init__(self, target: Path, files: Sequence[RemoteFile], namespace: str) -> None:
        self._origin = store.origin_of(namespace, files[0].url)
        self._paths = [target / file.name for file in files]
        self._total = sum(file.size for file in files)
        self._samples: deque[tuple[float, int]] = deque(maxlen=SAMPLES)

    def sample(self) -> None:
        """Measure the bytes on disk."""
        on_disk = sum(store.stored_bytes(path, self._origin) for path in self._paths)
        self._samples.append((time.monotonic(), on_disk))

    def to_json(self) -> Json:
        """Return the progress, with rate and remaining time while bytes arrive."""
        self.sample()
        (start, first), (end, last) = self._samples[0], self._samples[-1]
        rate = int((last - first) / (end - start)) if end > start else 0
        progress = {"bytes": last, "totalBytes": self._total}
        if rate > 0:
            progress["bytesPerSecond"] = rate
            progress["remainingSeconds"] = max(self._total - last, 0) // rate
        return progress


@contextmanager
def served(progress: Progress, port: int, path: str) -> Iterator[int]:
    """Serve the progress at a path within the context; yields the port."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            is_progress = self.path == path
            body = json.dumps(progress.to_json()).encode() if is_progress else b""
            self.send_response(200 if is_progress else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("", port), Handler)
    server.daemon_threads = True
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            progress.sample()

    threads = [threading.Thread(target=target) for target in (server.serve_forever, watch)]
    for thread in threads:
        thread.start()
    try:
        yield server.server_port
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        for thread in threads:
            thread.join()
