"""Validation of embedding and reranking requests."""

from __future__ import annotations

from typing import Any

from llama_halo.gateway.apis.validation import validate_model
from llama_halo.gateway.http.errors import Failure

Json = dict[str, Any]
EMBEDDINGS_PATH, RERANK_PATH = "/v1/embeddings", "/v1/rerank"


def validate(body: Any) -> Json:
    """Return the body of an embeddings request; raises `Failure` (400) without an input."""
    request = validate_model(body)
    texts = request.get("input")
    if not isinstance(texts, (str, list)) or not texts:
        raise Failure(400, "input: a text or a list of texts is required")
    return request


def validate_rerank(body: Any) -> Json:
    """Return the body of a reranking request; raises `Failure` (400) without query or documents."""
    request = validate_model(body)
    if not isinstance(request.get("query"), str):
        raise Failure(400, "query: a text is required")
    documents = request.get("documents", request.get("texts"))
    if not isinstance(documents, list) or not documents:
        raise Failure(400, "documents: a list with at least one text is required")
    return request
