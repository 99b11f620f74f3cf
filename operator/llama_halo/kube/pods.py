"""HTTP requests to pods by their IP; a failed request returns None instead of raising."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any

import aiohttp

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 2.0
MAX_BYTES = 2**20


@dataclass(frozen=True)
class PodAnswer:
    """A pod's answer: the HTTP status, and the body as JSON (None if it is not JSON)."""

    status: int
    body: Any


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    """Return the body; stop once it is longer than `MAX_BYTES`."""
    text = b""
    async for piece in answer.content.iter_any():
        text += piece
        if len(text) > MAX_BYTES:
            break
    return text


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


class PodClient:
    """A client for all pods; the first request creates its session."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def get(self, address: str, port: int, path: str) -> PodAnswer | None:
        """GET a path; return None without an answer within `TIMEOUT_SECONDS`."""
        return await self._ask("GET", address, port, path, TIMEOUT_SECONDS, None)

    async def post(
        self, address: str, port: int, path: str, body: Any, *, seconds: float
    ) -> PodAnswer | None:
        """POST a JSON body; return None without an answer within `seconds`."""
        return await self._ask("POST", address, port, path, seconds, body)

    async def _ask(
        self, method: str, address: str, port: int, path: str, seconds: float, body: Any
    ) -> PodAnswer | None:
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
                allow_redirects=False,  # a pod must not direct the operator to another address
            ) as answer:
                return PodAnswer(answer.status, _json(await _read(answer)))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            log.debug("pod does not answer", extra={"address": address, "reason": repr(error)})
            return None

    async def close(self) -> None:
        """End all connections."""
        if self._session is not None:
            await self._session.close()
