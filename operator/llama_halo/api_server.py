"""Where the API server is, and what to show it; the defaults are a pod's."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import aiohttp

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class RefusedError(Exception):
    """The API server refused a request. Without the request's headers: they have the token."""


FAILED = (aiohttp.ClientError, RefusedError, OSError, ValueError)
"""What a request raises when there is no answer, or none that can be used."""


@dataclass(frozen=True)
class ApiServer:
    """An API server and the files to reach it with."""

    url: str = "https://kubernetes.default.svc"
    certificate_authority: Path = _ACCOUNT / "ca.crt"
    token: Path = _ACCOUNT / "token"

    def client(self, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientSession:
        """Return a client that trusts this server; its paths begin without a slash."""
        trusted = ssl.create_default_context(cafile=self.certificate_authority)
        return aiohttp.ClientSession(
            f"{self.url.rstrip('/')}/",
            connector=aiohttp.TCPConnector(ssl=trusted),
            timeout=timeout,
        )

    def headers(self) -> dict[str, str]:
        """Return the credentials; read each time, for the kubelet replaces them every hour."""
        return {"Authorization": f"Bearer {self.token.read_text().strip()}"}


_EXPIRED, _OTHER_NAMES = {9, 10}, {62, 64}
"""OpenSSL's codes for a certificate that is not valid now, or not for the name that was asked."""


def certificate_problem(error: BaseException) -> str:
    """Return why the API server's certificate is refused and what to do; empty when a request got
    no answer for another reason."""
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


async def checked(response: aiohttp.ClientResponse) -> aiohttp.ClientResponse:
    """Return an answer; raises `RefusedError` for an error, and for the way to another server."""
    if response.status < HTTPStatus.MULTIPLE_CHOICES:
        return response
    text = await response.text(errors="replace")
    raise RefusedError(f"{response.status} {response.reason}: {text[:300]}")


async def lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield the lines of an answer, of whatever length: a watch has one object a line."""
    rest = b""
    async for chunk in response.content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line
