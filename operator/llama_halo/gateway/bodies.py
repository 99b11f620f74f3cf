"""Reads what a client sends: JSON, or a form; what is neither is the client's fault."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import BodyPartReader, web

from llama_halo.gateway.apis.question import Part
from llama_halo.gateway.failures import Failure

LIMIT_BYTES = 64 * 2**20
MOST_PARTS = 64


async def read_json(request: web.Request) -> Any:
    """Return the JSON of a request's body."""
    try:
        return json.loads(await request.read())
    except (ValueError, RecursionError) as error:
        raise Failure(400, f"the request body is not JSON: {error}") from error


async def read_object(request: web.Request) -> dict[str, Any]:
    """Return the JSON object of a request's body."""
    found = await read_json(request)
    if not isinstance(found, dict):
        raise Failure(400, "the request body must be a JSON object")
    return found


async def read_form(request: web.Request) -> tuple[Part, ...]:
    """Return the fields of a form, files included: in memory, for a pod has no disk."""
    if not request.content_type.startswith("multipart/"):
        raise Failure(400, "the request body must be a form (multipart/form-data)")
    found: list[Part] = []
    size = 0
    try:
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader) or not part.name:
                raise Failure(400, "each part of the form needs a name, and none has parts itself")
            data = bytearray()
            while chunk := await part.read_chunk(2**16):
                data += chunk
                size += len(chunk)
                if size > LIMIT_BYTES or len(found) >= MOST_PARTS:
                    raise too_large()
            kind = part.headers.get("Content-Type", "application/octet-stream")
            found.append(Part(part.name, bytes(data), part.filename, kind))
    except (ValueError, AssertionError, LookupError) as error:
        raise Failure(400, f"the request body is not a form: {error}") from error
    return tuple(found)


def too_large() -> Failure:
    """Return the failure of a body that is larger than any that is taken."""
    return Failure(413, f"the request body exceeds {LIMIT_BYTES // 2**20} MiB")
