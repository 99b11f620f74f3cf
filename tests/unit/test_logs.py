"""What a log line has, and what it never has."""

from __future__ import annotations

import json
import logging

import pytest

from llama_halo.logs import JsonFormatter, WithoutContent

KEY = "sk-secret-key"


def line(record: logging.LogRecord) -> dict[str, object]:
    return dict(json.loads(JsonFormatter().format(record)))


def test_a_line_has_the_extra_fields_and_the_traceback() -> None:
    try:
        raise KeyError("x")
    except KeyError as error:
        info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("llama_halo.x", logging.ERROR, "f", 1, "it %s", ("fails",), info)
    record.model = "coder"
    written = line(record)
    assert written["message"] == "it fails"
    assert written["model"] == "coder"
    assert "Traceback" in str(written["error"])


@pytest.mark.parametrize("args", [(), ("127.0.0.1",)])
def test_a_request_that_cannot_be_read_leaves_its_content_out(args: tuple[str, ...]) -> None:
    error = ValueError(f"bad header: {KEY}")
    text = "Error handling request from %s" if args else f"Error: {KEY}"
    info = (type(error), error, None)
    record = logging.LogRecord("aiohttp.server", logging.ERROR, "f", 1, text, args, info)
    assert WithoutContent().filter(record)
    written = line(record)
    assert KEY not in json.dumps(written)
    assert (written["message"], written["reason"]) == (
        "request failed in the HTTP server",
        "ValueError",
    )
