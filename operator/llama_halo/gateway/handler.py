"""Wraps every endpoint of every API: keys, limits, error mapping, and the access log.

`app` wraps each endpoint with `RequestHandler.wrap`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from llama_halo.gateway.apis.client_api import Api
from llama_halo.gateway.auth import Keys
from llama_halo.gateway.http import bodies
from llama_halo.gateway.http.errors import Failure, internal_error, shutting_down
from llama_halo.gateway.metrics import GatewayMetrics
from llama_halo.gateway.request_record import RequestRecord
from llama_halo.gateway.routing.clients import client_of

log = logging.getLogger(__name__)

MAX_REQUESTS = 4096
"""Requests in flight, including open streams and held requests."""
MAX_NAME_CHARACTERS, MAX_PATH_CHARACTERS = 100, 100
"""Characters of the requested model's name, and of the path, that the log keeps."""
Endpoint = Callable[[web.Request, RequestRecord], Awaitable[web.StreamResponse]]


class RequestHandler:
    """The requests in flight, and the limits that they share."""

    def __init__(self, keys: Keys, metrics: GatewayMetrics) -> None:
        self._keys = keys
        self._metrics = metrics
        self._records: dict[str, RequestRecord] = {}
        """By request id."""
        self._body_bytes = 0
        self.draining = False
        """When True, readiness fails and keep-alive connections close after their next response."""
        self.idle = asyncio.Event()
        self.idle.set()

    @property
    def in_flight(self) -> int:
        return len(self._records)

    def others(self, record: RequestRecord) -> list[RequestRecord]:
        """Return all requests in flight but one."""
        return [other for other in self._records.values() if other is not record]

    def abort(self) -> None:
        """End every open request; each client gets an error."""
        for record in self._records.values():
            record.aborted = True
            if record.task:
                record.task.cancel()

    def wrap(
        self, api: Api, endpoint: Endpoint
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Return an aiohttp handler that runs an endpoint of one API."""

        async def handler(request: web.Request) -> web.StreamResponse:
            if request.method == "OPTIONS":
                return self._preflight(request)
            record = RequestRecord(api, client_of(request.headers), task=asyncio.current_task())
            status = 499  # the client went away, unless a response sets another status
            self._enter(record)
            try:
                record.key = self._keys.check(request.headers)
                if not self._keys.required:
                    check_origin(request)
                self._check_limits(request)
                response = await endpoint(request, record)
                status = response.status
                return response
            except asyncio.CancelledError:
                if not record.aborted:
                    raise
                record.failure = shutting_down()
                return _error_response(record.failure, record)
            except ConnectionResetError:
                raise asyncio.CancelledError from None  # the client went away while we wrote
            except Exception as error:
                record.failure = _failure_of(error, record)
                return _error_response(record.failure, record)
            finally:
                self._leave(record)
                self._log_request(record, request.path, status)
                record.failure = record.task = None  # breaks a reference cycle: collection is rare

        return handler

    def body_counter(self, record: RequestRecord) -> Callable[[int], None]:
        """Return a callback that counts body bytes; it raises `Failure` (429) when all bodies
        together exceed the limit, unless this one is small."""

        def count(size: int) -> None:
            self._body_bytes += size
            record.body_bytes += size
            is_small = record.body_bytes <= bodies.SMALL_BYTES
            if self._body_bytes > bodies.MAX_TOTAL_BYTES and not is_small:
                raise Failure(
                    429, "too many large request bodies at once: retry later", retry_after_seconds=5
                )

        return count

    async def prepare_response(self, _: web.Request, response: web.StreamResponse) -> None:
        """Close keep-alive connections while draining, and set the CORS headers.

        Pages of any origin may read responses only if the router requires a key.
        """
        if self.draining:
            response.force_close()
        if self._keys.required:
            response.headers["Access-Control-Allow-Origin"] = "*"
            response.headers["Access-Control-Expose-Headers"] = (
                "request-id, x-model, x-omitted, x-route"
            )

    def _check_limits(self, request: web.Request) -> None:
        """Raise `Failure` for too many requests in flight, or a Content-Length above the limit."""
        if self.in_flight > MAX_REQUESTS:
            raise Failure(429, "too many requests at once: retry later", retry_after_seconds=5)
        if (request.content_length or 0) > bodies.MAX_BODY_BYTES:
            raise bodies.too_large()

    def _enter(self, record: RequestRecord) -> None:
        self._records[record.request_id] = record
        self._metrics.in_flight.inc()
        self.idle.clear()

    def _leave(self, record: RequestRecord) -> None:
        del self._records[record.request_id]
        self._body_bytes -= record.body_bytes
        self._metrics.in_flight.dec()
        if not self.in_flight:
            self.idle.set()

    def _preflight(self, request: web.Request) -> web.StreamResponse:
        """Answer a CORS preflight request."""
        allowed = {
            "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
            "Access-Control-Allow-Headers": request.headers.get(
                "Access-Control-Request-Headers", "authorization, content-type, x-api-key"
            ),
            "Access-Control-Max-Age": "86400",
        }
        methods = {"Allow": "GET, HEAD, POST, OPTIONS"}
        return web.Response(status=204, headers=methods | (allowed if self._keys.required else {}))

    def _log_request(self, record: RequestRecord, path: str, status: int) -> None:
        model = record.target.name if record.target else ""
        route = record.target.route if record.target else ""
        failure = record.failure
        status = failure.status if failure else status
        self._metrics.record_request(record, model, route, status)
        log.info(
            "request",
            extra={
                "path": path[:MAX_PATH_CHARACTERS],
                "api": record.api.name,
                "client": record.client,
                "requested_model": record.requested_model[:MAX_NAME_CHARACTERS],
                "model": model,
                "route": route,
                "status": status,
                "request_id": record.request_id,
                **({"error": failure.log_message, "code": failure.code} if failure else {}),
                "duration_ms": round((time.monotonic() - record.started) * 1000, 1),
                "first_byte_ms": record.first_byte_seconds
                and round(record.first_byte_seconds * 1000, 1),
                "prompt_tokens": record.usage.prompt,
                "cached_tokens": record.usage.cached,
                "answer_tokens": record.usage.answer,
            },
        )


def check_origin(request: web.Request) -> None:
    """Raise `Failure` (403) for a request that a browser sends for another site's page.

    A page may send simple requests anywhere, and without keys nothing else stops it. A page whose
    own name resolves to the router (DNS rebinding) passes: only keys stop that.
    """
    origin, site = request.headers.get("Origin", ""), request.headers.get("Sec-Fetch-Site")
    if site in ("same-origin", "none"):
        return  # the browser says so, also where a proxy in between changed the Host
    is_web = origin == "null" or origin.startswith(("http://", "https://"))
    hosts = (request.host, request.headers.get("X-Forwarded-Host"))
    is_foreign = is_web and origin.partition("://")[2] not in hosts
    if is_foreign or (site == "cross-site" and not origin):
        raise Failure(
            403,
            "this router has no keys, so it answers no page of another site: set spec.auth on the"
            " ModelRouter, or use the router's own address",
        )


def _failure_of(error: Exception, record: RequestRecord) -> Failure:
    """Return the failure to report to the client for an exception."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return bodies.too_large()
    if isinstance(error, web.HTTPException):
        return Failure(error.status, error.reason)
    if isinstance(error, RecursionError):
        return Failure(400, "the request is nested too deeply")
    return internal_error(error, record.request_id)


def _error_response(failure: Failure, record: RequestRecord) -> web.Response:
    return web.json_response(
        record.api.error(failure, record.request_id),
        status=failure.status,
        headers={**record.headers(), **failure.headers},
    )
