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
    """What a pod said: an HTTP status, and JSON (None: it was none)."""

    status: int
    body: Any


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    """Return a whole body, or as much of it as is too much."""
    text = b""
    async for piece in answer.content.iter_any():
        text += piece
        if len(text) > MOST_BYTES:
            break
    return text


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


class PodClient:
    """One client for all pods; made when it is first used."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def get(self, address: str, port: int, path: str) -> Answer | None:
        """Return a page, None when there is no answer within two seconds."""
        return await self._ask("GET", address, port, path, TIMEOUT_SECONDS, None)

    async def post(
        self, address: str, port: int, path: str, body: Any, *, seconds: float
    ) -> Answer | None:
        """Post an object and return the answer, None when there is none in time."""
        return await self._ask("POST", address, port, path, seconds, body)

    async def _ask(
        self, method: str, address: str, port: int, path: str, seconds: float, body: Any
    ) -> Answer | None:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        host = f"[{address}]" if ":" in address else address
        url, timeout = f"http://{host}:{port}{path}", aiohttp.ClientTimeout(total=seconds)
        try:
            async with self._session.request(
                method,
                url,
                json=body,
                timeout=timeout,
                allow_redirects=False,  # a pod says for itself, and sends nobody elsewhere
            ) as answer:
                return Answer(answer.status, _json(await _read(answer)))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            log.debug("pod does not answer", extra={"address": address, "reason": repr(error)})
            return None

    async def close(self) -> None:
        """End all connections."""
        if self._session is not None:
            await self._session.close()
