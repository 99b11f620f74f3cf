"""The status page in a real browser."""

from __future__ import annotations

import re
import subprocess
import threading
from pathlib import Path

import httpx
import pytest

from hack.testbed.clients import chromium
from llama_halo.contract.gateway_config import GatewayConfig
from tests.support.api import eventually
from tests.support.gateway import NAMESPACE, SetModel, StartGateway
from tests.support.scripted_server import scripted

pytestmark = pytest.mark.slow


def render(url: str, folder: Path) -> str:
    """Return the page's text as it stands after some seconds."""
    done = subprocess.run(
        [
            *(chromium(), "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"),
            *("--virtual-time-budget=6000", f"--user-data-dir={folder}", url),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return re.sub(r"<script>.*?</script>|<style>.*?</style>", "", done.stdout, flags=re.DOTALL)


def test_the_page_shows_models_memory_routes_and_live_requests(
    set_model: SetModel, start_gateway: StartGateway, tmp_path: Path
) -> None:
    name = "<b>ui</b>"
    models = [{"name": "seen", "llama_model": "ui-seen", "aliases": []}, {"name": name}]
    models[1]["llama_model"] = "ui-gone"
    config = {"router": "page", "namespace": NAMESPACE, "routes": {"default": "seen"}}
    with scripted(pause_seconds=20) as server:
        about = {"architecture": "qwen3", "parameters": "30.5B", "quantization": "Q4_K_M"}
        memory = {"totalMiB": 20480}
        set_model("ui-seen", server.url, about=about, memory=memory, nodeSummary="halo-1")
        gateway = start_gateway(GatewayConfig.model_validate({**config, "models": models}))
        body = {"model": "seen", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}
        asking = threading.Thread(
            target=lambda: httpx.post(f"{gateway.url}/v1/messages", json=body, timeout=60)
        )
        asking.start()
        data = f"{gateway.url}/ui/data"
        eventually(lambda: httpx.get(data).json()["calls"])
        page = render(f"{gateway.url}/ui", tmp_path)
        asking.join()
    for text in (f"{NAMESPACE}/page", "30.5B Q4_K_M", "halo-1: 20.0 GiB", "Serving", "1/8"):
        assert text in page, page
    assert "&lt;b&gt;ui&lt;/b&gt;" in page, "a name is text, whatever it is"
    assert "waiting" in page


def test_with_keys_the_page_asks_for_one_and_shows_nothing(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "a").write_text("k" * 20)
    config = {"router": "closed", "namespace": NAMESPACE, "models": []}
    gateway = start_gateway(GatewayConfig.model_validate(config), "--keys", keys)
    assert httpx.get(f"{gateway.url}/ui/data").status_code == 401
    page = render(f"{gateway.url}/ui", tmp_path / "profile")
    assert "a key is needed" in page
    assert f"{NAMESPACE}/closed" not in page
