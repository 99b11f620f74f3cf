"""Alert rules and dashboard in a real Prometheus that scrapes a real operator."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from hack.manifests import CHART
from hack.testbed import operator_process, tools
from hack.testbed.cluster import Testbed
from hack.testbed.operator_process import OperatorProcess, write_kubeconfig
from hack.testbed.ports import free_port
from tests.support.api import eventually

pytestmark = pytest.mark.timeout(1800)
ALERTS = CHART / "files/alerts.yaml"
DASHBOARD = CHART / "files/dashboard.json"
Json = dict[str, Any]


@contextmanager
def prometheus(folder: Path, target: int) -> Iterator[str]:
    """Run Prometheus with our rules and one target until the block ends."""
    port = free_port()
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(ALERTS)],
        "scrape_configs": [
            {"job_name": "operator", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
        ],
    }
    file = folder / "prometheus.yaml"
    file.write_text(yaml.safe_dump(config))
    program = tools.build(tools.PROMETHEUS) / "prometheus"
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(program, f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}"),
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}/api/v1"
    try:
        eventually(lambda: _answers(url), seconds=60, description="Prometheus")
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/status/runtimeinfo").status_code == 200
    except httpx.TransportError:
        return False


def _ask(url: str, path: str, **parameters: str) -> Any:
    answer = httpx.get(f"{url}/{path}", params=parameters, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


@pytest.fixture
def operator(control_plane: Testbed, tmp_path: Path) -> Iterator[OperatorProcess]:
    operator_process.install(control_plane)  # the chart's own test has taken its role away
    kubeconfig = write_kubeconfig(control_plane, tmp_path / "kubeconfig")
    process = OperatorProcess(kubeconfig, tmp_path / "operator.log")
    process.wait_ready()
    yield process
    if process.running:
        process.stop()


def test_the_rules_and_the_metrics_are_taken_by_promtool(operator: OperatorProcess) -> None:
    promtool = tools.build(tools.PROMETHEUS) / "promtool"
    done = subprocess.run(
        [promtool, "check", "rules", ALERTS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    text = operator.get("/metrics")[1]
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert "error" not in done.stderr.lower(), done.stderr


def test_every_rule_and_query_is_evaluated_and_a_dead_operator_is_noticed(
    operator: OperatorProcess, tmp_path: Path
) -> None:
    with prometheus(tmp_path, operator.port) as url:
        eventually(
            lambda: _ask(url, "query", query="up == 1")["result"],
            seconds=30,
            description="a scrape",
        )
        assert _ask(url, "query", query="llama_halo_build_info")["result"]

        def rules() -> list[Json]:
            return [rule for group in _ask(url, "rules")["groups"] for rule in group["rules"]]

        written = yaml.safe_load(ALERTS.read_text())["groups"]
        names = [rule["alert"] for group in written for rule in group["rules"]]
        value = eventually(
            rules,
            until=lambda message: all(message["health"] == "ok" for message in message),
            seconds=30,
        )
        assert [item["name"] for item in value] == names
        dashboard = json.loads(DASHBOARD.read_text())
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                query = re.sub(r"\$__\w+", "1m", target["expr"])
                _ask(url, "query", query=re.sub(r"\$\{?\w+(:\w+)?\}?", ".*", query))
        operator.stop()
        eventually(
            lambda: next(rule["state"] for rule in rules() if "OperatorDown" in rule["name"]),
            until=lambda state: state == "pending",
            seconds=60,
        )
