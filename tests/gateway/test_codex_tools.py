"""The real Codex with two MCP servers that have a tool of one name, through the gateway."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hack.testbed.clients import codex
from llama_halo.contract.gateway_config import GatewayConfig
from tests.support import agents, mcp_server
from tests.support.canned_server import Reply, canned, response_answer
from tests.support.gateway import NAMESPACE, SetModel, StartGateway, serving

pytestmark = pytest.mark.slow

Json = dict[str, Any]
SERVERS = ("files", "db")
CONFIG = """
model = "coder"
model_provider = "halo"

[model_providers.halo]
name = "halo"
base_url = "{url}/v1"
wire_api = "responses"
"""
SERVER = """
[mcp_servers.{name}]
command = "{python}"
args = ["{script}", "{name}", "{log}"]
"""


def calls_in_turn(_: str, body: Json) -> Reply:
    """Call the tool of each server, and then say what they answered."""
    outputs = [item for item in body["input"] if item["type"] == "function_call_output"]
    if len(outputs) < len(SERVERS):
        (name,) = (
            tool["name"]
            for tool in body["tools"]
            if tool["name"].endswith("read_it") and SERVERS[len(outputs)] in tool["name"]
        )
        number = len(outputs)
        call = {"type": "function_call", "id": f"fc_{number}", "call_id": f"call_{number}"}
        return response_answer(
            {**call, "name": name, "arguments": '{"path": "a"}', "status": "completed"}
        )
    text = " and ".join(str(item["output"]) for item in outputs)
    part = {"type": "output_text", "text": text, "annotations": []}
    head = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
    return response_answer({**head, "content": [part]})


READ_BOTH = Path(__file__).with_name("read_both.jinja")


@pytest.fixture(params=["scripted", "local"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of the model: one that follows a script, or a real one."""
    if request.param == "scripted":
        with canned() as server:
            server.reply = calls_in_turn
            yield server.url
        return
    template = ("--jinja", "--chat-template-file", str(READ_BOTH))
    flags = (*template, "--temp", "0", "--ctx-size", "8192")
    with serving(tmp_path / "llama-server.log", *flags) as process:
        yield process.url


def test_two_tools_of_one_name_run_each_by_its_own_server(
    url: str, set_model: SetModel, start_gateway: StartGateway, tmp_path: Path
) -> None:
    logs = {name: tmp_path / f"{name}.log" for name in SERVERS}
    set_model("cx-coder", url)
    config = {
        "router": "codex",
        "namespace": NAMESPACE,
        "models": [{"name": "coder", "llama_model": "cx-coder"}],
    }
    gateway = start_gateway(GatewayConfig.model_validate(config))
    (tmp_path / ".codex").mkdir()
    servers = (
        SERVER.format(name=name, python=sys.executable, script=mcp_server.__file__, log=logs[name])
        for name in SERVERS
    )
    text = CONFIG.format(url=gateway.url) + "".join(servers)
    (tmp_path / ".codex/config.toml").write_text(text)
    output = agents.run(
        *(codex(), "exec", "--skip-git-repo-check"),
        *("--dangerously-bypass-approvals-and-sandbox", "read both"),
        home=tmp_path,
    )
    for name in SERVERS:
        assert [json.loads(line) for line in logs[name].read_text().splitlines()] == [{"path": "a"}]
    assert "unsupported call" not in output
