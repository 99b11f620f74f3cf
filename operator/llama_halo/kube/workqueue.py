"""A work queue: it coalesces keys, gives a key to one worker at a time, and delays keys.

A key that is added while a worker handles it is handled again afterwards. `Queue.work` catches
every exception of a handler, logs it, and retries the key with backoff and jitter.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable

from llama_halo.kube.cache import Key

log = logging.getLogger(__name__)

RECONCILE_TIMEOUT_SECONDS = 60
BACKOFF_FIRST_SECONDS = 0.5
BACKOFF_MAX_SECONDS = 60.0

Handler = Callable[[Key], Awaitable[float | None]]
"""Handles a key; returns the seconds until it wants to be called again, or None."""


class Queue:
    """Keys to reconcile, each at most once at a time."""

    def __init__(
        self,
        work: str = "reconcile",
        *,
        timeout_seconds: float = RECONCILE_TIMEOUT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        on_failure: Callable[[Key], None] = lambda _: None,
    ) -> None:
        """Create an empty queue; `work` names what its handler does, for the log.

        `on_failure` is called with each key whose handler raised.
        """
        self._work = work
        self._timeout_seconds = timeout_seconds
        self._on_failure = on_failure
        self._clock = clock
        self._ready: deque[Key] = deque()
        self._since: dict[Key, float] = {}
        self._busy: set[Key] = set()
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._wakeup = asyncio.Event()
        self.paused = False
        self._moved_at = self._clock()

    @property
    def depth(self) -> int:
        return len(self._ready)

    @property
    def oldest_seconds(self) -> float:
        """Return how long the oldest waiting key has waited, 0 when none waits."""
        first = min(self._since.values(), default=None)
        return 0.0 if first is None else self._clock() - first

    @property
    def stuck_seconds(self) -> float:
        """Return for how long keys have waited while no worker took one; 0 while paused."""
        return self._clock() - self._moved_at if self._ready and not self.paused else 0.0

    def add(self, key: Key, *, after_seconds: float = 0.0) -> None:
        """Enqueue a key, now or after a delay.

        An add without a delay cancels a pending one; of two delays the earlier wins.
        """
        if after_seconds > 0:
            self._add_later(key, after_seconds)
            return
        timer = self._timers.pop(key, None)
        if timer:
            timer.cancel()
        if key in self._busy:
            self._again.add(key)
        elif key not in self._since:
            if not self._ready:
                self._moved_at = self._clock()
            self._since[key] = self._clock()
            self._ready.append(key)
            self._wakeup.set()

    def retry_failed(self) -> None:
        """Enqueue the failed keys now instead of after their backoff."""
        for key in self._failures.keys() & self._timers.keys():
            self.add(key)

    def forget(self, key: Key) -> None:
        """Drop a key's failure count and its pending delay."""
        self._failures.pop(key, None)
        timer = self._timers.pop(key, None)
        if timer:
            timer.cancel()

    async def work(self, handler: Handler) -> None:
        """Take keys and handle them, for ever; each worker is a task that runs this."""
        while True:
            key = await self._take()
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    requeue_after = await handler(key)
            except Exception as error:
                self._failed(key, error)
            else:
                self._failures.pop(key, None)
                if requeue_after is not None:
                    self.add(key, after_seconds=requeue_after * random.uniform(1.0, 1.1))  # noqa: S311
            finally:
                self._busy.discard(key)
                if key in self._again:
                    self._again.discard(key)
                    self.add(key)

    def resume(self) -> None:
        """Let workers take keys again."""
        self.paused = False
        self._moved_at = self._clock()
        self._wakeup.set()

    async def _take(self) -> Key:
        while self.paused or not self._ready:
            self._wakeup.clear()
            await self._wakeup.wait()
        key = self._ready.popleft()
        self._since.pop(key, None)
        self._busy.add(key)
        self._moved_at = self._clock()
        return key

    def _add_later(self, key: Key, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer and timer.when() <= loop.time() + seconds:
            return
        if timer:
            timer.cancel()
        self._timers[key] = loop.call_later(seconds, self._due, key)

    def _due(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.add(key)

    def _failed(self, key: Key, error: Exception) -> None:
        self._on_failure(key)
        count = self._failures.get(key, 0) + 1
        self._failures[key] = count
        delay = min(BACKOFF_FIRST_SECONDS * 2 ** min(count - 1, 10), BACKOFF_MAX_SECONDS)
        delay *= random.uniform(0.8, 1.2)  # noqa: S311  (jitter, not security)
        log.error(
            f"{self._work} failed",
            extra={"key": str(key), "attempt": count, "retry_seconds": round(delay, 1)},
            exc_info=error,
        )
        self.add(key, after_seconds=delay)
