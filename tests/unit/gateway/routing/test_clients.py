"""The kinds of clients."""

from __future__ import annotations

from llama_halo.gateway.routing.clients import client_of


def test_clients_are_of_a_closed_list() -> None:
    assert client_of({"user-agent": "claude-cli/2.1.328 (external, cli)"}) == "claude-code"
    assert client_of({"user-agent": "Python/3.11", "x-openwebui-chat-id": "1"}) == "open-webui"
    assert client_of({"user-agent": "x" * 1000}) == client_of({}) == "other"
