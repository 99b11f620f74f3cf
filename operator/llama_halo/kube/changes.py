"""Changes of the cache that nobody has acted on yet.

The cache's listener only adds to a `ChangeFeed`: nothing that can fail runs inside a watch or a
write. Whoever depends on the changes drains the feed first; a task drains it when nobody does. A
change that cannot be handled is logged with its key, and the others go on.
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
    """What happened to one object, whatever it is by now."""

    key: Key
    owners: frozenset[Key] = frozenset()
    """The resources that it belongs to, and belonged to before."""
    is_own_write: bool = False
    """Only replies to our own writes are in it: who wrote knows."""


class ChangeFeed:
    """Changed keys in order of their first change, each once."""

    def __init__(self, handle: Callable[[Change], None]) -> None:
        self._handle = handle
        self._pending: dict[Key, Change] = {}
        self._added = asyncio.Event()
        self._draining = False

    def add(self, change: Change) -> None:
        """Take in a change; several of one object become one."""
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
        """Handle every pending change; a handler that drains again handles nothing."""
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
        """Drain whenever something was added, for ever."""
        while True:
            await self._added.wait()
            self._added.clear()
            self.drain()
