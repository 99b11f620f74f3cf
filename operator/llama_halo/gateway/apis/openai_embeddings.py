"""The OpenAI Embeddings API and reranking: validation, and vectors of fewer dimensions."""

from __future__ import annotations

import base64
import binascii
import math
from array import array
from typing import Any

from llama_halo.gateway.apis.validation import validate_model
from llama_halo.gateway.http import answers
from llama_halo.gateway.http.errors import Failure, malformed

Json = dict[str, Any]
EMBEDDINGS_PATH, RERANK_PATH = "/v1/embeddings", "/v1/rerank"


def validate(body: Any) -> Json:
    """Return the body of an embeddings request; raises `Failure` (400) without an input."""
    request = validate_model(body)
    texts = request.get("input")
    if not isinstance(texts, (str, list)) or not texts:
        raise Failure(400, "input: a text or a list of texts is required")
    check_dimensions(request)
    return request


def check_dimensions(body: Json) -> None:
    """Raise `Failure` (400) for dimensions that are no number of at least 1."""
    dimensions = body.get("dimensions")
    if dimensions is None:
        return
    if isinstance(dimensions, bool) or not isinstance(dimensions, int) or dimensions < 1:
        raise Failure(400, "dimensions: a number of at least 1 is required")


def with_dimensions(answer: Json, dimensions: int) -> Json:
    """Return an embeddings answer with shorter vectors, again of length 1.

    llama-server does not know the field. Raises `Failure` (400) for more dimensions than the
    model's vectors have.
    """
    data = []
    for item in answers.objects(answer, "data"):
        embedding = item.get("embedding")
        vector = _numbers(embedding)
        if len(vector) < dimensions:
            raise Failure(
                400, f"dimensions: {dimensions} is more than the {len(vector)} of this model"
            )
        if len(vector) == dimensions:
            return answer
        shorter = unit_vector(vector[:dimensions])
        data.append(
            {**item, "embedding": _base64(shorter) if isinstance(embedding, str) else shorter}
        )
    return {**answer, "data": data}


def unit_vector(vector: list[float]) -> list[float]:
    """Return the vector of length 1 in the same direction."""
    length = math.sqrt(sum(component * component for component in vector)) or 1.0
    return [component / length for component in vector]


def _numbers(embedding: Any) -> list[float]:
    if isinstance(embedding, str):
        try:
            return array("f", base64.b64decode(embedding)).tolist()
        except (ValueError, binascii.Error) as error:
            raise malformed("embedding is no base64 of numbers") from error
    return answers.vectors({"data": [{"embedding": embedding}]})[0]


def _base64(vector: list[float]) -> str:
    return base64.b64encode(array("f", vector).tobytes()).decode()


def validate_rerank(body: Any) -> Json:
    """Return the body of a reranking request; raises `Failure` (400) without query or documents."""
    request = validate_model(body)
    if not isinstance(request.get("query"), str):
        raise Failure(400, "query: a text is required")
    documents = request.get("documents", request.get("texts"))
    if not isinstance(documents, list) or not documents:
        raise Failure(400, "documents: a list with at least one text is required")
    return request
