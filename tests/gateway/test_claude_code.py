"""The real Claude Code through the real gateway.

Its models are scripted, so that what it does follows from what they say; at the end stands a real
one, for the prompt cache.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from llama_halo.contract.gateway_config import GatewayConfig
from tests.support.agents import claude
from tests.support.files import PICTURE, pdf_of
from tests.support.gateway import NAMESPACE, Process, SetModel, StartGateway, serving
from tests.support.scripted_server import Scripted, scripted

pytestmark = pytest.mark.slow

Json = dict[str, Any]
NAMES = ("coder", "small", "helper")
CONFIG = GatewayConfig.model_validate(
    {
        "router": "claude",
        "namespace": NAMESPACE,
        "models": [{"name": name, "llama_model": f"cc-{name}"} for name in NAMES],
        "routes": {"default": "coder", "background": "small", "subagent": "helper"},
        "hold_seconds": 400,
        "ping_seconds": 5,
    }
)


@dataclass
class Agent:
    """Claude Code in a folder of its own."""

    gateway: Process
    home: Path
    models: dict[str, Scripted]

    def run(self, *arguments: str, **environment: str) -> str:
        """Run it once, and return what it says."""
        return claude(self.gateway.url, *arguments, home=self.home, **environment)


@pytest.fixture(scope="module")
def models(set_model: SetModel) -> Iterator[dict[str, Scripted]]:
    with ExitStack() as stack:
        value = {name: stack.enter_context(scripted()) for name in NAMES}
        for name, server in value.items():
            set_model(f"cc-{name}", server.url)
        yield value


@pytest.fixture(scope="module")
def claude_gateway(models: dict[str, Scripted], start_gateway: StartGateway) -> Process:
    assert models
    return start_gateway(CONFIG)


@pytest.fixture
def agent(claude_gateway: Process, models: dict[str, Scripted], tmp_path: Path) -> Agent:
    for model in models.values():
        model.asked.clear()
        model.plan.clear()
        model.ready_at = 0.0
    return Agent(claude_gateway, tmp_path, models)


def call(name: str, **supplied: Any) -> Json:
    return {"type": "tool_use", "id": f"toolu_{name}", "name": name, "input": supplied}


def test_it_is_answered_by_one_request_to_the_default_model(agent: Agent) -> None:
    assert "Hello world!" in agent.run("say hi")
    (sent,) = agent.models["coder"].generations()
    assert sent["stream"] is True
    assert len(sent["tools"]) > 5
    assert "x-anthropic-billing-header" not in json.dumps(sent)
    assert {message["role"] for message in sent["messages"]} == {"user"}
    assert not agent.models["small"].generations()


def test_it_reads_a_file_by_a_tool_and_goes_on_with_what_it_says(agent: Agent) -> None:
    secret = agent.home / "secret.txt"
    secret.write_text("the word is quagmire\n")
    agent.models["coder"].plan[:] = [[call("Read", file_path=str(secret))]]
    assert "Hello world!" in agent.run("read it", "--permission-mode", "bypassPermissions")
    first, second = agent.models["coder"].generations()
    assert "quagmire" not in json.dumps(first["messages"])
    results = [
        block
        for message in second["messages"]
        for block in (message["content"] if isinstance(message["content"], list) else ())
        if block["type"] == "tool_result"
    ]
    assert "the word is quagmire" in json.dumps(results)
    before, after = _prompt(first), _prompt(second)
    assert after[: len(before)] == before, "for the prompt cache"


def test_it_reads_a_pdf_and_a_picture_and_the_model_gets_their_content(agent: Agent) -> None:
    document, picture = agent.home / "a.pdf", agent.home / "b.png"
    document.write_bytes(pdf_of("the word is quicksilver"))
    picture.write_bytes(base64.b64decode(PICTURE))
    agent.models["coder"].plan[:] = [
        [call("Read", file_path=str(document))],
        [{**call("Read", file_path=str(picture)), "id": "toolu_2"}],
    ]
    assert "Hello world!" in agent.run("read them", "--permission-mode", "bypassPermissions")
    last = json.dumps(agent.models["coder"].generations()[-1]["messages"])
    assert "the word is quicksilver" in last
    assert '"media_type": "image/' in last
    assert "application/pdf" not in last


def _prompt(body: Json) -> str:
    """Return what of a conversation becomes its prompt."""
    blocks = [
        {name: value for name, value in block.items() if name != "cache_control"}
        for message in body["messages"]
        for block in message["content"]
    ]
    return "".join(json.dumps(block) for block in blocks)


def test_its_subagents_have_a_model_of_their_own(agent: Agent) -> None:
    task = {"description": "look", "prompt": "Look around.", "subagent_type": "general-purpose"}
    agent.models["coder"].plan[:] = [[call("Agent", **task)]]
    assert "Hello" in agent.run("delegate", "--permission-mode", "bypassPermissions")
    assert "Look around." in json.dumps(agent.models["helper"].generations()[0])
    assert len(agent.models["coder"].generations()) >= 2


def test_its_small_model_is_the_background_route(agent: Agent) -> None:
    agent.run("say hi", "--model", "haiku")
    assert agent.models["small"].generations()
    assert not agent.models["coder"].generations()


def test_it_waits_for_a_model_that_loads(agent: Agent, request: pytest.FixtureRequest) -> None:
    """For a minute, and in `make soak` for longer than it waits for anything that says nothing."""
    seconds = 330 if request.config.getoption("--soak") else 60
    agent.models["coder"].ready_at = time.monotonic() + seconds
    started = time.monotonic()
    assert "Hello world!" in agent.run("say hi")
    assert time.monotonic() - started > seconds - 5
    answered = [body for path, _, body in agent.models["coder"].asked if "count" not in path]
    assert len(answered) > 1, "the gateway asked again, and Claude Code did not"


def test_it_finds_the_models_that_the_router_has(agent: Agent) -> None:
    agent.run("say hi", CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY="1")
    text = (agent.home / ".claude/cache/gateway-models.json").read_text()
    assert {f"claude-{name}" for name in NAMES} <= set(re.findall(r"claude-[a-z]+", text))


@pytest.fixture(scope="module")
def roomy_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A real llama-server whose context holds a conversation of Claude Code. It says little: so
    small a model has no more to say to so long a prompt."""
    log = tmp_path_factory.mktemp("roomy") / "server.log"
    arguments = (
        "--ctx-size",
        "24576",
        "--parallel",
        "1",
        "--jinja",
        "--grammar",
        'root ::= "Yes."',
    )
    with serving(log, "--metrics", *arguments) as process:
        yield process


@dataclass
class PromptCache:
    """What llama-server says that it read from its cache."""

    server: Process
    before: tuple[float, float] = (0, 0)

    def since(self) -> tuple[float, float]:
        """Return the tokens of prompts since the last look, and how many of them were cached."""
        now, before = self._read(), self.before
        self.before = now
        cached = now[1] - before[1]
        return now[0] - before[0] + cached, cached

    def _read(self) -> tuple[float, float]:
        lines = httpx.get(f"{self.server.url}/metrics").text.splitlines()
        values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        total = float(values["llamacpp:prompt_tokens_total"])
        return total, float(values["llamacpp:prompt_tokens_cached_total"])


def test_a_real_model_reads_claude_codes_conversations_from_its_prompt_cache(
    agent: Agent,
    roomy_server: Process,
    set_model: SetModel,
    start_gateway: StartGateway,
) -> None:
    """By llama-server's own figures, with and without the gateway's mending. The second request of
    a conversation, and the first of another one, which has the same tools and the same system
    prompt but for the billing line."""
    set_model("cc-real", roomy_server.url, parallel=1)
    models = [{"name": "real", "llama_model": "cc-real"}]
    config = {**CONFIG.model_dump(), "models": models, "routes": {"default": "real"}}
    gateway = start_gateway(GatewayConfig.model_validate(config))
    cache = PromptCache(roomy_server)
    value = {}
    for name, route in (("with", gateway), ("without", roomy_server)):
        agent.gateway = route
        cache.since()
        assert "Yes." in agent.run("say hi", "--tools", "Read")
        first, _ = cache.since()
        assert "Yes." in agent.run("and again", "--continue", "--tools", "Read")
        second, cached = cache.since()
        assert "Yes." in agent.run("something else", "--tools", "Read")
        other, cached_of_other = cache.since()
        value[name] = (cached / first, cached_of_other / other)
        print(
            f"{name} the gateway: first {first:.0f} tokens; second {second:.0f}, {cached:.0f} from"
            f" the cache; another conversation {other:.0f}, {cached_of_other:.0f} from the cache"
        )
    assert value["with"][0] > 0.95
    assert value["with"][1] > 0.8, "all up to the question, which the environment comes after"
    assert value["without"][1] < 0.5
