"""Where the API server is, and what to show it; the defaults are a pod's."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import httpx

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True)
class ApiServer:
    """An API server and the files to reach it with."""

    url: str = "https://kubernetes.default.svc"
    certificate_authority: Path = _ACCOUNT / "ca.crt"
    token: Path = _ACCOUNT / "token"

    def client(self, *, timeout: float | httpx.Timeout) -> httpx.AsyncClient:
        """Return a client that trusts this server."""
        return httpx.AsyncClient(
            base_url=self.url,
            verify=ssl.create_default_context(cafile=self.certificate_authority),
            timeout=timeout,
        )

    def headers(self) -> dict[str, str]:
        """Return the credentials; read each time, for the kubelet replaces them every hour."""
        return {"Authorization": f"Bearer {self.token.read_text().strip()}"}
