"""Forms for whisper-server."""

from __future__ import annotations

from llama_halo.gateway.apis.openai_audio import for_whisper
from llama_halo.gateway.apis.upstream_request import UpstreamRequest
from llama_halo.gateway.http.bodies import FormField


def test_how_hard_it_tries_is_not_a_clients_to_say() -> None:
    form = (
        FormField("file", b"x", "a.wav"),
        FormField("beam_size", b"100"),
        FormField("language", b"de"),
    )
    plain = for_whisper(UpstreamRequest("/v1/audio/transcriptions", form=form))
    assert [item.name for item in plain] == ["file", "language"]
    translated = for_whisper(UpstreamRequest("/v1/audio/translations", form=form))
    assert [item.name for item in translated] == ["file", "language", "translate"]
