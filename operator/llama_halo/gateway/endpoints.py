"""The endpoints that a model answers: text, token counts, embeddings, rerankings, transcriptions.

`app` routes to them. Each validates the body, selects the targets, and calls the dispatcher.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from llama_halo.contract.gateway_config import GatewayConfig
from llama_halo.contract.model import Mode
from llama_halo.gateway.apis import anthropic, ollama, openai_audio
from llama_halo.gateway.apis.client_api import ANTHROPIC
from llama_halo.gateway.apis.exchange import ApiExchange
from llama_halo.gateway.apis.openai_embeddings import EMBEDDINGS_PATH, with_dimensions
from llama_halo.gateway.apis.upstream_request import UpstreamRequest
from llama_halo.gateway.apis.validation import forwarded_headers, validate_model
from llama_halo.gateway.convert.documents import NO_PDFS, PdfTexts, pdfs_in
from llama_halo.gateway.dispatch.client_stream import ClientStream, send
from llama_halo.gateway.dispatch.dispatcher import RequestDispatcher
from llama_halo.gateway.dispatch.fast_path import FastPath
from llama_halo.gateway.handler import Endpoint, RequestHandler
from llama_halo.gateway.http import bodies
from llama_halo.gateway.http.errors import malformed
from llama_halo.gateway.http.json_codec import dumps
from llama_halo.gateway.info_routes import path_of
from llama_halo.gateway.pdf_text import PdfReader
from llama_halo.gateway.request_record import RequestRecord
from llama_halo.gateway.routing.features import RequestFeatures, features_of
from llama_halo.gateway.routing.selector import TargetSelector
from llama_halo.gateway.routing.sessions import session_of

Json = dict[str, Any]
Make = Callable[[Json], ApiExchange]


class Endpoints:
    """One router's data path."""

    def __init__(
        self,
        config: GatewayConfig,
        handler: RequestHandler,
        selector: TargetSelector,
        dispatcher: RequestDispatcher,
    ) -> None:
        self._config = config
        self._handler = handler
        self._selector = selector
        self._dispatcher = dispatcher
        self._turns = bodies.Turns()
        self._pdfs = PdfReader(enabled=config.reads_pdfs)

    def generate(self, validate: Callable[[Any], Json], make: Make) -> Endpoint:
        """Return the endpoint of a text generation API."""

        async def handle(request: web.Request, record: RequestRecord) -> web.StreamResponse:
            body, size_bytes = await self._read(request, record, validate)
            record.requested_model = body["model"]
            if shortcut := ollama.without_prompt(path_of(request), body):
                self._selector.ensure_known(record.requested_model)
                return json_response(shortcut, record)
            tag, body = anthropic.take_tag(body) if record.api is ANTHROPIC else ("", body)
            exchange = make(body)
            session = session_of(request.headers, body, record.key)
            await self._turns.wait(size_bytes)
            pdf_texts = await self._pdf_texts(exchange.body, record)
            count = (
                UpstreamRequest(exchange.count_path, exchange.body, pdf_texts=pdf_texts)
                if exchange.count_path
                else None
            )
            targets = await self._selector.select(
                tag or record.requested_model,
                features_of(request.headers, body, size_bytes),
                session=session,
                count=count,
            )
            record.target = targets[0]
            upstream_request = UpstreamRequest(
                exchange.path,
                exchange.body,
                native_path=exchange.native_path,
                client_body=body,
                headers=forwarded_headers(request.headers),
                streams=exchange.streams,
                pdf_texts=pdf_texts,
            )
            fast_path = FastPath(exchange.passthrough)
            opened = self._dispatcher.stream(targets, upstream_request, fast_path, session=session)
            if exchange.streams:
                client = ClientStream(request, exchange, record, self._config.ping_seconds)
                return await send(client, opened, fast_path)
            async with opened as (record.target, events):
                try:
                    return json_response(
                        await exchange.collect(record.count_tokens(events)), record
                    )
                except RecursionError as error:
                    raise malformed("it is nested too deeply") from error

        return handle

    async def count_tokens(self, request: web.Request, record: RequestRecord) -> web.StreamResponse:
        body, size_bytes = await self._read(request, record, anthropic.validate)
        record.requested_model = body["model"]
        features = features_of(request.headers, body, size_bytes)
        targets = await self._selector.select(
            record.requested_model,
            features,
            session=session_of(request.headers, body, record.key),
            count=None,
        )
        record.target = targets[0]
        counted = anthropic.upstream_body(body)
        count = UpstreamRequest(
            anthropic.COUNT_PATH, counted, pdf_texts=await self._pdf_texts(counted, record)
        )
        return json_response(
            {"input_tokens": await self._selector.count_tokens(targets[0], features, count)}, record
        )

    def json_endpoint(self, path: str, check: Callable[[Any], Json]) -> Endpoint:
        """Return an endpoint that answers with one JSON object: embeddings or rerankings."""

        async def handle(request: web.Request, record: RequestRecord) -> web.StreamResponse:
            body, _ = await self._read(request, record, check)
            return json_response(await self._ask_model(request, record, path, body), record)

        return handle

    async def embed(self, request: web.Request, record: RequestRecord) -> web.StreamResponse:
        body, _ = await self._read(request, record, validate_model)
        path = path_of(request)
        native = path if path == ollama.EMBED_PATH else ""
        converted = ollama.embedding(body)
        answer = await self._ask_model(
            request, record, EMBEDDINGS_PATH, converted, native_path=native, client_body=body
        )
        return json_response(ollama.embedded(answer, body, path), record)

    async def _pdf_texts(self, body: Json, record: RequestRecord) -> PdfTexts:
        """Return the texts of a request's PDFs, for targets that take text alone."""
        pdfs = pdfs_in(body)
        return await self._pdfs.texts(pdfs, self._handler.body_counter(record)) if pdfs else NO_PDFS

    async def _read(
        self, request: web.Request, record: RequestRecord, validate: Callable[[Any], Json]
    ) -> tuple[Json, int]:
        """Return the valid JSON of a request's body, and the size of the body."""
        data = await bodies.read(request, self._handler.body_counter(record), self._turns)
        body, size_bytes = validate(bodies.parse_json(data)), len(data)
        del data  # the next step may be long in coming
        await self._turns.wait(size_bytes)
        return body, size_bytes

    async def _ask_model(
        self,
        request: web.Request,
        record: RequestRecord,
        path: str,
        body: Json,
        *,
        native_path: str = "",
        client_body: Json | None = None,
    ) -> Json:
        record.requested_model = body["model"]
        session = session_of(request.headers, body, record.key)
        mode = Mode.EMBEDDING if path == EMBEDDINGS_PATH else Mode.RERANK
        targets = await self._selector.select(
            record.requested_model, RequestFeatures(), session=session, count=None, mode=mode
        )
        upstream_request = UpstreamRequest(
            path, body, native_path=native_path, client_body=client_body or body
        )
        record.target, answer = await self._dispatcher.ask(
            targets, upstream_request, session=session
        )
        value = answer.value()
        record.usage.note(value)
        dimensions = body.get("dimensions")
        if path == EMBEDDINGS_PATH and dimensions and "data" in value:
            value = with_dimensions(value, dimensions)
        return {**value, "model": record.requested_model}

    async def transcribe(self, request: web.Request, record: RequestRecord) -> web.StreamResponse:
        """Forward an audio file; the answer is the server's body with its content type."""
        form = await bodies.read_form(request, self._handler.body_counter(record))
        record.requested_model = openai_audio.requested_model(form)
        session = session_of(request.headers, {"user": record.request_id}, record.key)
        targets = await self._selector.select(
            record.requested_model,
            RequestFeatures(),
            session=session,
            count=None,
            mode=Mode.TRANSCRIPTION,
        )
        upstream_request = UpstreamRequest(path_of(request), form=form)
        record.target, answer = await self._dispatcher.ask(
            targets, upstream_request, session=session
        )
        record.record_first_byte()
        headers = {**record.headers(), "Content-Type": answer.content_type}
        return web.Response(body=answer.data, headers=headers)


def json_response(body: Json, record: RequestRecord) -> web.Response:
    record.record_first_byte()
    return web.Response(
        body=dumps(body), content_type="application/json", charset="utf-8", headers=record.headers()
    )
