"""A TCP proxy in front of a server, which tests close and open again as a network or a pod does."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

from hack.testbed.ports import free_port


class TcpProxy:
    """Listens on a port of loopback while it is open; closed, it refuses connections and has ended
    those that it had."""

    def __init__(self, host: str, port: int) -> None:
        self.port = free_port()
        self._target = (host, port)
        self._listener: socket.socket | None = None
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()

    def open(self) -> None:
        listener = socket.create_server(("127.0.0.1", self.port))
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def close(self) -> None:
        listener, self._listener = self._listener, None
        if listener:
            _end(listener)
        with self._lock:
            connections = self._connections.copy()
            self._connections.clear()
        for connection in connections:
            _end(connection)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
                server = socket.create_connection(self._target)
            except OSError:
                return
            with self._lock:
                self._connections |= {client, server}
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._copy, args=(source, target), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with self._lock:
            self._connections -= {source, target}
        _end(source)
        _end(target)


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@contextlib.contextmanager
def opened_proxy(host: str, port: int) -> Iterator[TcpProxy]:
    """Yield an open proxy; close it in the end."""
    proxy = TcpProxy(host, port)
    proxy.open()
    try:
        yield proxy
    finally:
        proxy.close()
