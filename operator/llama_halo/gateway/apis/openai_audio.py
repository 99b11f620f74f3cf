"""OpenAI's audio API: forms that are forwarded with few changes."""

from __future__ import annotations

from collections.abc import Sequence

from llama_halo.gateway.apis.upstream_request import UpstreamRequest
from llama_halo.gateway.http.bodies import FormField
from llama_halo.gateway.http.errors import Failure

TRANSLATIONS = "/v1/audio/translations"
PATHS = ("/v1/audio/transcriptions", TRANSLATIONS)

_DROPPED_FIELDS = ("beam_size", "best_of", "processors", "n_processors")


def requested_model(parts: Sequence[FormField]) -> str:
    """Return the requested model's name; raises `Failure` (400) for an incomplete form, or one
    that asks for a stream."""
    texts = {part.name: part.data for part in parts if part.filename is None}
    if not any(part.name == "file" for part in parts):
        raise Failure(400, "file: an audio file is required")
    if texts.get("stream", b"false").lower() not in (b"false", b"0", b""):
        raise Failure(400, "stream: streaming is not supported: omit stream, or set it to false")
    model = texts.get("model", b"").decode(errors="replace")
    if not model:
        raise Failure(400, "model: a model name is required")
    return model


def for_model(parts: Sequence[FormField], name: str) -> tuple[FormField, ...]:
    """Return the form with another model name."""
    others = [part for part in parts if part.name != "model"]
    return (FormField("model", name.encode()), *others)


def for_whisper(upstream_request: UpstreamRequest) -> tuple[FormField, ...]:
    """Return the form for whisper.cpp's server, where translation is a field and not a path.

    Fields that set the decoding effort are dropped: the server's memory depends on them.
    """
    kept = [part for part in upstream_request.form if part.name not in _DROPPED_FIELDS]
    if upstream_request.path == TRANSLATIONS:
        kept.append(FormField("translate", b"true"))
    return tuple(kept)
