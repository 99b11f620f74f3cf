"""What clients may send and must get, case by case, against the real gateway.

The models' servers are scripted where the real one cannot be made to show a case.
"""

from __future__ import annotations

import gzip
import json
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import brotli
import httpx
import ollama
import openai
import pytest
from backports import zstd

from hack.testbed.ports import free_port
from llama_halo.contract.gateway_config import GatewayConfig, RoutesConfig
from tests.support.api import eventually
from tests.support.gateway import NAMESPACE, Process, SetModel, StartGateway
from tests.support.scripted_server import Scripted, scripted

Json = dict[str, Any]
MODES = {"vectors": "Embedding", "judge": "Rerank"}
NAMES = ("coder", "small", "big", "long", "seer", "finder", "helper", "spare", *MODES)
KEY, OTHER = "key-of-alice-0123456789", "key-of-bob-0123456789"
CONFIG = GatewayConfig.model_validate(
    {
        "router": "tasks",
        "namespace": NAMESPACE,
        "models": [
            {"name": name, "llama_model": f"t-{name}", "aliases": aliases}
            for name, aliases in (
                ("coder", ["claude-*", "a/b"]),
                *((name, []) for name in NAMES if name != "coder"),
                ("gone", []),
            )
        ],
        "routes": {
            "default": "coder",
            "background": "small",
            "think": "big",
            "long_context": {"model": "long", "threshold_tokens": 2000},
            "web_search": "finder",
            "image": "seer",
            "subagent": "helper",
        },
        "fallbacks": {"coder": ["spare"], "gone": ["spare"]},
        "hold_seconds": 8,
        "ping_seconds": 0.5,
    }
)
TEXT = "Hello world!"
QUESTION: list[Any] = [{"role": "user", "content": "What is 2+2?"}]
READ = {"name": "Read", "description": "Read", "input_schema": {"type": "object"}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
PIXEL = "iVBORw0KGgo="
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}


@dataclass
class World:
    """A gateway with keys, and its models' servers."""

    gateway: Process
    servers: dict[str, Scripted]
    keys: Path
    set_model: SetModel

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        content = body if isinstance(body, (str, bytes)) else json.dumps(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.post(
            f"{self.gateway.url}{path}",
            content=content,
            headers={"x-api-key": KEY, **named},
            timeout=60,
        )

    def get(self, path: str, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {KEY}"}
        return httpx.get(f"{self.gateway.url}{path}", headers=headers, **more)

    def __getitem__(self, name: str) -> Scripted:
        return self.servers[name]


@pytest.fixture(scope="module")
def servers(set_model: SetModel) -> Iterator[dict[str, Scripted]]:
    with ExitStack() as stack:
        value = {name: stack.enter_context(scripted()) for name in NAMES}
        for name, server in value.items():
            can = ["Tools", "Vision"] if name == "seer" else ["Tools"]
            about = {"architecture": "qwen3", "capabilities": can, "contextSize": 8192}
            set_model(f"t-{name}", server.url, about=about, mode=MODES.get(name, "Chat"))
        yield value


@pytest.fixture(scope="module")
def gateway_with_keys(
    servers: dict[str, Scripted],
    start_gateway: StartGateway,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Process, Path]:
    keys = tmp_path_factory.mktemp("keys")
    (keys / "alice").write_text(KEY)
    return start_gateway(CONFIG, "--keys", keys), keys


@pytest.fixture
def world(
    gateway_with_keys: tuple[Process, Path], servers: dict[str, Scripted], set_model: SetModel
) -> World:
    for server in servers.values():
        server.wait_until_idle()
        server.asked.clear()
        server.mode, server.calls, server.ready_at, server.pause_seconds = "ok", False, 0.0, 0.0
        server.cut, server.stop, server.tokens, server.most_working = 0, None, 0, 0
    return World(*((gateway_with_keys[0], servers, gateway_with_keys[1], set_model)))


@pytest.fixture
def claude(world: World) -> Iterator[anthropic.Anthropic]:
    url = world.gateway.url
    with anthropic.Anthropic(base_url=url, api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture
def gpt(world: World) -> Iterator[openai.OpenAI]:
    url = f"{world.gateway.url}/v1"
    with openai.OpenAI(base_url=url, api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture
def llama(world: World) -> Iterator[ollama.Client]:
    client = ollama.Client(host=world.gateway.url, headers={"Authorization": f"Bearer {KEY}"})
    yield client
    client._client.close()


def message(**more: Any) -> Json:
    return {"model": "claude-opus-5-5", "max_tokens": 16, "messages": QUESTION, **more}


def main_request(**more: Any) -> Json:
    """Return a request as Claude Code sends it for its main conversation."""
    return message(
        stream=True,
        system=[
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.328.593"},
            {"type": "text", "text": "You are Claude Code."},
        ],
        messages=[*QUESTION, {"role": "system", "content": "Environment: linux"}],
        tools=[READ],
        **{"thinking": {"type": "adaptive"}, "output_config": {"effort": "medium"}, **more},
    )


class TestOpenPaths:
    """Cases 1 to 9."""

    @pytest.mark.parametrize("path", ["/", "/api/hello", "/healthz", "/readyz", "/api/version"])
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_what_clients_call_first_needs_no_key(
        self, world: World, path: str, method: str
    ) -> None:
        answer = httpx.request(method, f"{world.gateway.url}{path}")
        assert answer.status_code == 200
        if (path, method) == ("/", "GET"):
            assert "Ollama is running" in answer.text

    @pytest.mark.parametrize("path", ["batch", "v2/batch"])
    def test_telemetry_is_taken_and_dropped(self, world: World, path: str) -> None:
        url = f"{world.gateway.url}/api/event_logging/{path}"
        assert httpx.post(url, content="anything").json() == {}

    @pytest.mark.parametrize(
        ("path", "body", "error"),
        [
            ("/v1/messages", message(), ["error", "type"]),
            ("/v1/chat/completions", {"model": "coder", "messages": QUESTION}, ["error", "code"]),
            ("/api/chat", {"model": "coder", "messages": QUESTION}, ["error"]),
            ("/v1/models", None, ["error", "code"]),
        ],
    )
    @pytest.mark.parametrize(
        "headers", [{}, {"x-api-key": "wrong"}, {"Authorization": "Bearer wrong"}]
    )
    def test_without_a_key_it_is_401_in_the_apis_own_shape(
        self, world: World, path: str, body: Any, error: list[str], headers: dict[str, str]
    ) -> None:
        method = "POST" if body else "GET"
        answer = httpx.request(method, f"{world.gateway.url}{path}", json=body, headers=headers)
        assert answer.status_code == 401
        value = answer.json()
        for item in error:
            value = value[item]
        assert value
        assert not world["coder"].asked

    def test_a_key_opens_as_bearer_or_x_api_key_and_any_right_one_will_do(
        self, world: World
    ) -> None:
        url, body = f"{world.gateway.url}/v1/messages", message()
        for headers in (
            {"Authorization": f"Bearer {KEY}"},
            {"x-api-key": KEY},
            {"x-api-key": KEY, "Authorization": "Bearer wrong"},
        ):
            assert httpx.post(url, json=body, headers=headers).status_code == 200
        (world.keys / "bob").write_text(OTHER)

        def opens() -> bool:
            answer = httpx.post(url, json=body, headers={"x-api-key": OTHER})
            return answer.status_code == 200

        eventually(opens, seconds=5, description="a new key opens without a restart")
        (world.keys / "bob").unlink()
        eventually(
            lambda: not opens(), seconds=5, description="and one that was taken away does not"
        )

    def test_models_are_listed_at_once_whatever_answers(
        self, claude: anthropic.Anthropic, gpt: openai.OpenAI
    ) -> None:
        by_openai = [entry.id for entry in gpt.models.list()]
        assert by_openai == [entry.id for entry in claude.models.list(limit=1000)]
        assert {*NAMES, "gone", "a/b"} <= set(by_openai)
        entry = gpt.models.retrieve("coder")
        assert entry.model_dump()["context_length"] == 8192
        assert gpt.models.retrieve("a/b").id == "a/b"
        with pytest.raises(openai.NotFoundError) as unknown:
            gpt.models.retrieve("nope")
        assert unknown.value.code == "model_not_found"


class TestRoutes:
    """Cases 10 to 24."""

    def test_a_main_request_is_one_request_upstream_and_mended(self, world: World) -> None:
        answer = world.post("/v1/messages?beta=true", main_request())
        assert answer.status_code == 200
        assert answer.headers["x-model"] == "coder"
        (sent,) = world["coder"].generations()
        assert sent["stream"] is True
        assert "billing" not in json.dumps(sent)
        assert [block["role"] for block in sent["messages"]] == ["user"]
        assert "Environment: linux" in json.dumps(sent["messages"])
        _, headers, _ = world["coder"].asked[-1]
        assert not {header.lower() for header in headers} & {
            *("x-api-key", "authorization", "x-conversation-id", "cookie", "anthropic-version")
        }

    @pytest.mark.parametrize(
        ("body", "model"),
        [
            (message(output_config={"format": {"type": "json_schema"}}, stream=True), "small"),
            (main_request(model="claude-haiku-5-5"), "small"),
            (main_request(), "coder"),
            (main_request(output_config={"effort": "high"}), "big"),
            (main_request(output_config={"effort": "max"}), "big"),
            (main_request(thinking={"type": "enabled", "budget_tokens": 2000}), "big"),
            (main_request(thinking={"type": "disabled"}), "coder"),
            (
                message(tools=[{"type": "web_search_20250305", "name": "web_search"}]),
                "finder",
            ),
            (main_request(model="big"), "big"),
            (main_request(model="local,big"), "big"),
            (main_request(model="think"), "big"),
            (main_request(model="default"), "coder"),
            (message(messages=[{"role": "user", "content": [IMAGE]}], tools=[READ]), "seer"),
        ],
        ids=str,
    )
    def test_each_task_goes_to_its_model(self, world: World, body: Json, model: str) -> None:
        answer = world.post("/v1/messages", body)
        assert (answer.status_code, answer.headers["x-model"]) == (200, model)
        assert len(world[model].generations()) == 1
        assert not [name for name in NAMES if name != model and world[name].generations()]

    @pytest.mark.parametrize("where", ["last", "result", "older"])
    def test_an_image_never_reaches_a_model_that_is_blind(self, world: World, where: str) -> None:
        result = {"type": "tool_result", "tool_use_id": "t", "content": [IMAGE]}
        call = {"type": "tool_use", "id": "t", "name": "Read", "input": {}}
        text = {
            "last": [{"role": "user", "content": [IMAGE]}],
            "result": [
                *QUESTION,
                {"role": "assistant", "content": [call]},
                {"role": "user", "content": [result]},
            ],
            "older": [
                {"role": "user", "content": [IMAGE]},
                {"role": "assistant", "content": "a cat"},
                *QUESTION,
            ],
        }[where]
        for model in ("claude-opus-5-5", "coder"):
            answer = world.post("/v1/messages", main_request(model=model) | {"messages": text})
            assert (answer.headers["x-model"], answer.headers["x-route"]) == ("seer", "image")
        assert not world["coder"].asked

    def test_thinking_switches_and_budgets_go_up(self, world: World) -> None:
        world.post("/v1/messages", main_request(thinking={"type": "disabled"}))
        assert world["coder"].last["chat_template_kwargs"] == {"enable_thinking": False}
        thinking = {"type": "enabled", "budget_tokens": 2000}
        world.post("/v1/messages", main_request(thinking=thinking))
        assert world["big"].last["thinking"] == thinking

    @pytest.mark.parametrize(
        ("arguments", "counted", "model"),
        [(300, 0, "coder"), (1800, 1900, "coder"), (1800, 2001, "long"), (9000, 0, "long")],
        ids=["short", "just below", "just above", "long"],
    )
    def test_a_long_prompt_goes_to_the_long_route_by_the_models_own_count(
        self, world: World, arguments: int, counted: int, model: str
    ) -> None:
        world["coder"].tokens = counted
        body = main_request() | {"messages": [{"role": "user", "content": "word " * arguments}]}
        # A session of its own: one that was long stays where it is.
        answer = world.post("/v1/messages", body, x_claude_code_session_id=f"{arguments}-{counted}")
        assert answer.headers["x-model"] == model

    def test_a_conversation_that_was_long_does_not_bounce(self, world: World) -> None:
        def model(counted: int) -> str:
            world["coder"].tokens = counted
            body = main_request() | {"messages": [{"role": "user", "content": "word " * 1500}]}
            response = world.post("/v1/messages", body, x_claude_code_session_id="bounces")
            return response.headers["x-model"]

        assert [model(item) for item in (1990, 2010, 1990, 1610)] == ["coder", *(["long"] * 3)]
        assert model(1500) == "coder", "it was compacted"

    def test_a_prompt_longer_than_every_context_is_told_once(
        self, world: World, claude: anthropic.Anthropic, gpt: openai.OpenAI, llama: ollama.Client
    ) -> None:
        world["coder"].mode = "overflow"
        with pytest.raises(anthropic.BadRequestError) as long:
            claude.messages.create(model="coder", max_tokens=1, messages=QUESTION)
        assert "prompt is too long: 9031 tokens > 8192 maximum" in str(long.value)
        with pytest.raises(openai.BadRequestError) as also:
            gpt.chat.completions.create(model="coder", messages=QUESTION)
        assert also.value.code == "context_length_exceeded"
        with pytest.raises(ollama.ResponseError, match="exceeds the available context"):
            llama.chat("coder", QUESTION)
        assert len(world["coder"].generations()) == 3, "nothing is tried twice"

    def test_a_name_that_nothing_has_is_404_in_every_api(
        self, world: World, claude: anthropic.Anthropic, gpt: openai.OpenAI, llama: ollama.Client
    ) -> None:
        with pytest.raises(anthropic.NotFoundError):
            claude.messages.create(model="nope", max_tokens=1, messages=QUESTION)
        with pytest.raises(openai.NotFoundError):
            gpt.chat.completions.create(model="nope", messages=QUESTION)
        with pytest.raises(ollama.ResponseError, match="nope") as unknown:
            llama.chat("nope", QUESTION)
        assert unknown.value.status_code == 404

    def test_a_subagent_is_told_by_its_header_or_its_tag(self, world: World) -> None:
        answer = world.post("/v1/messages", main_request(), x_claude_code_agent_id="a1")
        assert (answer.headers["x-model"], answer.headers["x-route"]) == ("helper", "subagent")
        tag = "<CCR-SUBAGENT-MODEL>local,big</CCR-SUBAGENT-MODEL>"
        body = main_request() | {"messages": [{"role": "user", "content": f"{tag}Do it."}]}
        assert world.post("/v1/messages", body).headers["x-model"] == "big"
        assert "CCR-SUBAGENT" not in json.dumps(world["big"].last)
        assert "Do it." in json.dumps(world["big"].last)


ROBOT = {"model": "coder", "messages": [{"role": "robot", "content": "x"}]}
MALFORMED = [
    *(
        (path, body)
        for path in ("/v1/messages", "/v1/chat/completions", "/api/chat")
        for body in ('{"model":', "[]", {"messages": QUESTION}, "[" * 100_000)
    ),
    *(
        (path, body)
        for path in ("/v1/messages", "/v1/chat/completions")
        for body in ({"model": "coder"}, {"model": "coder", "messages": []}, ROBOT)
    ),
    *((path, {"model": "coder"}) for path in ("/v1/responses", "/v1/completions", "/api/embed")),
]


class TestAnthropic:
    """Cases 25 to 32."""

    def test_tokens_are_counted_by_the_model_and_guessed_when_it_does_not_answer(
        self, world: World, claude: anthropic.Anthropic
    ) -> None:
        world["coder"].tokens = 1234

        def count() -> int:
            return claude.messages.count_tokens(model="coder", messages=QUESTION).input_tokens

        with ThreadPoolExecutor(20) as pool:
            assert set(pool.map(lambda _: count(), range(20))) == {1234}
        world["coder"].mode = "loading"
        started = time.monotonic()
        assert 5 < count() < 60
        assert time.monotonic() - started < 2

    def test_a_tool_call_comes_whole(self, world: World, claude: anthropic.Anthropic) -> None:
        world["coder"].calls = True
        ask: Json = {"model": "coder", "max_tokens": 9, "messages": QUESTION, "tools": [READ]}
        whole = claude.messages.create(**ask)
        with claude.messages.stream(**ask) as stream:
            streamed = stream.get_final_message()
        for value in (whole, streamed):
            (block,) = value.content
            assert block.type == "tool_use"
            assert block.input == {"a": 1, "b": "ü"}
            assert value.stop_reason == "tool_use"

    def test_none_or_one_tool_is_offered_where_that_is_wanted(self, world: World) -> None:
        other = {**READ, "name": "Write"}
        body = message(model="coder", tools=[READ, other])
        world.post("/v1/messages", body | {"tool_choice": {"type": "none"}})
        assert "tools" not in world["coder"].last
        world.post("/v1/messages", body | {"tool_choice": {"type": "tool", "name": "Write"}})
        assert [tool["name"] for tool in world["coder"].last["tools"]] == ["Write"]

    def test_a_stop_sequence_is_the_reason(self, world: World, claude: anthropic.Anthropic) -> None:
        world["coder"].stop = "!"
        reply = claude.messages.create(
            model="coder", max_tokens=9, messages=QUESTION, stop_sequences=["!"]
        )
        assert (reply.stop_reason, reply.stop_sequence) == ("stop_sequence", "!")

    @pytest.mark.parametrize(("path", "body"), MALFORMED)
    def test_what_is_malformed_is_400_and_goes_no_further(
        self, world: World, path: str, body: Any
    ) -> None:
        assert world.post(path, body).status_code == 400
        assert not world["coder"].asked

    def test_a_body_that_is_too_large_is_413(self, world: World) -> None:
        answer = world.post("/v1/messages", b" " * (65 * 2**20))
        assert answer.status_code == 413
        assert answer.json()["error"]["type"] == "request_too_large"

    def test_without_anything_that_sees_an_image_is_400(
        self, start_gateway: StartGateway, servers: dict[str, Scripted]
    ) -> None:
        plain = start_gateway(CONFIG.model_copy(update={"routes": RoutesConfig(default="coder")}))
        body = message(model="coder", messages=[{"role": "user", "content": [IMAGE]}])
        answer = httpx.post(f"{plain.url}/v1/messages", json=body)
        assert answer.status_code == 400
        assert "takes no images: set routes.image" in answer.json()["error"]["message"]

    def test_a_templates_refusal_is_the_clients_fault(self, world: World) -> None:
        world["coder"].mode = "broken"
        assert world.post("/v1/messages", message(model="coder")).status_code == 400


def stream(world: World, path: str, body: Json) -> tuple[int, list[str], list[float]]:
    """Return status, lines, and when each came, since the request."""
    started, lines, times = time.monotonic(), list[str](), list[float]()
    url, headers = f"{world.gateway.url}{path}", {"x-api-key": KEY}
    with httpx.stream("POST", url, json=body, headers=headers, timeout=60) as answer:
        for line in answer.iter_lines():
            lines.append(line)
            times.append(time.monotonic() - started)
        return answer.status_code, lines, times


class TestWaiting:
    """Cases 33 to 47."""

    def test_a_stream_is_held_while_its_model_loads_and_told_so(self, world: World) -> None:
        world["coder"].ready_at = time.monotonic() + 4
        status, lines, times = stream(world, "/v1/messages", message(model="coder", stream=True))
        assert status == 200
        assert lines.count("event: ping") >= 5
        assert times[0] < 2
        assert lines.count("event: message_start") == lines.count("event: message_stop") == 1

    def test_openai_and_ollama_clients_see_nothing_of_the_wait_but_the_answer(
        self, world: World, gpt: openai.OpenAI, llama: ollama.Client
    ) -> None:
        world["coder"].ready_at = time.monotonic() + 2
        chunks = list(gpt.chat.completions.create(model="coder", messages=QUESTION, stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
        world["coder"].ready_at = time.monotonic() + 2
        parts = list(llama.chat("coder", QUESTION, stream=True))
        assert "".join(part.message.content or "" for part in parts) == TEXT
        assert len(parts) > 4, "empty ones meanwhile"
        world["coder"].ready_at = time.monotonic() + 1
        assert llama.chat("coder", QUESTION).message.content == TEXT

    def test_longer_than_its_time_nobody_is_held(self, world: World) -> None:
        world["spare"].mode = world["coder"].mode = "loading"
        answer = world.post("/v1/messages", message(model="big"))
        assert answer.status_code == 200
        world["big"].mode = "loading"
        answer = world.post("/v1/messages", message(model="big"))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "20")
        assert answer.json()["error"]["type"] == "api_error"

    def test_in_place_of_what_is_not_there_or_takes_no_connection_another_one_answers(
        self, world: World
    ) -> None:
        answer = world.post("/v1/messages", message(model="gone"))
        assert (answer.status_code, answer.headers["x-model"]) == (200, "spare")
        address = world["coder"].url
        world.set_model("t-coder", f"http://127.0.0.1:{free_port()}")
        try:
            eventually(
                lambda: (
                    world.post("/v1/messages", message(model="coder")).headers["x-model"] == "spare"
                ),
                seconds=20,
            )
        finally:
            about = {"architecture": "qwen3", "capabilities": ["Tools"], "contextSize": 8192}
            world.set_model("t-coder", address, about=about)
        eventually(
            lambda: world.post("/v1/messages", message(model="coder")).headers["x-model"] == "coder"
        )

    @pytest.mark.parametrize(
        ("path", "body", "ending"),
        [
            ("/v1/messages", message(model="coder", stream=True), "api_error"),
            (
                "/v1/chat/completions",
                {"model": "coder", "messages": QUESTION, "stream": True},
                "server_error",
            ),
            ("/v1/responses", {"model": "coder", "input": "x", "stream": True}, "response.failed"),
            ("/api/chat", {"model": "coder", "messages": QUESTION}, '{"error"'),
            ("/v1/completions", {"model": "coder", "prompt": "x", "stream": True}, "server_error"),
        ],
    )
    def test_a_server_that_dies_in_the_middle_is_told_in_the_apis_own_words(
        self, world: World, path: str, body: Json, ending: str
    ) -> None:
        world["coder"].mode = "die"
        status, lines, _ = stream(world, path, body)
        assert status == 200
        assert ending in "\n".join(lines[-4:])
        assert "[DONE]" not in lines
        assert not world["spare"].asked, "nothing is begun anew elsewhere"

    def test_one_that_leaves_frees_what_it_waited_for(self, world: World) -> None:
        """In the queue, while it is held, and while its prompt is processed."""
        small = world["small"]
        world.set_model("t-small", small.url, parallel=1)
        small.pause_seconds = 3
        url, headers = f"{world.gateway.url}/v1/messages", {"x-api-key": KEY}
        body = message(model="small")

        def leave(seconds: float) -> None:
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(url, json=body, headers=headers, timeout=httpx.Timeout(seconds))

        time.sleep(0.5)
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(leave, (0.6, 0.8, 0.8)))
        eventually(lambda: _in_flight(world) == 0, seconds=1.5, description="nobody is left")
        small.pause_seconds, small.mode = 0, "loading"
        leave(0.5)
        asked = len(small.asked)
        small.mode = "ok"
        time.sleep(1)
        assert len(small.asked) == asked, "what nobody waits for is not begun"

    def test_more_than_slots_and_queue_hold_are_told_to_come_again(self, world: World) -> None:
        finder = world["finder"]
        world.set_model("t-finder", finder.url, parallel=2)
        time.sleep(0.5)
        finder.pause_seconds = 0.15

        def ask(number: int) -> httpx.Response:
            session = {"user_id": f"user {number % 9}"}
            return world.post("/v1/messages", message(model="finder", metadata=session))

        with ThreadPoolExecutor(90) as pool:
            value = list(pool.map(ask, range(90)))
        codes = [item.status_code for item in value]
        assert codes.count(200) >= 66
        assert codes.count(200) + codes.count(429) == 90
        assert codes.count(429) > 0
        assert finder.most_working <= 2
        refused = next(item for item in value if item.status_code == 429)
        assert refused.headers["retry-after"] == "5"
        assert refused.json()["error"]["type"] == "rate_limit_error"

    def test_a_stream_that_falls_silent_gets_heartbeats(self, world: World) -> None:
        world["coder"].mode = "silent"
        url, headers = f"{world.gateway.url}/v1/messages", {"x-api-key": KEY}
        body, pings = message(model="coder", stream=True), 0
        with httpx.stream("POST", url, json=body, headers=headers, timeout=10) as answer:
            for line in answer.iter_lines():
                pings += line == "event: ping"
                if pings == 3:
                    return

    @pytest.mark.parametrize("size", [1, 3])
    def test_however_the_bytes_are_cut_the_events_are_whole(self, world: World, size: int) -> None:
        world["coder"].cut = size
        world["coder"].calls = True
        answer = world.post("/v1/messages", message(model="coder"))
        assert answer.json()["content"][0]["input"] == {"a": 1, "b": "ü"}

    def test_a_slow_reader_holds_nobody_up_and_costs_no_memory(self, world: World) -> None:
        url, headers = f"{world.gateway.url}/v1/messages", {"x-api-key": KEY}
        slow = [
            threading.Thread(target=_read_slowly, args=(url, headers, message(model="long")))
            for _ in range(20)
        ]
        for item in slow:
            item.start()
        started = time.monotonic()
        assert world.post("/v1/messages", message(model="coder")).status_code == 200
        assert time.monotonic() - started < 2
        for entry in slow:
            entry.join()


def _read_slowly(url: str, headers: Json, body: Json) -> None:
    with httpx.stream("POST", url, json={**body, "stream": True}, headers=headers) as answer:
        for _ in answer.iter_bytes(64):
            time.sleep(0.05)


def _in_flight(world: World) -> float:
    text = httpx.get(f"{world.gateway.url}/metrics").text
    name = "llama_halo_gateway_requests_in_flight "
    return float(next(line for line in text.splitlines() if line.startswith(name)).split()[1])


class TestOpenAI:
    """Cases 48 to 56."""

    def test_tools_stream_by_their_pieces(self, world: World, gpt: openai.OpenAI) -> None:
        world["coder"].calls = True
        ask: Json = {"model": "coder", "messages": QUESTION, "tools": [TOOL]}
        whole = gpt.chat.completions.create(**ask)
        (call,) = whole.choices[0].message.tool_calls or []
        assert call.type == "function"
        assert json.loads(call.function.arguments) == {"a": 1, "b": 2}
        assert whole.choices[0].finish_reason == "tool_calls"
        pieces = [
            part.function.arguments or ""
            for chunk in gpt.chat.completions.create(**ask, stream=True)
            for part in chunk.choices[0].delta.tool_calls or ()
            if part.function
        ]
        assert json.loads("".join(pieces)) == {"a": 1, "b": 2}

    def test_what_only_the_server_reads_goes_through(
        self, world: World, gpt: openai.OpenAI
    ) -> None:
        schema: Json = {"name": "x", "schema": {"type": "object"}}
        gpt.chat.completions.create(
            model="coder",
            messages=[
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": "hi"},
                {"role": "system", "content": "late"},
            ],
            response_format={"type": "json_schema", "json_schema": schema},
            max_completion_tokens=5,
            parallel_tool_calls=False,
            logprobs=True,
            n=2,
        )
        sent = world["coder"].last
        assert [block["role"] for block in sent["messages"]] == ["system", "user"]
        assert sent["messages"][1]["content"] == "hi\n\nlate"
        assert sent["response_format"]["json_schema"] == schema
        assert (sent["max_completion_tokens"], sent["n"], sent["logprobs"]) == (5, 2, True)

    def test_responses_stream_and_come_whole(self, world: World, gpt: openai.OpenAI) -> None:
        whole = gpt.responses.create(model="coder", input="hi")
        assert whole.output_text == TEXT
        assert whole.model == "coder"
        kinds = [
            chunk.type for chunk in gpt.responses.create(model="coder", input="x", stream=True)
        ]
        assert kinds[0] == "response.created"
        assert kinds[-1] == "response.completed"
        with pytest.raises(openai.BadRequestError, match="previous_response_id"):
            gpt.responses.create(model="coder", input="x", previous_response_id="resp_1")
        assert world.get("/v1/responses/resp_1").status_code == 404

    @pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
    def test_a_body_may_come_compressed(self, world: World, encoding: str) -> None:
        body = json.dumps({"model": "coder", "messages": QUESTION}).encode()
        packed = {
            "gzip": gzip.compress,
            "deflate": zlib.compress,
            "br": brotli.compress,
            "zstd": zstd.compress,
        }[encoding](body)
        headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
        answer = world.post("/v1/chat/completions", packed, **headers)
        assert answer.status_code == 200, answer.text
        bad = world.post("/v1/chat/completions", b"no such thing", **headers)
        assert bad.status_code == 400

    def test_a_bomb_ends_at_the_limit(self, world: World) -> None:
        packed = brotli.compress(b"[" + b" " * 2**26)
        answer = world.post("/v1/chat/completions", packed, Content_Encoding="br")
        assert answer.status_code == 413

    @pytest.mark.parametrize(
        "path", ["/v1/chat/completions/", "/v1/messages/", "/v1/completions/", "/v1/responses/"]
    )
    def test_a_slash_at_the_end_is_no_other_path(self, world: World, path: str) -> None:
        body = {"model": "coder", "max_tokens": 5, "messages": QUESTION}
        asked = body | {"prompt": "x", "input": "x"}
        assert world.post(path, asked).status_code == 200
        assert world.get("/v1/models/").json() == world.get("/v1/models").json()

    def test_a_name_that_only_a_pattern_knows_has_an_entry(self, world: World) -> None:
        live = world.get("/v1/models/claude-opus-5-5")
        assert live.status_code == 200
        assert live.json()["id"] == "claude-opus-5-5"
        assert world.get("/v1/models/gpt-nothing").status_code == 404

    def test_embeddings_and_rerankings(self, world: World, gpt: openai.OpenAI) -> None:
        reply = gpt.embeddings.create(model="vectors", input=["a"], encoding_format="float")
        assert reply.data[0].embedding == [3.0, 4.0]
        body = {"model": "judge", "query": "q", "documents": ["a"]}
        answer = world.post("/v1/rerank", body).json()
        assert answer["results"] == [{"index": 0, "relevance_score": 0.5}]
        for path in ("/v1/embeddings", "/v1/rerank"):
            assert world.post(path, {"model": "coder"}).status_code == 400

    @pytest.mark.parametrize(
        ("path", "body", "text"),
        [
            (
                "/v1/embeddings",
                {"model": "coder", "input": "a"},
                "model coder has mode Chat: ask it at /v1/chat/completions, /v1/responses or"
                " /v1/messages, or ask a model with spec.mode Embedding",
            ),
            (
                "/v1/chat/completions",
                {"model": "vectors", "messages": QUESTION},
                "model vectors has mode Embedding: ask it at /v1/embeddings, or ask a model with"
                " spec.mode Chat",
            ),
            (
                "/v1/messages",
                {"model": "judge", "max_tokens": 1, "messages": QUESTION},
                "model judge has mode Rerank: ask it at /v1/rerank, or ask a model with spec.mode"
                " Chat",
            ),
            ("/api/embed", {"model": "judge", "input": "a"}, "spec.mode Embedding"),
        ],
    )
    def test_a_model_is_asked_for_what_it_is_for(
        self, world: World, path: str, body: Json, text: str
    ) -> None:
        answer = world.post(path, body)
        assert answer.status_code == 400
        assert text in answer.text
        assert not any(world[name].asked for name in NAMES)

    def test_a_recording_is_passed_on_and_what_is_said_comes_back(
        self, world: World, gpt: openai.OpenAI
    ) -> None:
        reply = gpt.audio.transcriptions.create(
            model="coder", file=("speech.wav", b"RIFF\x00\xff" * 1000), language="de"
        )
        assert reply.text == TEXT
        path, _, sent = world["coder"].asked[-1]
        assert path == "/v1/audio/transcriptions"
        assert sent["form"].count("RIFF\x00\xff") == 1000
        assert 'filename="speech.wav"' in sent["form"]
        assert 'name="language"' in sent["form"]

    @pytest.mark.parametrize(
        ("form", "missing"),
        [
            ({"files": {"file": ("a.wav", b"x")}}, "model"),
            ({"data": {"model": "coder"}, "files": {"other": ("a.wav", b"x")}}, "file"),
            ({"data": {"model": "coder", "stream": "true"}, "files": {"file": b"x"}}, "stream"),
            ({"json": {"model": "coder"}}, "form"),
            (
                {"content": b"no form", "headers": {"Content-Type": "multipart/form-data"}},
                "form",
            ),
            (
                {
                    "content": b"--b\r\n\r\nx",
                    "headers": {"Content-Type": "multipart/form-data; boundary=b"},
                },
                "form",
            ),
        ],
        ids=lambda value: str(value)[:30],
    )
    def test_a_form_without_what_it_needs_is_400(
        self, world: World, form: Json, missing: str
    ) -> None:
        headers = {"x-api-key": KEY, **form.pop("headers", {})}
        url = f"{world.gateway.url}/v1/audio/transcriptions"
        answer = httpx.post(url, headers=headers, **form)
        assert answer.status_code == 400
        assert missing in answer.json()["error"]["message"]
        assert not world["coder"].asked

    def test_completions_stream_and_come_whole(self, gpt: openai.OpenAI) -> None:
        assert gpt.completions.create(model="coder", prompt="x").choices[0].text == TEXT
        chunks = list(gpt.completions.create(model="coder", prompt="x", stream=True))
        assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == TEXT


class TestOllama:
    """Cases 57 to 60."""

    def test_lists_and_descriptions(self, world: World, llama: ollama.Client) -> None:
        names = [model.model for model in llama.list().models]
        assert "coder:latest" in names
        for name in ("seer", "seer:latest"):
            description = llama.show(name)
            assert {"completion", "tools", "vision"} <= set(description.capabilities or ())
            assert (description.modelinfo or {})["qwen3.context_length"] == 8192
        assert {model.model for model in llama.ps().models} >= {"coder:latest", "seer:latest"}
        with pytest.raises(ollama.ResponseError) as unknown:
            llama.show("nope")
        assert unknown.value.status_code == 404

    def test_a_chat_with_tools_a_picture_and_options(
        self, world: World, llama: ollama.Client
    ) -> None:
        world["coder"].calls = True
        exchange = llama.chat(
            "coder:latest",
            QUESTION,
            tools=[TOOL],
            options={"num_ctx": 131072, "num_predict": 5},
            keep_alive=-1,
            think=False,
            format="json",
        )
        (call,) = exchange.message.tool_calls or []
        assert (call.function.name, call.function.arguments) == ("add", {"a": 1, "b": 2})
        assert exchange.done_reason == "stop"
        assert (exchange.prompt_eval_count, exchange.eval_count) == (7, 3)
        assert exchange.eval_duration == 3_000_000
        sent = world["coder"].last
        assert sent["max_tokens"] == 5
        assert sent["chat_template_kwargs"] == {"enable_thinking": False}
        assert "num_ctx" not in json.dumps(sent)
        llama.chat("seer", [{"role": "user", "content": "look", "images": [PIXEL]}])
        assert "data:image/png;base64" in json.dumps(world["seer"].last)

    def test_a_prompt_plain_and_between_two_pieces(
        self, world: World, llama: ollama.Client
    ) -> None:
        assert llama.generate("coder", "x").response == TEXT
        assert llama.generate("coder", "x", raw=True).response == TEXT
        assert world["coder"].asked[-1][0] == "/v1/completions"
        parts = list(llama.generate("coder", "a", suffix="b", stream=True))
        assert "".join(part.response for part in parts) == TEXT
        assert world["coder"].asked[-1][0] == "/infill"
        empty = llama.generate("coder", "")
        assert (empty.response, empty.done_reason) == ("", "load")
        body = {"model": "coder", "messages": [], "keep_alive": 0}
        assert world.post("/api/chat", body).json()["done_reason"] == "unload"

    def test_embeddings(self, llama: ollama.Client) -> None:
        assert llama.embed("vectors", "x").embeddings == [[0.6, 0.8]]
        assert llama.embeddings("vectors", "x").embedding == [3.0, 4.0]
        assert llama.show("vectors").capabilities == ["embedding"]

    def test_what_is_the_clusters_to_do_is_not_done_here(
        self, world: World, llama: ollama.Client
    ) -> None:
        assert llama.pull("coder").status == "success"
        assert [chunk.status for chunk in llama.pull("coder", stream=True)][-1] == "success"
        with pytest.raises(ollama.ResponseError) as unknown:
            llama.pull("nope")
        assert unknown.value.status_code == 404
        for path in ("/api/create", "/api/delete", "/api/copy", "/api/push"):
            assert world.post(path, {"model": "coder"}).status_code == 501


class TestLeftovers:
    """Case 63, and what nobody should have to ask for."""

    def test_metrics_tell_of_tokens_clients_and_routes_and_of_no_content(
        self, world: World
    ) -> None:
        agent = "claude-cli/2.1.328 (external, cli)"
        world.post("/v1/messages", main_request(), user_agent=agent)
        text = httpx.get(f"{world.gateway.url}/metrics").text
        labels = 'api="anthropic",client="claude-code",model="coder",route="explicit",status="200"'
        assert f"llama_halo_gateway_requests_total{{{labels}}}" in text
        for kind, least in (("prompt", 7), ("cached", 4), ("answer", 3)):
            line = f'llama_halo_gateway_tokens_total{{kind="{kind}",model="coder"}}'
            value = next(item for item in text.splitlines() if item.startswith(line))
            assert float(value.split()[-1]) >= least
        logs = list(world.keys.parent.glob("gateway*/*.log"))
        assert logs
        report = text + "".join(log.read_text() for log in logs)
        assert KEY not in report
        assert "2+2" not in report

    def test_base_urls_that_are_mistaken_are_told(self, world: World) -> None:
        assert "twice" in world.post("/v1/v1/messages", message()).text
        assert "/v1/messages (Anthropic)" in world.post("/messages", message()).text

    def test_a_page_of_another_site_may_ask_with_a_key_and_is_asked_no_key_before(
        self, world: World, gateway: Process
    ) -> None:
        asks = {
            "Origin": "https://webui.example.com",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        }
        for path in ("/v1/messages", "/v1/chat/completions", "/api/chat"):
            answer = httpx.options(f"{world.gateway.url}{path}", headers=asks)
            assert answer.status_code == 204
            assert answer.headers["access-control-allow-origin"] == "*"
            assert "authorization" in answer.headers["access-control-allow-headers"]
        answer = world.post("/v1/messages", message(), Origin="https://webui.example.com")
        assert answer.headers["access-control-allow-origin"] == "*"
        without_keys = httpx.options(f"{gateway.url}/v1/messages", headers=asks)
        assert without_keys.status_code == 204
        assert "access-control-allow-origin" not in without_keys.headers
