"""A request to a model's server, in llama-server's format and in the client's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llama_halo.gateway.convert.documents import PdfTexts
from llama_halo.gateway.http.bodies import FormField

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """One request to a model's server."""

    path: str
    """Path on llama-server."""
    body: Json = field(default_factory=dict)
    form: tuple[FormField, ...] = ()
    """Fields of a form, which is sent instead of `body`."""
    native_path: str = ""
    """Path of the client's own API, for providers that speak it; empty if there are none."""
    client_body: Json = field(default_factory=dict)
    """The client's own body, for such a provider."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """The client's headers that such a provider needs."""
    streams: bool = True
    """Whether the client asked for a stream: a provider is asked as the client asks. llama-server
    always streams."""
    pdf_texts: PdfTexts = field(default_factory=dict)
