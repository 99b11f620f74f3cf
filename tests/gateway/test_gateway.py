"""The two APIs end to end: real SDKs, a real gateway, a real llama-server, a real model."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anthropic
import httpx
import openai
import pytest

from hack.testbed.ports import free_port
from llama_halo.contract.gateway_config import GatewayConfig
from tests.support.api import Api, eventually
from tests.support.gateway import (
    CONFIG,
    NAMESPACE,
    Process,
    SetModel,
    StartGateway,
    answers,
    busy_slots,
    serving,
    stream_texts,
)

QUESTION: list[Any] = [{"role": "user", "content": "What is 2+2?"}]
# The server ignores the end token: this takes more than ten seconds on the CPU.
ENDLESS = {"model": "coder", "max_tokens": 1900, "messages": QUESTION}
SMILE = "🙂 hi."
Json = dict[str, Any]


@pytest.fixture
def claude(gateway: Process) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def gpt(gateway: Process) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def post(gateway: Process, path: str, body: Any, **more: Any) -> httpx.Response:
    content = body if isinstance(body, (bytes, str)) else json.dumps(body)
    return httpx.post(f"{gateway.url}{path}", content=content, timeout=60, **more)


@pytest.fixture(scope="module")
def smiling(
    set_model: SetModel,
    start_gateway: StartGateway,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Process]:
    log = tmp_path_factory.mktemp("smiling") / "server.log"
    with serving(log, "--ctx-size", "1024", "--grammar", f'root ::= "{SMILE}"') as server:
        set_model("smiling", server.url)
        models = [{"name": "smiling", "llama_model": "smiling"}]
        config = {"router": "smile", "namespace": NAMESPACE, "models": models}
        yield start_gateway(GatewayConfig.model_validate(config))


class TestBrokenLetters:
    """llama-server forgets how its answer begins when the first token is a part of a letter."""

    def test_an_anthropic_answer_begins(self, smiling: Process) -> None:
        with anthropic.Anthropic(base_url=smiling.url, api_key="none", max_retries=0) as client:
            ask: Json = {"model": "smiling", "max_tokens": 24, "messages": QUESTION}
            with client.messages.stream(**ask) as stream:
                streamed = stream.get_final_message()
            for message in (streamed, client.messages.create(**ask)):
                assert message.content[0].type == "text"
                assert message.content[0].text == SMILE
                assert (message.role, message.model) == ("assistant", "smiling")

    def test_an_openai_answer_begins_once(self, smiling: Process) -> None:
        url = f"{smiling.url}/v1"
        with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
            events = list(client.responses.create(model="smiling", input="x", stream=True))
            kinds = [event.type for event in events]
            assert kinds.count("response.created") == 1
            assert kinds[-1] == "response.completed"
            reply = client.chat.completions.create(model="smiling", messages=QUESTION)
            assert reply.choices[0].message.content == SMILE


class TestAnthropic:
    def test_a_stream_and_one_answer_say_the_same(self, claude: anthropic.Anthropic) -> None:
        ask: Json = {
            "model": "claude-opus-5-5",
            "max_tokens": 24,
            "messages": QUESTION,
            "extra_body": {"temperature": 0},
        }
        with claude.messages.stream(**ask) as stream:
            pieces = list(stream.text_stream)
            streamed = stream.get_final_message()
        whole = claude.messages.create(**ask)
        assert len(pieces) > 3
        assert streamed.content[0].type == whole.content[0].type == "text"
        assert "".join(pieces) == streamed.content[0].text == whole.content[0].text
        assert streamed.model == whole.model == "claude-opus-5-5"
        assert whole.stop_reason in ("end_turn", "max_tokens")
        assert whole.usage.output_tokens > 0

    def test_tokens_are_counted_as_llama_server_counts_them(
        self, claude: anthropic.Anthropic, llama_server: Process
    ) -> None:
        counted = claude.messages.count_tokens(model="coder", messages=QUESTION).input_tokens
        body = {"model": "x", "messages": QUESTION}
        path = f"{llama_server.url}/v1/messages/count_tokens"
        assert counted == httpx.post(path, json=body).json()["input_tokens"]

    def test_a_request_as_claude_code_sends_it_is_answered(self, gateway: Process) -> None:
        body = {
            "model": "claude-opus-5-5",
            "max_tokens": 8,
            "stream": True,
            "system": [
                {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.328.593"},
                {"type": "text", "text": "You are Claude Code."},
            ],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "hi"}]},
                {"role": "system", "content": "Environment: linux"},
            ],
            "tools": [
                {"name": "Read", "description": "Read", "input_schema": {"type": "object"}},
                {"type": "web_search_20250305", "name": "web_search"},
            ],
            "thinking": {"type": "adaptive"},
            "metadata": {"user_id": "{}"},
        }
        answer = post(gateway, "/v1/messages?beta=true", body)
        assert answer.status_code == 200
        assert "event: message_stop" in answer.text
        assert answer.headers["x-route"] == "explicit"
        assert answer.headers["request-id"].startswith("req_")

    def test_a_side_task_goes_to_the_background_route(self, gateway: Process) -> None:
        body = {"model": "claude-opus-5-5", "max_tokens": 2, "messages": QUESTION}
        claude = {"User-Agent": "claude-cli/2.1.331 (external, cli)"}
        response = post(gateway, "/v1/messages", body, headers=claude)
        assert response.headers["x-model"] == "small"
        body["model"] = "coder"
        assert post(gateway, "/v1/messages", body).headers["x-model"] == "coder"

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            ('{"model":', "the request body is not JSON"),
            ([], "must be a JSON object"),
            ({"messages": QUESTION}, "model: a model name is required"),
            ({"model": "coder"}, "messages: a list with at least one message"),
            ({"model": "coder", "messages": []}, "messages: a list with at least one message"),
            (
                {"model": "coder", "messages": [{"role": "robot", "content": "x"}]},
                "messages.0.role: must be one of",
            ),
            ({"model": "coder", "messages": [{"role": "user"}]}, "messages.0.content"),
        ],
    )
    def test_a_bad_request_is_400_in_anthropics_shape(
        self, gateway: Process, body: Any, says: str
    ) -> None:
        answer = post(gateway, "/v1/messages", body)
        assert answer.status_code == 400
        assert answer.json()["type"] == "error"
        assert answer.json()["error"]["type"] == "invalid_request_error"
        assert says in answer.json()["error"]["message"]

    def test_an_unknown_model_is_404(self, claude: anthropic.Anthropic) -> None:
        with pytest.raises(anthropic.NotFoundError, match="'nope' does not exist"):
            claude.messages.create(model="nope", max_tokens=1, messages=QUESTION)

    def test_a_prompt_that_is_too_long_is_told_so_that_claude_code_compacts(
        self, gateway: Process
    ) -> None:
        body = {
            "model": "coder",
            "max_tokens": 1,
            "stream": True,
            "messages": [{"role": "user", "content": "word " * 3000}],
        }
        answer = post(gateway, "/v1/messages", body)
        assert answer.status_code == 400
        message = answer.json()["error"]["message"]
        assert message.startswith("prompt is too long: 30")
        assert message.endswith(" tokens > 2048 maximum")

    @pytest.mark.parametrize(
        ("model", "says"),
        [
            ("away", "is not available now: Loading"),
            ("missing", "LlamaModel nobody does not exist in namespace gateway (yet)"),
            ("broken", "refuses connections"),
        ],
    )
    def test_a_model_that_does_not_answer_is_503_and_worth_a_retry(
        self, gateway: Process, model: str, says: str
    ) -> None:
        body = {"model": model, "max_tokens": 1, "messages": QUESTION}
        answer = post(gateway, "/v1/messages", body)
        assert answer.status_code == 503
        assert answer.json()["error"]["type"] == "api_error"
        assert says in answer.json()["error"]["message"]
        assert int(answer.headers["retry-after"]) > 0


class TestOpenAI:
    def test_a_stream_and_one_answer_say_the_same(self, gpt: openai.OpenAI) -> None:
        ask: Json = {"model": "gpt-4o", "max_tokens": 24, "messages": QUESTION, "temperature": 0}
        whole = gpt.chat.completions.create(**ask)
        chunks = list(gpt.chat.completions.create(**ask, stream=True))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert text == whole.choices[0].message.content
        assert {chunk.model for chunk in chunks} == {whole.model} == {"gpt-4o"}
        assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
        assert whole.usage is not None
        assert whole.usage.completion_tokens > 0

    def test_usage_is_streamed_when_it_is_asked_for(self, gpt: openai.OpenAI) -> None:
        ask: Json = {"model": "coder", "max_tokens": 4, "messages": QUESTION, "stream": True}
        with_usage = list(
            gpt.chat.completions.create(**ask, stream_options={"include_usage": True})
        )
        assert with_usage[-1].choices == []
        assert with_usage[-1].usage is not None
        assert all(chunk.choices for chunk in gpt.chat.completions.create(**ask))

    def test_two_choices_are_told_apart(self, gpt: openai.OpenAI) -> None:
        answer = gpt.chat.completions.create(model="coder", max_tokens=4, messages=QUESTION, n=2)
        assert [choice.index for choice in answer.choices] == [0, 1]
        assert all(choice.message.content for choice in answer.choices)

    def test_errors_have_openais_shape(self, gateway: Process, gpt: openai.OpenAI) -> None:
        with pytest.raises(openai.NotFoundError) as unknown:
            gpt.chat.completions.create(model="nope", messages=QUESTION)
        assert unknown.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError) as long:
            arguments: list[Any] = [{"role": "user", "content": "word " * 3000}]
            gpt.chat.completions.create(model="coder", messages=arguments)
        assert long.value.code == "context_length_exceeded"
        answer = post(gateway, "/v1/chat/completions", '{"model":')
        assert answer.status_code == 400
        assert answer.json()["error"]["type"] == "invalid_request_error"

    def test_what_is_not_served_is_404_and_says_what_is(self, gateway: Process) -> None:
        answer = httpx.get(f"{gateway.url}/v1/v1/messages")
        assert answer.status_code == 404
        assert "/v1 twice" in answer.json()["error"]["message"]
        for path in ("/v1/v1/messages", "/messages", "/v1/messages/batches"):
            assert httpx.post(f"{gateway.url}{path}").json()["type"] == "error", "Anthropic's"
        assert "/v1/messages (Anthropic)" in httpx.get(f"{gateway.url}/x").text


class TestModels:
    def test_both_sdks_list_every_name(
        self, claude: anthropic.Anthropic, gpt: openai.OpenAI
    ) -> None:
        names = ["coder", "small", "away", "missing", "broken"]
        also = ["house/model", "smollm2", "gpt-4o", "little"]
        by_openai = [entry.id for entry in gpt.models.list()]
        by_anthropic = [entry.id for entry in claude.models.list(limit=1000)]
        assert by_openai == by_anthropic
        assert by_openai[:5] == names
        assert set(also) <= set(by_openai)

    def test_one_model_is_described(self, gateway: Process) -> None:
        value = httpx.get(f"{gateway.url}/v1/models/house%2Fmodel").json()
        assert value["context_length"] == 2048
        assert value["display_name"] == "The smollm2"
        assert httpx.get(f"{gateway.url}/v1/models/nope").status_code == 404

    def test_a_model_that_comes_and_goes_is_seen_at_once(
        self, api: Api, gateway: Process, set_model: SetModel, llama_server: Process
    ) -> None:
        def status() -> int:
            body = {"model": "missing", "max_tokens": 1, "messages": QUESTION}
            return post(gateway, "/v1/messages", body).status_code

        set_model("nobody", llama_server.url)
        try:
            eventually(lambda: status() == 200, seconds=5)
        finally:
            api.delete("LlamaModel", NAMESPACE, "nobody")
        eventually(lambda: status() == 503, seconds=5)


class TestLife:
    @pytest.mark.parametrize("stream", [True, False], ids=["streamed", "not streamed"])
    @pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
    def test_a_client_that_goes_away_frees_its_slot(
        self, gateway: Process, llama_server: Process, path: str, stream: bool
    ) -> None:
        eventually(lambda: busy_slots(llama_server) == 0)
        body = {**ENDLESS, "stream": stream}
        timeout = httpx.Timeout(5, read=1.0)
        url = f"{gateway.url}{path}"
        if stream:
            with httpx.stream("POST", url, json=body, timeout=timeout) as answer:
                lines = answer.iter_lines()
                next(lines)
                eventually(lambda: busy_slots(llama_server) == 1, seconds=2)
        else:
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(url, json=body, timeout=timeout)
        eventually(lambda: busy_slots(llama_server) == 0, seconds=2, description="the slot is free")

    @pytest.mark.slow
    def test_at_sigterm_open_streams_finish_and_new_connections_are_refused(
        self, start_gateway: StartGateway, gateway: Process
    ) -> None:
        old = start_gateway(CONFIG, "--grace-seconds", "300")
        body = {**ENDLESS, "stream": True}
        lines: list[str] = []

        def read() -> None:
            url = f"{old.url}/v1/messages"
            with httpx.stream("POST", url, json=body, timeout=120) as answer:
                lines.extend(answer.iter_lines())

        reader = threading.Thread(target=read)
        reader.start()
        eventually(lambda: len(lines) > 5)
        old.terminate()
        eventually(lambda: httpx.get(f"{old.url}/readyz").status_code == 503, seconds=2)
        time.sleep(5.5)
        assert reader.is_alive(), "the story is long enough to outlive the listener"
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{old.url}/readyz")
        reader.join(timeout=300)
        assert "event: message_stop" in lines
        assert len("".join(stream_texts(iter(lines)))) > 100
        assert old.popen.wait(timeout=10) == 0

    def test_metrics_name_model_and_route_and_logs_hold_no_content(self, gateway: Process) -> None:
        body = {"model": "coder", "max_tokens": 1, "messages": QUESTION}
        post(gateway, "/v1/messages", body)
        text = httpx.get(f"{gateway.url}/metrics").text
        labels = 'api="anthropic",client="other",model="coder",route="explicit",status="200"'
        assert f"llama_halo_gateway_requests_total{{{labels}}}" in text
        assert "2+2" not in text

    def test_the_calls_of_claude_codes_start_are_answered(self, gateway: Process) -> None:
        assert httpx.head(f"{gateway.url}/api/hello").status_code == 200
        assert httpx.get(f"{gateway.url}/").status_code == 200
        assert post(gateway, "/api/event_logging/batch", {"events": []}).json() == {}


class DyingServer(BaseHTTPRequestHandler):
    """A server that ends in the middle of a stream, as a crashing llama-server does."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        if self.path == "/v1/messages":
            message = {"type": "message_start", "message": {"content": [], "usage": {}}}
            self.wfile.write(f"event: message_start\ndata: {json.dumps(message)}\n\n".encode())
        else:
            chunk = {"choices": [{"index": 0, "delta": {"content": "x"}}]}
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="class")
def dying(api: Api, set_model: SetModel, gateway: Process) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), DyingServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    set_model("nobody", f"http://127.0.0.1:{server.server_address[1]}")

    def is_available() -> bool:
        return bool(httpx.get(f"{gateway.url}/v1/models/missing").json()["available"])

    eventually(is_available)
    yield "missing"
    server.shutdown()
    server.server_close()
    api.delete("LlamaModel", NAMESPACE, "nobody")
    eventually(lambda: not is_available())


class TestUpstreamDeath:
    def test_an_anthropic_stream_ends_in_an_error_event(self, gateway: Process, dying: str) -> None:
        body = {"model": dying, "max_tokens": 9, "stream": True, "messages": QUESTION}
        answer = post(gateway, "/v1/messages", body)
        assert answer.status_code == 200
        last = answer.text.strip().split("\n\n")[-1]
        assert last.startswith("event: error\n")
        assert json.loads(last.partition("data: ")[2])["error"]["type"] == "api_error"

    def test_an_openai_stream_ends_in_an_error_and_is_not_done(
        self, gateway: Process, dying: str
    ) -> None:
        body = {"model": dying, "stream": True, "messages": QUESTION}
        answer = post(gateway, "/v1/chat/completions", body)
        assert "[DONE]" not in answer.text
        last = answer.text.strip().split("\n\n")[-1]
        assert "error" in json.loads(last.removeprefix("data: "))

    @pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
    def test_an_answer_in_one_piece_is_502(self, gateway: Process, dying: str, path: str) -> None:
        body = {"model": dying, "max_tokens": 9, "messages": QUESTION}
        assert post(gateway, path, body).status_code == 502


@pytest.mark.slow
def test_beside_an_engine_it_says_when_nothing_is_open(
    gateway: Process, start_gateway: StartGateway
) -> None:
    """What the kubelet asks before an engine is told to end; models are not served there. The
    models are those of another gateway."""
    assert gateway.url
    port = free_port()
    beside = start_gateway(CONFIG, "--admin-port", str(port))
    admin = f"http://127.0.0.1:{port}"
    assert answers(f"{admin}/readyz")
    assert answers(f"{admin}/metrics")
    assert answers(f"{admin}/v1/models", 404)
    assert answers(f"{beside.url}/drained", 404)
    body = {"model": "smollm2", "max_tokens": 1500, "stream": True, "messages": QUESTION}
    with ThreadPoolExecutor(1) as pool:
        with httpx.stream("POST", f"{beside.url}/v1/messages", json=body, timeout=60) as stream:
            lines = stream.iter_lines()
            next(lines)
            asked = pool.submit(httpx.get, f"{admin}/drained", timeout=120)
            ending = time.monotonic() + 8
            while time.monotonic() < ending:
                next(lines)
            assert not asked.done(), "a stream is open"
        assert asked.result(timeout=30).text == "drained\n"
    started = time.monotonic()
    assert httpx.get(f"{admin}/drained", timeout=30).text == "drained\n"
    assert time.monotonic() - started > 5, "nodes send connections for a while yet"
