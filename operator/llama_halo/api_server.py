"""Where the API server is, and what to show it; the defaults are a pod's."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import aiohttp

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_HALF_A_LINE_BYTES = 2**20
"""A watch has one object a line, and etcd takes none that is larger than 1.5 MiB."""


class RefusedError(Exception):
    """The API server refused a request. Without the request's headers: they have the token."""


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
            read_bufsize=_HALF_A_LINE_BYTES,
        )

    def headers(self) -> dict[str, str]:
        """Return the credentials; read each time, for the kubelet replaces them every hour."""
        return {"Authorization": f"Bearer {self.token.read_text().strip()}"}


async def checked(response: aiohttp.ClientResponse) -> aiohttp.ClientResponse:
    """Return an answer that is no error; raises `RefusedError` for one that is."""
    if response.ok:
        return response
    text = await response.text(errors="replace")
    raise RefusedError(f"{response.status} {response.reason}: {text[:300]}")
