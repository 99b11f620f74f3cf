"""Asks pods of ours how they are, by their own address; whatever goes wrong is no answer."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any

import aiohttp

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 2.0
MOST_BYTES = 2**20


@dataclass(frozen=True)
class Answer:
    """What a pod said: an HTTP status, and JSON with 200."""

    status: int
    body: Any


class PodClient:
    """One client for all pods; made when it is first used."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def get(self, address: str, port: int, path: str) -> Answer | None:
        """Return a page, None when there is no answer within two seconds."""
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
            self._session = aiohttp.ClientSession(timeout=timeout)
        host = f"[{address}]" if ":" in address else address
        try:
            async with self._session.get(f"http://{host}:{port}{path}") as answer:
                text = await answer.content.read(MOST_BYTES)
                return Answer(answer.status, json.loads(text) if answer.status == 200 else None)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            log.debug("pod does not answer", extra={"address": address, "reason": repr(error)})
            return None

    async def close(self) -> None:
        """End all connections."""
        if self._session is not None:
            await self._session.close()
