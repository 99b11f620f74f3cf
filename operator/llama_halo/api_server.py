"""Address and credentials of the API server; the defaults are those of a pod."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from llama_halo import nested_json
from llama_halo.errors import MalformedAnswer

Json = dict[str, Any]
_Entry = TypeVar("_Entry")
_SURROGATE = re.compile("[\ud800-\udfff]")
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class RefusedError(Exception):
    """The API server answered with an error status or a redirect.

    The message leaves out the request headers: they hold the token.
    """


REQUEST_ERRORS = (aiohttp.ClientError, RefusedError, OSError, MalformedAnswer)
"""Exceptions of a failed request: connection, token file, status, or an unusable answer."""


@dataclass(frozen=True)
class ApiServer:
    """The API server's URL, and the files with its CA and the token."""

    url: str = "https://kubernetes.default.svc"
    certificate_authority: Path = _ACCOUNT / "ca.crt"
    token: Path = _ACCOUNT / "token"

    def client(self, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientSession:
        """Return a session that trusts only this CA; request paths start without a slash."""
        trusted = ssl.create_default_context(cafile=self.certificate_authority)
        return aiohttp.ClientSession(
            f"{self.url.rstrip('/')}/",
            connector=aiohttp.TCPConnector(ssl=trusted),
            timeout=timeout,
        )

    def headers(self) -> dict[str, str]:
        """Return the Authorization header. Each call reads the token: the kubelet rotates it."""
        return {"Authorization": f"Bearer {self.token.read_text().strip()}"}


_EXPIRED, _OTHER_NAMES = {9, 10}, {62, 64}
"""OpenSSL's verify codes: outside the validity period, and host name or IP address mismatch."""


def certificate_problem(error: BaseException) -> str:
    """Return why the API server's certificate was rejected and how to fix that; empty for any
    other error."""
    if not isinstance(error, aiohttp.ClientConnectorCertificateError):
        return ""
    cause = error.certificate_error
    code, verdict = 0, str(cause)
    if isinstance(cause, ssl.SSLCertVerificationError):
        code, verdict = cause.verify_code, cause.verify_message
    if code in _EXPIRED:
        advice = "renew the API server's certificate, or correct the clock of this machine"
    elif code in _OTHER_NAMES:
        advice = "use an address that the certificate names, or add this one to its names"
    else:
        advice = (
            "check that the CA in the kubeconfig or in the ConfigMap kube-root-ca.crt is the one"
            " that signed it. Python 3.13 and later also require what RFC 5280 does: a CA with"
            " basicConstraints CA:TRUE, critical, and keyUsage keyCertSign, and an authority key"
            " identifier in what it signs; a CA that lacks them has to be replaced (k3s:"
            " `k3s certificate rotate-ca`)"
        )
    server = f"{error.host}:{error.port}"
    return f"the certificate of the API server at {server} is refused ({verdict}): {advice}"


async def require_success(response: aiohttp.ClientResponse) -> aiohttp.ClientResponse:
    """Return the response; raises `RefusedError` for an error status or a redirect."""
    if response.status < HTTPStatus.MULTIPLE_CHOICES:
        return response
    text = await response.text(errors="replace")
    raise RefusedError(f"{response.status} {response.reason}: {text[:300]}")


async def read_object(response: aiohttp.ClientResponse) -> Json:
    """Return a successful response's JSON object; raises `RefusedError` and `MalformedAnswer`."""
    return parse_object(await (await require_success(response)).read())


def parse_object(data: bytes) -> Json:
    """Return a JSON object; raises `MalformedAnswer` for anything else.

    A value that is nested too deeply is cut out, and the answer is a `CutObject`.
    """
    try:
        value, was_cut = nested_json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MalformedAnswer(f"the API server's answer is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise MalformedAnswer("the API server's answer is no JSON object")
    return CutObject(value) if was_cut else value


class CutObject(dict[str, Any]):
    """An answer with parts that were nested too deeply; `nested_json.is_cut` finds them."""


def entry_of(obj: Any, name: str, kind: type[_Entry]) -> _Entry:
    """Return an entry of a type; raises `MalformedAnswer` if it is missing or of another type.

    A text with a lone surrogate, which has no UTF-8, is no text.
    """
    value = obj.get(name) if isinstance(obj, dict) else None
    if not isinstance(value, kind) or (isinstance(value, str) and _SURROGATE.search(value)):
        raise MalformedAnswer(f"the API server's answer has {name} {value!r:.100}")
    return value


async def lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield the complete lines of a response; a watch sends one object a line, of any length."""
    rest = b""
    async for chunk in response.content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line
