"""Random requests from the SDKs' types, through the gateway's parsers and converters.

Each becomes a request to every kind of server, or a refusal; and each text that a model should read
is in what the server gets. `python -m tests.support.generated_requests --count 100000` is the long
form of `tests/unit/gateway/convert/test_generated_requests.py`.
"""

from __future__ import annotations

import argparse
import base64
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from anthropic.types.beta import message_create_params
from openai.types.chat import completion_create_params
from openai.types.responses import response_create_params

from llama_halo.contract.gateway_config import ProviderConfig
from llama_halo.gateway.apis import anthropic, openai_chat, openai_responses
from llama_halo.gateway.apis.exchange import ApiExchange
from llama_halo.gateway.apis.upstream_request import UpstreamRequest
from llama_halo.gateway.convert import compatibility
from llama_halo.gateway.convert.documents import PdfText, pdfs_in
from llama_halo.gateway.dispatch.encode import encode_request
from llama_halo.gateway.http.errors import Failure
from llama_halo.gateway.models.model import Model
from llama_halo.gateway.routing.features import features_of
from llama_halo.gateway.routing.sessions import session_of
from tests.support.sdk_types import PIXEL, Marker, Requests

Json = dict[str, Any]
PDF = base64.b64encode(b"%PDF-1.7 of a test").decode()
PDF_TEXT = "the text of the PDF"
FILES = {
    "Base64PDFSourceParam": PDF,
    "BetaBase64PDFSourceParam": PDF,
    "Base64ImageSourceParam": PIXEL,
    "BetaBase64ImageSourceParam": PIXEL,
    "PlainTextSourceParam": "the text of the document",
    "BetaPlainTextSourceParam": "the text of the document",
}
_READ = {
    "anthropic": {
        "text": {"text"},
        "search_result": {"text", "title", "source"},
        "document": {"title", "context"},
        "compaction": {"content"},
        "tool_use": {"name", "input"},
        "custom": {"name", "description"},
    },
    "chat": {
        "text": {"text"},
        "refusal": {"refusal"},
        **{role: {"content", "refusal"} for role in ("system", "user", "assistant", "tool")},
        "developer": {"content"},
    },
    "responses": {
        "input_text": {"text"},
        "output_text": {"text"},
        "refusal": {"refusal"},
        "message": {"content"},
        "custom_tool_call": {"input"},
    },
}
"""By API and kind of object: the texts that a model reads."""


@dataclass(frozen=True)
class Api:
    """A client API with the type of its requests."""

    name: str
    kind: Any
    path: str
    validate: Callable[[Any], Json]
    make: Callable[[Json], ApiExchange]


APIS = (
    Api(
        "anthropic",
        message_create_params.MessageCreateParamsBase,
        anthropic.PATH,
        anthropic.validate,
        anthropic.build_exchange,
    ),
    Api(
        "chat",
        completion_create_params.CompletionCreateParamsBase,
        openai_chat.PATH,
        openai_chat.validate,
        openai_chat.build_exchange,
    ),
    Api(
        "responses",
        response_create_params.ResponseCreateParamsBase,
        openai_responses.PATH,
        openai_responses.validate,
        openai_responses.build_exchange,
    ),
)


def models() -> Iterator[tuple[str, Model]]:
    """Yield a model of the cluster, and one of a provider of each protocol."""
    yield "llama-server", Model("own", "http://own", True, "Serving")
    for protocol in compatibility.TARGETS[1:]:
        provider = ProviderConfig.model_validate(
            {"name": "p", "protocol": protocol, "base_url": "http://p"}
        )
        model = Model("p/m", "http://p", True, "x", provider=provider, provider_name="theirs")
        yield protocol, model


def _rare(api: str) -> frozenset[str]:
    """Return what a model of the cluster refuses."""
    return frozenset(
        row.name
        for section in compatibility.SECTIONS
        if section.api == api
        for row in section.rows
        if row.of("llama-server") == compatibility.Decision.REFUSED
    )


@dataclass
class Counts:
    """What became of requests."""

    sent: int = 0
    refused: int = 0
    texts: int = 0
    """Texts that were looked for in what a server gets."""


def run(api: Api, seed: int, count: int) -> Counts:
    """Send so many requests to every kind of server; raises AssertionError for a lost text."""
    counts = Counts()
    requests = Requests(seed, FILES, _rare(api.name))
    targets = list(models())
    for number in range(count):
        body = requests.one(api.kind, model="coder")
        try:
            _send(api, body, requests.markers, targets, counts)
        except Exception as error:
            error.add_note(f"{api.name}, seed {seed}, request {number}: {json.dumps(body)}")
            raise
    return counts


def _send(
    api: Api, body: Json, markers: list[Marker], targets: list[tuple[str, Model]], counts: Counts
) -> None:
    try:
        checked = api.validate(body)
        exchange = api.make(checked)
    except Failure as failure:
        assert failure.status == 400
        counts.refused += 1
        return
    features_of({}, checked, 1000)
    session_of({}, checked)
    texts = dict.fromkeys(pdfs_in(exchange.body), PdfText(PDF_TEXT))
    for target, model in targets:
        request = UpstreamRequest(
            exchange.path,
            exchange.body,
            native_path=exchange.native_path,
            client_body=checked,
            streams=exchange.streams,
            pdf_texts=texts,
        )
        try:
            encoded = encode_request(model, request, "key")
        except Failure as failure:
            assert failure.status == 400
            counts.refused += 1
            continue
        counts.sent += 1
        sent = json.dumps(encoded.body)
        for marker in markers:
            if _is_read(api.name, marker, target) and not _is_excluded(body, marker):
                counts.texts += 1
                assert marker.text in sent, f"{marker} is lost on the way to {target}"


def _is_excluded(body: Json, marker: Marker) -> bool:
    """Tell whether a text is of a tool that the request itself forbids to call."""
    choice = body.get("tool_choice")
    kind = choice.get("type") if isinstance(choice, dict) else choice
    return marker.kind == "custom" and kind in ("none", "tool", "function")


def _is_read(api: str, marker: Marker, target: str) -> bool:
    """Tell whether a model of a target reads a text of a request."""
    fields = _READ[api].get(marker.kind)
    if not fields or marker.field not in fields or marker.path[0] not in ("messages", "input"):
        return False
    category = "items" if api == "responses" and marker.kind.endswith("call") else "parts"
    becomes = compatibility.decision(api, category, marker.kind, target)
    return becomes in (None, compatibility.Decision.PASSED, compatibility.Decision.TRANSLATED)


def main() -> None:
    """Print what became of the requests of each API."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for api in APIS:
        started = time.monotonic()
        counts = run(api, arguments.seed, arguments.count)
        seconds = round(time.monotonic() - started, 1)
        print(json.dumps({"api": api.name, "seconds": seconds, **vars(counts)}), flush=True)


if __name__ == "__main__":
    main()
