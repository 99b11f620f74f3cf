"""A stream of a router that a test reads in the background."""

from __future__ import annotations

import threading
import time

import httpx

from tests.support.kubectl import (
    Json,
)


class Stream:
    """A stream that is read in the background, until it ends or is left."""

    def __init__(self, url: str, body: Json) -> None:
        self.lines: list[str] = []
        self.seconds = 0.0
        self.error: Exception | None = None
        self._url, self._body = url, body
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Stream:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._thread.join(timeout=120)
        assert self.error is None, f"the stream was cut: {self.error!r}"

    def _read(self) -> None:
        started = time.monotonic()
        url = f"{self._url}/v1/messages"
        try:
            with httpx.stream("POST", url, json=self._body, timeout=60) as answer:
                for line in answer.iter_lines():
                    self.lines.append(line)
                    self.seconds = time.monotonic() - started
                    if self._left.is_set():
                        return
            self.error = EOFError(f"it ended after {self.seconds:.0f} s: {self.lines[-3:]}")
        except httpx.HTTPError as error:
            self.error = error
