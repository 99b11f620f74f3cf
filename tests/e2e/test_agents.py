"""Real coding agents and a real model on a real node, which sleeps when each of them asks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hack.testbed.clients import claude_code, codex, opencode, qwen_code
from tests.support.agents import run
from tests.support.api import eventually, ready
from tests.support.kubectl import Kubectl
from tests.support.manifests import router, smollm2

Json = dict[str, Any]
SAID = "Yes."
Words = tuple[str | Path, ...]


@dataclass(frozen=True)
class Agent:
    """A client: its words, and its settings for a router's address."""

    command: Callable[[], Words]
    environment: Callable[[str], dict[str, str]] = lambda _: {}
    files: Callable[[str], dict[str, str]] = field(default=lambda _: {})


def _codex_settings(url: str) -> dict[str, str]:
    lines = (
        'model = "default"',
        'model_provider = "halo"',
        "[model_providers.halo]",
        'name = "halo"',
        f'base_url = "{url}/v1"',
        'env_key = "KEY"',
        'wire_api = "responses"',
    )
    return {".codex/config.toml": "\n".join(lines)}


def _opencode_settings(url: str) -> dict[str, str]:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": f"{url}/v1", "apiKey": "none"},
        "models": {"default": {"name": "default", "limit": {"context": 8192, "output": 512}}},
    }
    return {
        "opencode.json": json.dumps({"model": "halo/default", "provider": {"halo": provider}}),
    }


AGENTS = {
    "claude": Agent(
        lambda: (claude_code(), "-p", "say hi", "--tools", "Read"),
        lambda url: {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_AUTH_TOKEN": "none"},
    ),
    "codex": Agent(
        lambda: (
            codex(),
            *("exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "hi"),
        ),
        files=_codex_settings,
    ),
    "opencode": Agent(
        lambda: (opencode(), "run", "hi"),
        lambda _: {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1"},
        _opencode_settings,
    ),
    "qwen": Agent(
        # Its own system prompt is longer than so small a model was trained for.
        lambda: (*qwen_code(), "-p", "hi", "--auth-type", "openai", "--system-prompt", "Be brief."),
        lambda url: {
            "OPENAI_BASE_URL": f"{url}/v1",
            "OPENAI_API_KEY": "none",
            "OPENAI_MODEL": "default",
        },
    ),
}


@pytest.fixture(scope="module")
def url(kube: Kubectl) -> Iterator[str]:
    """A router in front of one model that sleeps, and sleeps again soon."""
    kube("delete", "llamamodels,modelrouters", "--all", "--wait=true")
    kube.apply(
        smollm2(
            "agents",
            contextSize=8192,
            memory={"host": "2Gi"},
            activation={"onDemand": {"minResident": "0s", "idleTimeout": "5s"}},
            extraArgs=["--grammar", f'root ::= "{SAID}"'],
        )
    )
    models = [{"name": "agents", "modelRef": {"name": "agents"}}]
    front = router(models=models, routes={"default": "agents"})
    front["metadata"]["name"] = "agents"
    kube.apply(front)
    kube.wait_ready("llamamodel/agents", "modelrouter/agents")
    with kube.forwarded("service/agents-router") as value:
        yield value
    kube("delete", "llamamodels,modelrouters", "--all", "--wait=true")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_is_answered_by_a_model_that_slept(
    kube: Kubectl, url: str, tmp_path: Path, name: str
) -> None:
    eventually(
        lambda: kube.get("llamamodel/agents"),
        until=lambda cr: ready(cr)[1] == "Idle",
        seconds=90,
        description="the model sleeps",
    )
    agent = AGENTS[name]
    for path, text in agent.files(url).items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    assert SAID in run(*agent.command(), home=tmp_path, KEY="none", **agent.environment(url))
