"""The real cluster: raw requests through the official client, which keeps configuration, TLS and
token refresh. Its typed models are not used: they cost 30 MB and add nothing to plain objects.
"""

from __future__ import annotations

import json
import logging
import os
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import yaml
from kubernetes.aio import client, config

from llama_halo.api_server import certificate_problem
from llama_halo.errors import (
    CertificateRefused,
    ClusterError,
    Conflict,
    Gone,
    MalformedAnswer,
    NotFound,
    StartupError,
)
from llama_halo.kube.protocol import Json
from llama_halo.kube.resources import Resource

log = logging.getLogger(__name__)
_Entry = TypeVar("_Entry")

CHUNK = 500
TIMEOUT_SECONDS = 30
WATCH_SECONDS = 150
"""How long the server keeps a watch open; the next one goes on where it ended."""
# A connection that is silent for longer than its watch may last is dead. Bookmarks would show it
# sooner, but not every API server sends them for kinds at rest.
_WATCH_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=WATCH_SECONDS + 15)
REQUEST_ERRORS = (aiohttp.ClientError, OSError, MalformedAnswer)
"""What a request raises that gets no answer, or one that is cut off or not Kubernetes's."""
_APPLY, _MERGE = "application/apply-patch+yaml", "application/merge-patch+json"
_PATIENT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=1800)
"""For an answer that a model has to be loaded for, or to a prompt that takes minutes to read."""
_PROXIED = ":http/proxy"


class KubeClient:
    """The API server that the environment points to; `connect` makes one."""

    def __init__(self, api: Any) -> None:
        self._api = api

    @classmethod
    async def connect(cls) -> KubeClient:
        """Use the pod's service account, else KUBECONFIG or ~/.kube/config."""
        configuration = client.Configuration()
        # A watch for each kind and namespace is open at any time: no bound on connections.
        configuration.connection_pool_maxsize = 0
        # Told to trust the environment, aiohttp reads ~/.netrc and the proxy variables in a thread
        # for every single request: a quarter of the operator's CPU.
        configuration.client_session_kwargs = {
            "trust_env": False,
            "middlewares": (_send_proxied_body_in_chunks,),
        }
        try:
            await _load(configuration)
        except _UNREADABLE as error:
            raise StartupError(
                f"no cluster to talk to ({error}): run in a pod with a service account, or set"
                " KUBECONFIG"
            ) from error
        return cls(client.ApiClient(configuration))

    async def close(self) -> None:
        await self._api.close()

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Json:
        return await self._request("GET", resource.path(namespace, name))

    async def list(
        self, resource: Resource, *, namespace: str | None, selector: str = "", fields: str = ""
    ) -> tuple[list[Json], int]:
        items: list[Json] = []
        options = {"limit": str(CHUNK), "labelSelector": selector, "fieldSelector": fields}
        query = {key: value for key, value in options.items() if value}
        while True:
            page = await self._request("GET", resource.path(namespace), query)
            items += [_object(resource, item) for item in _entry(page, "items", list)]
            metadata = _entry(page, "metadata", dict)
            more = metadata.get("continue")
            if not more:
                break
            query["continue"] = more
        return items, _version(metadata)

    async def create(self, resource: Resource, namespace: str | None, body: Json) -> Json:
        return await self._request("POST", resource.path(namespace), body=body)

    async def apply(self, resource: Resource, body: Json, *, manager: str) -> Json:
        return await self._apply(resource, body, manager, subresource="")

    async def apply_status(self, resource: Resource, body: Json, *, manager: str) -> Json:
        return await self._apply(resource, body, manager, subresource="/status")

    async def merge(
        self, resource: Resource, namespace: str, name: str, body: Json, *, subresource: str = ""
    ) -> Json:
        """Patch what a person would: fields that are nobody's to apply."""
        path = resource.path(namespace, name) + subresource
        return await self._request("PATCH", path, body=body, content_type=_MERGE)

    async def stream(
        self, service: str, namespace: str, path: str, body: Json, headers: dict[str, str]
    ) -> AsyncGenerator[bytes, None]:
        """Post to a Service by way of the API server, and yield the lines of the answer."""
        proxied = f"/api/v1/namespaces/{namespace}/services/{service}{_PROXIED}{path}"
        response = await self._call("POST", proxied, body=body, headers=headers, timeout=_PATIENT)
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
            return False  # another object by now, or a refusal: the watch will tell
        return True

    async def watch(
        self,
        resource: Resource,
        *,
        namespace: str | None,
        selector: str = "",
        name: str = "",
        version: int | None = None,
    ) -> AsyncIterator[tuple[str, Json]]:
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
        response = await self._call("GET", path, options, timeout=_WATCH_TIMEOUT)
        try:
            yield "OPENED", {}
            async for line in _lines(response):
                event = _parsed(line)
                kind, obj = _entry(event, "type", str), _entry(event, "object", dict)
                if kind == "ERROR":
                    raise _error(obj.get("code", 500), line)
                if kind == "BOOKMARK":
                    _version(_entry(obj, "metadata", dict))
                    yield kind, obj
                else:
                    yield kind, _object(resource, obj)
        finally:
            response.close()

    async def _reload(self) -> None:
        try:
            await _load(self._api.configuration)
        except _UNREADABLE as error:
            # A file that is being written right now; the next request tries again.
            raise ClusterError(401, f"the credentials cannot be read: {error}") from error

    async def _apply(self, resource: Resource, body: Json, manager: str, subresource: str) -> Json:
        metadata = body["metadata"]
        path = resource.path(metadata.get("namespace"), metadata["name"]) + subresource
        query = {"fieldManager": manager, "force": "true"}
        return await self._request("PATCH", path, query, body=body, content_type=_APPLY)

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
            return _parsed(await response.read())

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
        """Send a request and return the open aiohttp response; raise for error statuses.

        Credentials that the server no longer takes are read anew once: tokens rotate.
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
            # The body is plain JSON: the client's own walk through it costs a tenth of the request.
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


async def _send_proxied_body_in_chunks(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Let a proxied request end with a last chunk instead of a Content-Length.

    The API server's reverse proxy reads on after the last byte of a Content-Length. A backend that
    answers before that read has ended makes its HTTP/1.1 server close the body under it: the read
    fails, and the proxy drops the answer (net/http, `transferWriter.writeBody`). The last chunk
    goes to the backend only after everything is read.
    """
    if request.method == "POST" and _PROXIED in request.url.path:
        request.chunked = True
        await request.update_body(request.body)
    return await handler(request)


_UNREADABLE = (config.ConfigException, OSError, ValueError, KeyError, yaml.YAMLError)


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
    """Return the namespace of kubeconfig's current context, as kubectl takes it."""
    try:
        _, current = config.list_kube_config_contexts(config_file=os.environ.get("KUBECONFIG"))
    except _UNREADABLE:
        return "default"
    return str(current["context"].get("namespace") or "default")


def environment_proxy(server: str) -> tuple[str | None, dict[str, str] | None]:
    """Return the http proxy that HTTPS_PROXY and NO_PROXY name for a server, and its credentials.

    They travel in a header of their own: what is wrong with a proxy is told with its address.
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
    """Yield whole lines of any length; a last one without its end was cut, and is left out."""
    buffer = bytearray()
    async for chunk in response.content.iter_any():
        buffer += chunk
        *lines, rest = bytes(buffer).split(b"\n")
        buffer = bytearray(rest)
        for line in lines:
            if line.strip():
                yield line


def _parsed(data: bytes) -> Json:
    """Return the object that an answer is."""
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MalformedAnswer(f"the API server's answer is no JSON: {error}") from error
    if not isinstance(answer, dict):
        raise MalformedAnswer(f"the API server's answer is no object: {answer!r:.100}")
    return answer


def _object(resource: Resource, obj: Any) -> Json:
    """Return a listed or watched object with its kind; its name, uid and version are there."""
    metadata = _entry(obj, "metadata", dict)
    for name in ("name", "uid"):
        _entry(metadata, name, str)
    _version(metadata)
    return {"apiVersion": resource.api_version, "kind": resource.kind, **obj}


def _version(metadata: Json) -> int:
    """Return a resourceVersion as a number: versions of one kind are compared."""
    version = metadata.get("resourceVersion")
    if not str(version).isdecimal():
        raise MalformedAnswer(f"the API server's answer has resourceVersion {version!r:.40}")
    return int(str(version))


def _entry(obj: Any, name: str, kind: type[_Entry]) -> _Entry:
    value = obj.get(name) if isinstance(obj, dict) else None
    if not isinstance(value, kind):
        raise MalformedAnswer(f"the API server's answer has {name} {value!r:.100}")
    return value


def _in_cluster() -> bool:
    return Path("/var/run/secrets/kubernetes.io/serviceaccount/token").exists()


def _error(status: int, body: bytes) -> ClusterError:
    try:
        answer = json.loads(body)
        answer = answer.get("object", answer)  # an error inside a watch
        # Those of a router, by way of the API server, have it one level down.
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
