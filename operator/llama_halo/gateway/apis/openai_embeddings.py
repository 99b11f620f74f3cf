"""What embeddings and rerankings must have; pure."""

from __future__ import annotations

from typing import Any

from llama_halo.gateway.apis.validation import checked_model
from llama_halo.gateway.http.errors import Failure

Json = dict[str, Any]
EMBEDDINGS, RERANK = "/v1/embeddings", "/v1/rerank"


def checked(body: Any) -> Json:
    """Return a request for embeddings that llama-server takes."""
    found = checked_model(body)
    given = found.get("input")
    if not isinstance(given, (str, list)) or not given:
        raise Failure(400, "input: a text or a list of texts is required")
    return found


def checked_rerank(body: Any) -> Json:
    """Return a request for a reranking that llama-server takes."""
    found = checked_model(body)
    if not isinstance(found.get("query"), str):
        raise Failure(400, "query: a text is required")
    documents = found.get("documents", found.get("texts"))
    if not isinstance(documents, list) or not documents:
        raise Failure(400, "documents: a list with at least one text is required")
    return found
