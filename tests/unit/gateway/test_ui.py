"""What the status page shows."""

from __future__ import annotations

from llama_halo.contract.gateway_config import GatewayConfig
from llama_halo.gateway import ui
from llama_halo.gateway.apis.client_api import ANTHROPIC
from llama_halo.gateway.dispatch.queue import AdmissionQueue
from llama_halo.gateway.request_record import RequestRecord
from llama_halo.gateway.routing.table import RoutingTable, Target
from tests.support.admission import Requests, model
from tests.support.virtual_time import in_virtual_time


@in_virtual_time
async def test_the_status_page_is_told_what_there_is() -> None:
    config = GatewayConfig.model_validate(
        {
            "router": "main",
            "namespace": "llm",
            "models": [{"name": name, "llama_model": name} for name in ("m", "gone")],
            "routes": {"default": "m"},
        }
    )
    requests = Requests(AdmissionQueue(), model(parallel=2))
    for _ in range(3):
        await requests.start("a")
    record = RequestRecord(ANTHROPIC, "claude-code", target=Target("m", "m", "default"))
    snapshot = ui.snapshot(
        RoutingTable.build(config, {"m": requests.model}), requests.admission, [record], {"m": 7}
    )
    first, second = snapshot["models"]
    assert (first["working"], first["slots"], first["waiting"], first["answered"]) == (2, 2, 1, 7)
    assert second["state"] == "not found"
    (message,) = snapshot["calls"]
    assert (message["client"], message["model"], message["route"]) == (
        "claude-code",
        "m",
        "default",
    )
    assert snapshot["routes"] == {"default": "m"}
    await requests.finish_all()


def test_the_page_loads_nothing_from_elsewhere() -> None:
    page = ui.page()
    assert "http" not in page.replace("http-equiv", "")
    assert "innerHTML" not in page, "names come from resources: they are text"
