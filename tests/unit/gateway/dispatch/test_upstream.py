"""What an upstream request carries."""

from __future__ import annotations

import aiohttp
import pytest

from llama_halo.gateway.dispatch.encode import EncodedRequest
from llama_halo.gateway.dispatch.upstream import _payload
from llama_halo.gateway.http.bodies import FormField


@pytest.mark.parametrize("filename", ["speech.wav", None])
async def test_a_form_is_multipart_with_or_without_a_file_name(filename: str | None) -> None:
    fields = (FormField("model", b"whisper"), FormField("file", b"RIFF", filename))
    payload = _payload(EncodedRequest("/v1/audio/transcriptions", form=fields))
    assert isinstance(payload, aiohttp.FormData)
    assert payload().content_type.startswith("multipart/form-data")
