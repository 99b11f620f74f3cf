"""The gateway's metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class GatewayMetrics:
    """All series of the gateway, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "llama_halo_gateway_requests",
            "Requests by API, model, route and HTTP status (499: the client went away).",
            ["api", "model", "route", "status"],
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
        self.first_byte_seconds = Histogram(
            "llama_halo_gateway_first_byte_seconds",
            "From the request to the first byte of the answer.",
            ["model", "route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
