"""A reverse proxy between an operator and the real API server that breaks what it is told to.

Every fault is one that real clusters show: an API server that restarts, an etcd that compacts, a
load balancer that cuts, a throttled client. Which request gets which fault follows from a seed.
"""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import threading
from collections import Counter
from dataclasses import dataclass, replace

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector, web

from hack.testbed.layout import Layout

_HOP_BY_HOP = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}
_EXPIRED = {
    "type": "ERROR",
    "object": {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": "too old resource version",
        "reason": "Expired",
        "code": 410,
    },
}
_BROKEN = {
    "type": "ERROR",
    "object": {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": "etcdserver: no leader",
        "reason": "InternalError",
        "code": 500,
    },
}


@dataclass(frozen=True)
class Faults:
    """How likely each fault is, from 0 to 1; watches are judged by the event, others by request."""

    error_500: float = 0
    throttled_429: float = 0
    conflict_409: float = 0
    reply_dropped: float = 0
    """The request takes effect, and the client never hears of it."""
    stale_read: float = 0
    """An earlier answer to the same GET or LIST."""
    delay: float = 0
    delay_seconds: float = 0.5
    watch_410: float = 0
    watch_500: float = 0
    watch_eof: float = 0
    """The connection ends at any byte of an event."""
    watch_refused_503: float = 0
    watch_refused_410: float = 0
    """A watch that would resume is told that its version is too old."""


NONE = Faults()
ALL = Faults(
    error_500=0.03,
    throttled_429=0.02,
    conflict_409=0.02,
    reply_dropped=0.03,
    stale_read=0.05,
    delay=0.1,
    watch_410=0.003,
    watch_500=0.001,
    watch_eof=0.003,
    watch_refused_410=0.3,
)


class FaultProxy:
    """Serves on a port of this machine from a thread of its own until it is stopped."""

    def __init__(self, layout: Layout, *, seed: int = 0) -> None:
        self.faults = NONE
        self.injected: Counter[str] = Counter()
        self.events_to_refuse = 0
        """How many of the next Events are answered with 503: a cluster may keep them apart."""
        self._layout = layout
        self._random = random.Random(seed)  # noqa: S311  (a seed, so that a run can be repeated)
        self._remembered: dict[str, tuple[int, bytes]] = {}
        self._watches: set[web.StreamResponse] = set()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        if not self._started.wait(10):
            raise RuntimeError("the fault proxy did not start")

    @property
    def server(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def set(self, **faults: float) -> None:
        """Replace some of the faults."""
        self.faults = replace(self.faults, **faults)

    def cut_watches(self) -> None:
        """End every watch that is open now; `watch_refused_410` decides how they may resume."""
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(20)

    def _serve(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        context = ssl.create_default_context(cafile=self._layout.pki / "ca.crt")
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port: int = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        async with ClientSession(
            connector=TCPConnector(ssl=context, limit=0),
            timeout=ClientTimeout(total=None, sock_connect=5),
        ) as self._session:
            self._started.set()
            await self._end.wait()
            await self._cut()
            await runner.cleanup()

    async def _cut(self) -> None:
        for watch in list(self._watches):
            _hang_up(watch)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        watching = request.query.get("watch") in ("1", "true")
        refusal = self._refusal(request, watching=watching)
        if refusal is not None:
            return refusal
        if self._hits("delay"):
            await asyncio.sleep(self._random.random() * self.faults.delay_seconds)
        body = await request.read()
        headers = {
            key: value for key, value in request.headers.items() if key.lower() not in _HOP_BY_HOP
        }
        url = f"{self._layout.server}{request.raw_path}"
        try:
            async with self._session.request(
                request.method, url, data=body, headers=headers
            ) as answer:
                if watching and answer.status == 200:
                    return await self._relay_watch(request, answer)
                return self._reply(request, answer.status, answer.content_type, await answer.read())
        except (ClientError, OSError):
            return self._drop(request)

    def _refusal(self, request: web.Request, *, watching: bool) -> web.Response | None:
        """Answer in the API server's place, if a fault says so."""
        if watching:
            if self._hits("watch_refused_503"):
                return _status(503, "ServiceUnavailable", "the server is starting")
            resumes = request.query.get("resourceVersion", "0") != "0"
            if resumes and self._hits("watch_refused_410"):
                return _status(410, "Expired", "too old resource version")
            return None
        if self.events_to_refuse and request.method == "POST" and request.path.endswith("/events"):
            self.events_to_refuse -= 1
            return _status(503, "ServiceUnavailable", "no events today")
        return self._refuse_request(writes=request.method != "GET")

    def _refuse_request(self, *, writes: bool) -> web.Response | None:
        if self._hits("error_500"):
            return _status(500, "InternalError", "etcdserver: request timed out")
        if self._hits("throttled_429"):
            return _status(429, "TooManyRequests", "please try again later", retry_after=1)
        if writes and self._hits("conflict_409"):
            return _status(409, "Conflict", "the object has been modified")
        return None

    def _reply(self, request: web.Request, status: int, kind: str, body: bytes) -> web.Response:
        if request.method != "GET":
            if self._hits("reply_dropped"):
                return self._drop(request)
        elif status in (200, 404):
            old = self._remembered.get(request.raw_path)
            self._remembered[request.raw_path] = (status, body)
            if old and "continue=" not in request.raw_path and self._hits("stale_read"):
                self._remembered[request.raw_path] = old
                status, body = old
        return web.Response(status=status, body=body, content_type=kind)

    async def _relay_watch(self, request: web.Request, answer: object) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        self._watches.add(response)
        try:
            async for line in answer.content:  # type: ignore[attr-defined]
                if self._hits("watch_eof"):
                    await response.write(line[: self._random.randrange(len(line))])
                    _hang_up(response)
                    break
                for name, event in (("watch_410", _EXPIRED), ("watch_500", _BROKEN)):
                    if self._hits(name):
                        await response.write(json.dumps(event).encode() + b"\n")
                        return response
                await response.write(line)
        except (ConnectionError, ClientError):
            _hang_up(response)
        finally:
            self._watches.discard(response)
        return response

    def _drop(self, request: web.Request) -> web.Response:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=502)

    def _hits(self, fault: str) -> bool:
        hit = self._random.random() < getattr(self.faults, fault)
        if hit:
            self.injected[fault] += 1
        return hit


def _hang_up(response: web.StreamResponse) -> None:
    request = response._req
    if request is not None and request.transport is not None:
        request.transport.abort()


def _status(code: int, reason: str, message: str, *, retry_after: int = 0) -> web.Response:
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": f"{message} (injected)",
        "reason": reason,
        "code": code,
    }
    headers = {"Retry-After": str(retry_after)} if retry_after else {}
    return web.json_response(body, status=code, headers=headers)
