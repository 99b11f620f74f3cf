"""Changes of the cache that have not been handled yet.

The cache's listener only adds to a `ChangeFeed`, so nothing that can fail runs inside a watch or a
write. Code that depends on the changes drains the feed first; otherwise a background task drains
it. A change whose handler fails is logged with its key, and the next ones are still handled.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from llama_halo.kube.cache import Key

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Change:
    """A change of one object; the object's current version is in the cache."""

    key: Key
    owners: frozenset[Key] = frozenset()
    """The resources that own it now, and those that owned it before."""
    is_own_write: bool = False
    """Whether it is, or consists only of, replies to our own writes."""


class ChangeFeed:
    """Changed keys in order of their first change, each once."""

    def __init__(self, handle: Callable[[Change], None]) -> None:
        self._handle = handle
        self._pending: dict[Key, Change] = {}
        self._added = asyncio.Event()
        self._draining = False

    def add(self, change: Change) -> None:
        """Add a change; merge it with a pending change of the same object."""
        earlier = self._pending.get(change.key)
        if earlier:
            change = replace(
                change,
                owners=earlier.owners | change.owners,
                is_own_write=earlier.is_own_write and change.is_own_write,
            )
        self._pending[change.key] = change
        self._added.set()

    def drain(self) -> None:
        """Handle every pending change; a nested call from a handler does nothing."""
        if self._draining:
            return
        self._draining = True
        try:
            while self._pending:
                key = next(iter(self._pending))
                change = self._pending.pop(key)
                try:
                    self._handle(change)
                except Exception:
                    log.exception("change not handled", extra={"key": str(key)})
        finally:
            self._draining = False

    async def run(self) -> None:
        """Drain the feed after each addition, for ever."""
        while True:
            await self._added.wait()
            self._added.clear()
            self.drain()
