"""What a model's server is asked, in the words of llama-server and in the client's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llama_halo.gateway.http.bodies import FormField

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """One request to a model's server."""

    path: str
    """Of llama-server."""
    body: Json = field(default_factory=dict)
    form: tuple[FormField, ...] = ()
    """Instead of a body."""
    native_path: str = ""
    """The path of the client's own API, if servers elsewhere may speak it."""
    client_body: Json = field(default_factory=dict)
    """As the client sent it, for such a server."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Those of the client that such a server has to see."""
