"""A model's server that answers what no server should, or nothing at all."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import brotli

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nConnection: close\r\n"
_LENGTH = 256 * 2**20


def _bomb() -> Iterator[bytes]:
    """A few hundred bytes that unpack to 256 MiB, though nobody asked for compression."""
    yield _HEAD % b"application/json" + b"Content-Encoding: br\r\n\r\n"
    compressor = brotli.Compressor(quality=1)
    for _ in range(_LENGTH // 2**20):
        yield compressor.process(b"[" * 2**20)
    yield compressor.finish()


def _endless_event() -> Iterator[bytes]:
    yield _HEAD % b"text/event-stream" + b"\r\ndata: "
    for _ in range(_LENGTH // 2**16):
        yield b"x" * 2**16


def _endless_object() -> Iterator[bytes]:
    yield _HEAD % b"application/json" + b"\r\n["
    for _ in range(_LENGTH // 2**16):
        yield b"0," * 2**15


def _many_values() -> Iterator[bytes]:
    """Within the limits of bytes, and eighteen times as much in memory."""
    yield _HEAD % b"application/json" + b'\r\n{"data": ['
    for _ in range(60 * 2**20 // 2**16):
        yield b"[]," * (2**16 // 3)
    yield b"[]]}"


def _wide_event() -> Iterator[bytes]:
    yield _HEAD % b"text/event-stream" + b'\r\ndata: {"choices": ['
    for _ in range(15 * 2**20 // 2**16):
        yield b"{}," * (2**16 // 3)
    yield b"{}]}\n\n"


def _nothing() -> Iterator[bytes]:
    """Read no body, and answer nothing for a while."""
    threading.Event().wait(5)
    yield b""


ANSWERS = {
    "bomb": _bomb,
    "endless event": _endless_event,
    "endless object": _endless_object,
    "many values": _many_values,
    "wide event": _wide_event,
    "nothing": _nothing,
}


@contextmanager
def hostile_server(answer: str) -> Iterator[str]:
    """Serve one kind of answer until the block ends; yield the URL."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(2**16)
            with suppress(OSError):
                for piece in ANSWERS[answer]():
                    self.request.sendall(piece)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 100

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
