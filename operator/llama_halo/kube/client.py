"""The client of the API server: plain JSON requests through the official Kubernetes client.

The official client handles configuration, TLS and tokens. Its typed models are not used: they cost
30 MB of memory, and the operator works on plain objects.
"""

from __future__ import annotations

import json
import logging
import os
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import yaml
from kubernetes.aio import client, config

from llama_halo.api_server import CutObject, certificate_problem, entry_of, parse_object
from llama_halo.errors import (
    CertificateRefused,
    ClusterError,
    Conflict,
    Gone,
    MalformedAnswer,
    NotFound,
    StartupError,
)
from llama_halo.kube.metadata import listed_object, version_of
from llama_halo.kube.object_size import bounded, without_spec
from llama_halo.kube.protocol import Json
from llama_halo.kube.resources import METADATA_ONLY, OWNERS, Resource
from llama_halo.kube.shared_strings import share_strings
from llama_halo.list_page import ListPage
from llama_halo.nested_json import is_cut

log = logging.getLogger(__name__)

CHUNK = 500
MAX_REJECTIONS = 1000
TIMEOUT_SECONDS = 30
WATCH_SECONDS = 150
"""How long the server keeps a watch open; the next watch resumes at its last resourceVersion."""
# A connection that stays silent past the end of its watch is dead. Bookmarks would show that
# sooner, but not every API server sends them for kinds without changes.
_WATCH_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=WATCH_SECONDS + 15)
REQUEST_ERRORS = (aiohttp.ClientError, OSError, MalformedAnswer)
"""Raised by a request that gets no answer, or one that is cut off or malformed. An error status
raises `ClusterError` instead."""
_METADATA = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"
_APPLY, _MERGE = "application/apply-patch+yaml", "application/merge-patch+json"
_MODEL_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=1800)
"""For requests to a model: loading it, or reading a long prompt, may take minutes."""
_PROXIED = ":http/proxy"


class KubeClient:
    """A client of the API server that the environment names; create it with `connect`."""

    def __init__(self, api: Any) -> None:
        self._api = api
        self.on_rejected: Callable[[str], None] = lambda _: None
        """Called with the kind of each object that cannot be read."""
        self._rejections: dict[tuple[str, str, str], None] = {}
        """The rejections that were logged: kind, object, reason."""

    @classmethod
    async def connect(cls) -> KubeClient:
        """Connect with KUBECONFIG if it is set, else the pod's service account or ~/.kube/config.

        Raises `StartupError` when the configuration cannot be read.
        """
        configuration = client.Configuration()
        # One watch for each kind and namespace is always open, so the connections are not limited.
        configuration.connection_pool_maxsize = 0
        # With trust_env, aiohttp reads ~/.netrc and the proxy variables in a thread for every
        # request. That took a quarter of the operator's CPU time.
        configuration.client_session_kwargs = {
            "trust_env": False,
            "middlewares": (_send_proxied_body_in_chunks,),
        }
        try:
            await _load(configuration)
        except _CONFIG_ERRORS as error:
            raise StartupError(
                f"the cluster configuration cannot be read ({error}): run in a pod with"
                " a service account, or set KUBECONFIG"
            ) from error
        return cls(client.ApiClient(configuration))

    async def close(self) -> None:
        await self._api.close()

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Json:
        return await self._request("GET", resource.path(namespace, name))

    async def list(
        self, resource: Resource, *, namespace: str | None, selector: str = "", fields: str = ""
    ) -> tuple[list[Json], int]:
        objects: list[Json] = []
        options = {"limit": str(CHUNK), "labelSelector": selector, "fieldSelector": fields}
        query = {key: value for key, value in options.items() if value}
        while True:
            page = ListPage()
            response = await self._call(
                "GET", resource.path(namespace), query, headers=_accept(resource, "List")
            )
            async with response:
                async for item, may_be_cut in page.items(response.content.iter_any()):
                    if (obj := self._read(resource, item, may_be_cut)) is not None:
                        objects.append(obj)
            more = page.metadata.get("continue")
            if not more:
                break
            query["continue"] = more
        return objects, version_of(page.metadata)

    async def create(self, resource: Resource, namespace: str | None, body: Json) -> Json:
        return await self._request("POST", resource.path(namespace), body=body)

    async def apply(self, resource: Resource, body: Json, *, manager: str) -> Json:
        return await self._apply(resource, body, manager, subresource="")

    async def apply_status(self, resource: Resource, body: Json, *, manager: str) -> Json:
        return await self._apply(resource, body, manager, subresource="/status")

    async def merge(
        self, resource: Resource, namespace: str, name: str, body: Json, *, subresource: str = ""
    ) -> Json:
        """Send a JSON merge patch, for changes that a person makes with the CLI."""
        path = resource.path(namespace, name) + subresource
        return await self._request("PATCH", path, body=body, content_type=_MERGE)

    async def stream(
        self, service: str, namespace: str, path: str, body: Json, headers: dict[str, str]
    ) -> AsyncGenerator[bytes, None]:
        """POST to a Service through the API server's proxy; yield the answer's non-empty lines."""
        proxied = f"/api/v1/namespaces/{namespace}/services/{service}{_PROXIED}{path}"
        response = await self._call(
            "POST", proxied, body=body, headers=headers, timeout=_MODEL_TIMEOUT
        )
        try:
            async for line in _lines(response):
                yield line
        finally:
            response.close()

    async def delete(self, resource: Resource, namespace: str, name: str, *, uid: str) -> bool:
        body = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        try:
            await self._request("DELETE", resource.path(namespace, name), body=body)
        except NotFound:
            return True
        except Conflict:
            return False  # the uid differs, or the delete is refused: the watch reports the rest
        return True

    async def watch(
        self,
        resource: Resource,
        *,
        namespace: str | None,
        selector: str = "",
        name: str = "",
        version: int | None = None,
    ) -> AsyncGenerator[tuple[str, Json], None]:
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
            "labelSelector": selector,
            "fieldSelector": f"metadata.name={name}" if name else "",
            "resourceVersion": "" if version is None else str(version),
        }
        path, options = (
            resource.path(namespace),
            {key: value for key, value in query.items() if value},
        )
        response = await self._call(
            "GET", path, options, headers=_accept(resource), timeout=_WATCH_TIMEOUT
        )
        try:
            yield "OPENED", {}
            async for line in _lines(response):
                event = parse_object(line)
                kind, obj = entry_of(event, "type", str), entry_of(event, "object", dict)
                if kind == "ERROR":
                    raise _error(obj.get("code", 500), line)
                if kind == "BOOKMARK":
                    version_of(entry_of(obj, "metadata", dict))
                    yield kind, obj
                elif (item := self._read(resource, obj, isinstance(event, CutObject))) is not None:
                    yield kind, share_strings(item)
        finally:
            response.close()

    def _read(self, resource: Resource, obj: Any, may_be_cut: bool) -> Json | None:
        """Return a listed or watched object, None for one that cannot be read."""
        try:
            listed = listed_object(resource, obj)
            if may_be_cut and is_cut(obj):
                if resource in OWNERS:
                    return without_spec(listed)
                raise MalformedAnswer("it is nested too deeply")
            return bounded(resource, listed)
        except MalformedAnswer as error:
            metadata = obj.get("metadata") if isinstance(obj, dict) else None
            names = metadata if isinstance(metadata, dict) else {}
            self._reject(resource, f"{names.get('namespace')}/{names.get('name')}", error)
            return None

    def _reject(self, resource: Resource, name: str, error: MalformedAnswer) -> None:
        """Count an object that cannot be read, and log it once."""
        self.on_rejected(resource.kind)
        rejection = (resource.kind, name, str(error))
        if rejection not in self._rejections:
            self._rejections[rejection] = None
            extra = {"kind": resource.kind, "object": name[:300], "reason": str(error)}
            log.error("object rejected", extra=extra)
        while len(self._rejections) > MAX_REJECTIONS:
            self._rejections.pop(next(iter(self._rejections)))

    async def _reload(self) -> None:
        try:
            await _load(self._api.configuration)
        except _CONFIG_ERRORS as error:
            # Something may be rewriting the file; the next request reads it again.
            raise ClusterError(401, f"the credentials cannot be read: {error}") from error

    async def _apply(self, resource: Resource, body: Json, manager: str, subresource: str) -> Json:
        metadata = body["metadata"]
        path = resource.path(metadata.get("namespace"), metadata["name"]) + subresource
        query = {"fieldManager": manager, "force": "true"}
        reply = await self._request("PATCH", path, query, body=body, content_type=_APPLY)
        part: Json = share_strings(bounded(resource, reply))
        return part

    async def _request(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        *,
        body: Json | None = None,
        content_type: str = "application/json",
    ) -> Json:
        response = await self._call(method, path, query, body=body, content_type=content_type)
        async with response:
            return parse_object(await response.read())

    async def _call(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        *,
        body: Json | None = None,
        content_type: str = "application/json",
        headers: dict[str, str] | None = None,
        timeout: Any = TIMEOUT_SECONDS,  # noqa: ASYNC109  (aiohttp's own, for headers and body)
    ) -> Any:
        """Send a request and return the open aiohttp response.

        After a 401 it reads the credentials again and retries once, because tokens rotate. Raises
        `ClusterError` for an error status.
        """
        for fresh in (False, True):
            if fresh:
                await self._reload()
            _, url, sent, *_ = await self._api.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params={
                    "Accept": "application/json",
                    "Content-Type": content_type,
                    **(headers or {}),
                },
                auth_settings=["BearerToken"],
            )
            # The body is plain JSON, so skip the client's own conversion of it, which takes a tenth
            # of the request's time.
            try:
                answer = await self._api.rest_client.request(
                    method, url, headers=sent, body=body, _request_timeout=timeout
                )
            except aiohttp.ClientConnectorCertificateError as error:
                raise CertificateRefused(certificate_problem(error)) from error
            response = answer.response
            if response.status < 400:
                break
            async with response:
                refusal = _error(response.status, await response.read())
            if response.status != 401 or fresh:
                raise refusal
        return response


def _accept(resource: Resource, suffix: str = "") -> dict[str, str]:
    """Return the header that asks for the metadata alone of a kind whose data is not read."""
    return {"Accept": _METADATA.format(suffix)} if resource.kind in METADATA_ONLY else {}


async def _send_proxied_body_in_chunks(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Send the body of a proxied POST in chunks instead of with a Content-Length.

    The API server's reverse proxy reads on after the last byte of a Content-Length. If the backend
    answers before that read ends, the API server's HTTP/1.1 server closes the request body: the
    read fails, and the proxy drops the answer (net/http, `transferWriter.writeBody`). With chunks
    the proxy sends the last one to the backend only after it has read everything.
    """
    if request.method == "POST" and _PROXIED in request.url.path:
        request.chunked = True
        await request.update_body(request.body)
    return await handler(request)


_CONFIG_ERRORS = (config.ConfigException, OSError, ValueError, KeyError, yaml.YAMLError)


async def _load(configuration: Any) -> None:
    """Read server and credentials into a configuration."""
    if "KUBECONFIG" not in os.environ and _in_cluster():
        config.load_incluster_config(configuration)
    else:
        await config.load_kube_config(
            config_file=os.environ.get("KUBECONFIG"), client_configuration=configuration
        )
    if not configuration.proxy:
        configuration.proxy, configuration.proxy_headers = environment_proxy(configuration.host)


def current_namespace() -> str:
    """Return the namespace of kubeconfig's current context, `default` if it names none."""
    try:
        _, current = config.list_kube_config_contexts(config_file=os.environ.get("KUBECONFIG"))
    except _CONFIG_ERRORS:
        return "default"
    return str(current["context"].get("namespace") or "default")


def environment_proxy(server: str) -> tuple[str | None, dict[str, str] | None]:
    """Return the URL of the proxy that the environment names for a server, and its header.

    The header holds the credentials. The URL has none, because error messages contain it.
    """
    url = urlsplit(server)
    named = getproxies().get(url.scheme)
    if not named or not url.hostname or proxy_bypass(url.hostname):
        return None, None
    proxy = urlsplit(named)
    where = f"{proxy.scheme}://{proxy.netloc.rpartition('@')[2]}"
    if proxy.scheme != "http":
        log.warning("a proxy that is not http:// is not used", extra={"proxy": where})
        return None, None
    if not proxy.username:
        return where, None
    credentials = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return where, {"Proxy-Authorization": f"Basic {b64encode(credentials.encode()).decode()}"}


async def _lines(response: Any) -> AsyncIterator[bytes]:
    """Yield non-empty lines of any length; drop a last line without a newline: it was cut off."""
    buffer = bytearray()
    async for chunk in response.content.iter_any():
        buffer += chunk
        *lines, rest = bytes(buffer).split(b"\n")
        buffer = bytearray(rest)
        for line in lines:
            if line.strip():
                yield line


def _in_cluster() -> bool:
    return Path("/var/run/secrets/kubernetes.io/serviceaccount/token").exists()


def _error(status: int, body: bytes) -> ClusterError:
    try:
        answer = json.loads(body)
        answer = answer.get("object", answer)  # an error inside a watch
        # The error of a router, reached through the API server's proxy, nests the message deeper.
        inner = answer.get("error")
        message = answer.get("message") or (
            inner.get("message", "") if isinstance(inner, dict) else str(inner or "")
        )
        causes = (answer.get("details") or {}).get("causes") or []
    except (ValueError, AttributeError):
        message, causes = body.decode(errors="replace")[:300], []
    kinds = {404: NotFound, 409: Conflict, 410: Gone}
    return kinds.get(status, ClusterError)(
        status, message, causes=tuple(cause.get("reason", "") for cause in causes)
    )
