"""Which proxy the environment names for the API server; its credentials travel apart."""

from __future__ import annotations

import pytest

from llama_halo.kube.client import environment_proxy

SERVER = "https://10.96.0.1:443"


@pytest.mark.parametrize(
    ("environment", "proxy", "headers"),
    [
        ({}, None, None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128", None),
        (
            {"HTTPS_PROXY": "http://user:p%40w@proxy:3128"},
            "http://proxy:3128",
            {"Proxy-Authorization": "Basic dXNlcjpwQHc="},
        ),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "10.96.0.1"}, None, None),
        ({"HTTPS_PROXY": "https://user:pw@proxy:3128"}, None, None),
    ],
)
def test_an_http_proxy_is_used_and_its_password_is_not_in_its_address(
    environment: dict[str, str],
    proxy: str | None,
    headers: dict[str, str] | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name in ("HTTPS_PROXY", "NO_PROXY", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert environment_proxy(SERVER) == (proxy, headers)
    assert "pw" not in caplog.text
