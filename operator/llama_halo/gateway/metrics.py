"""The gateway's metrics."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from llama_halo.gateway.request_record import RequestRecord

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_TOKEN_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1, 2)


class GatewayMetrics:
    """All series of the gateway, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.answered: dict[str, int] = {}
        """Tokens of answers so far, by model."""
        self.requests = Counter(
            "llama_halo_gateway_requests",
            "Requests by API, client, model, route and HTTP status (499: the client went away).",
            ["api", "client", "model", "route", "status"],
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "llama_halo_gateway_requests_in_flight",
            "Requests that are being answered.",
            registry=self.registry,
        )
        self.held = Gauge(
            "llama_halo_gateway_requests_held",
            "Requests that wait for their model to come up.",
            registry=self.registry,
        )
        self.tasks = Gauge(
            "llama_halo_gateway_tasks",
            "Tasks of the event loop: a few, and one for each connection.",
            registry=self.registry,
        )
        self.first_byte_seconds = Histogram(
            "llama_halo_gateway_first_byte_seconds",
            "From the request to the first byte of the answer.",
            ["model", "route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.token_seconds = Histogram(
            "llama_halo_gateway_token_seconds",
            "From one token of an answer to the next, on the average of the answer.",
            ["model"],
            buckets=_TOKEN_SECONDS,
            registry=self.registry,
        )
        self.tokens = Counter(
            "llama_halo_gateway_tokens",
            "Tokens by kind: prompt (all of it), cached (of the prompt), answer.",
            ["model", "kind"],
            registry=self.registry,
        )

    def record_request(self, record: RequestRecord, model: str, route: str, status: int) -> None:
        """Record a finished request; `model` is empty if no target was chosen."""
        self.requests.labels(record.api.name, record.client, model, route, str(status)).inc()
        if not model:
            return
        if record.first_byte_seconds is not None:
            self.first_byte_seconds.labels(model, route).observe(record.first_byte_seconds)
            if record.usage.answer > 1:
                after = time.monotonic() - record.started - record.first_byte_seconds
                self.token_seconds.labels(model).observe(after / (record.usage.answer - 1))
        self.answered[model] = self.answered.get(model, 0) + record.usage.answer
        for kind, number in vars(record.usage).items():
            if number:
                self.tokens.labels(model, kind).inc(number)
