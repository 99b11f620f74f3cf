"""llama-server's errors, in each API's words."""

from __future__ import annotations

from typing import Any

import pytest

from llama_halo.gateway.http.errors import Failure, anthropic_error, from_upstream, openai_error

OWN = {"type": "server_error", "code": 500}


@pytest.mark.parametrize(
    ("status", "error", "becomes"),
    [
        (500, OWN | {"message": "Jinja Exception: System message must be first."}, 400),
        (500, OWN | {"message": "image input is not supported - hint: mmproj"}, 400),
        (500, OWN | {"message": "\n---\nWhile executing FilterExpression at line 1"}, 400),
        (500, OWN | {"message": "Value is not callable: null at row 49"}, 400),
        (500, OWN | {"message": "JSON schema error at #/a: unsupported $ref #"}, 400),
        (500, OWN | {"message": "input (992 tokens) is too large to process."}, 400),
        (500, OWN | {"message": 'Failed to parse tools: null; [{"name": "memory_decode"}]'}, 400),
        (500, OWN | {"message": "Compute error."}, 500),
        (500, OWN | {"message": "std::bad_alloc"}, 500),
        (500, OWN | {"message": "vk::Queue::submit: ErrorDeviceLost"}, 500),
        (500, OWN | {"message": "The model produced output that does not match"}, 500),
        (500, {"message": "the proxy between is on fire"}, 500),
        (501, {"message": "This server does not support embeddings"}, 400),
        (503, {"message": "Loading model"}, 503),
        (400, {"message": "x", "type": "exceed_context_size_error", "n_ctx": 4096}, 400),
    ],
)
def test_llama_servers_errors_become_what_clients_understand(
    status: int, error: dict[str, Any], becomes: int
) -> None:
    assert from_upstream(status, {"error": error}).status == becomes


def test_a_long_prompt_is_told_in_each_apis_words() -> None:
    failure = Failure(400, "x", tokens=(9031, 4096))
    message = anthropic_error(failure, "req_1")["error"]["message"]
    assert message == "prompt is too long: 9031 tokens > 4096 maximum"
    assert openai_error(failure)["error"]["code"] == "context_length_exceeded"
