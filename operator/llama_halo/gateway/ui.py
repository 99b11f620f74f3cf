"""The status page at `/ui`, one file that loads nothing from other hosts, and its data."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any

from llama_halo.gateway.dispatch.queue import AdmissionQueue
from llama_halo.gateway.models.model import Model
from llama_halo.gateway.request_record import RequestRecord
from llama_halo.gateway.routing.table import RoutingTable

Json = dict[str, Any]
MAX_CALLS = 200
HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline';"
    " script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def page() -> str:
    """Return the HTML of the page."""
    return files("llama_halo.gateway").joinpath("ui.html").read_text()


def snapshot(
    table: RoutingTable,
    admission: AdmissionQueue,
    calls: Iterable[RequestRecord],
    answered: Mapping[str, int],
) -> Json:
    """Return the page's data; `answered` is the number of tokens each model has generated."""
    now = time.monotonic()
    return {
        "router": table.config.router,
        "namespace": table.config.namespace,
        "routes": dict(table.routes),
        "models": [
            _model(name, table.models.get(key), admission, answered.get(name, 0))
            for name, key in table.served.items()
        ],
        "calls": [_request(record, now) for record in sorted(calls, key=_started)[:MAX_CALLS]],
    }


def _model(name: str, model: Model | None, admission: AdmissionQueue, answered: int) -> Json:
    if model is None:
        return {"name": name, "state": "not found", "answered": answered}
    return {
        "name": name,
        "state": model.state,
        "available": model.available,
        "node": model.node,
        "memoryMiB": model.memory_mib if model.node else 0,
        "context": model.context_size,
        "what": " ".join(filter(None, (model.parameters, model.quantization))),
        "working": admission.in_flight(model),
        "waiting": admission.waiting(model),
        "slots": model.parallel * max(len(model.serving), 1),
        "answered": answered,
    }


def _request(record: RequestRecord, now: float) -> Json:
    return {
        "id": record.request_id[-8:],
        "api": record.api.name,
        "client": record.client,
        "model": record.target.name if record.target else "",
        "route": record.target.route if record.target else "",
        "seconds": round(now - record.started, 1),
        "answering": record.first_byte_seconds is not None,
    }


def _started(record: RequestRecord) -> float:
    return record.started
