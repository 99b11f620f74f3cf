"""Tool calling is tried once a configuration, while nobody uses the model: a scripted server stands
where the pod's would."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from llama_halo.controllers.verification import FIRST_POLL_SECONDS
from tests.support.api import Api, eventually
from tests.support.resources import Json, StartOperator, model, pods, wait_state

ADDRESS = "127.0.0.88"
CALL: Json = {"name": "get_weather", "arguments": '{"city": "Paris"}'}


class Server:
    """A llama-server, as far as the check goes."""

    def __init__(self) -> None:
        self.status, self.message = 200, {"tool_calls": [{"function": CALL}]}
        self.busy = False
        self.looked = 0
        self.asked: list[Json] = []
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                served.looked += self.path == "/slots"
                slots = [{"id": 0, "is_processing": served.busy}]
                caps: Json = {"chat_template_caps": {"supports_tools": True}}
                self._answer(200, slots if self.path == "/slots" else caps)

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                served.asked.append(json.loads(self.rfile.read(length)))
                body: Json = {"choices": [{"message": served.message}]}
                body["timings"] = {"prompt_per_second": 800.0, "predicted_per_second": 50.0}
                if served.status != 200:
                    message = (
                        "tools param requires --jinja flag" if served.status == 500 else "busy"
                    )
                    body = {"error": {"message": message}}
                self._answer(served.status, body)

            def _answer(self, status: int, body: Any) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                # In two parts, as a slow network brings them.
                self.wfile.write(data[:9])
                self.wfile.flush()
                time.sleep(0.05)
                self.wfile.write(data[9:])

            def log_message(self, *_: object) -> None:
                """Say nothing of each request."""

        self.http = ThreadingHTTPServer((ADDRESS, 8080), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.http.shutdown()
    started.http.server_close()


def serve_at(api: Api, namespace: str) -> str:
    """Wait for the model's one pod, give it the scripted server's address, and return its uid."""
    wait_state(api, namespace, "coder", "Serving")
    (pod,) = pods(api, namespace)
    status = {"podIP": ADDRESS, "podIPs": [{"ip": ADDRESS}]}
    api.patch("Pod", namespace, pod["metadata"]["name"], {"status": status}, subresource="/status")
    return str(pod["metadata"]["uid"])


def tools(api: Api, namespace: str) -> Json:
    llama_model = api.get("LlamaModel", namespace, "coder") or {}
    conditions = llama_model.get("status", {}).get("conditions", ())
    return next((condition for condition in conditions if condition["type"] == "ToolCalling"), {})


def reason(api: Api, namespace: str) -> str:
    message = tools(api, namespace)
    return f"{message.get('status', '')} {message.get('reason', '')}"


def tried(namespace: str, **spec: Any) -> Json:
    """Return a model that is to be tried."""
    return model(namespace, **{"verify": {"toolCalling": "Auto"}, **spec})


@pytest.mark.usefixtures("operator")
class TestVerification:
    @pytest.mark.parametrize(
        ("status", "message", "shown"),
        [
            (200, {"tool_calls": [{"function": CALL}]}, "True Calls"),
            (200, {"content": "It is sunny."}, "False TextInsteadOfCall"),
            (
                200,
                {"tool_calls": [{"function": {**CALL, "arguments": "{"}}]},
                "False MalformedArguments",
            ),
            (500, {}, "False ServerTooOld"),
        ],
        ids=["good", "text", "malformed", "too old"],
    )
    def test_what_it_shows_is_told(
        self, api: Api, namespace: str, server: Server, status: int, message: Json, shown: str
    ) -> None:
        server.status, server.message = status, message
        api.apply(tried(namespace))
        serve_at(api, namespace)
        eventually(lambda: reason(api, namespace) == shown)
        value = (api.get("LlamaModel", namespace, "coder") or {})["status"]
        assert value["verifiedConfigHash"] == value["configHash"]
        if status == 200:
            assert value["speed"] == {"promptTokensPerSecond": "800.0", "tokensPerSecond": "50.0"}
        assert len(server.asked) == 1

    def test_once_a_configuration_also_when_the_operator_starts_anew(
        self, api: Api, namespace: str, server: Server, start_operator: StartOperator
    ) -> None:
        api.apply(tried(namespace))
        first = serve_at(api, namespace)
        eventually(lambda: reason(api, namespace) == "True Calls")
        start_operator().wait_ready()
        api.apply(tried(namespace, aliases=["gpt-4o"]))
        value = eventually(
            lambda: api.get("LlamaModel", namespace, "coder"),
            until=lambda item: item["status"]["observedGeneration"] == 2,
        )
        assert value["status"]["verifiedConfigHash"] == value["status"]["configHash"]
        # A roll is another configuration.
        api.apply(tried(namespace, contextSize=8192))
        eventually(lambda: reason(api, namespace) == "Unknown NotChecked")
        eventually(lambda: {pod["metadata"]["uid"] for pod in pods(api, namespace)} != {first})
        server.message = {"content": "Sunny."}
        serve_at(api, namespace)
        eventually(lambda: reason(api, namespace) == "False TextInsteadOfCall")
        assert len(server.asked) == 2

    def test_not_while_somebody_uses_it(self, api: Api, namespace: str, server: Server) -> None:
        server.busy = True
        api.apply(tried(namespace))
        serve_at(api, namespace)
        eventually(lambda: server.looked > 0)
        time.sleep(1)
        assert not server.asked
        assert reason(api, namespace) == "Unknown NotChecked"

    def test_not_when_it_is_off(self, api: Api, namespace: str, server: Server) -> None:
        api.apply(tried(namespace, verify={"toolCalling": "Off"}))
        serve_at(api, namespace)
        time.sleep(2 * FIRST_POLL_SECONDS + 1)
        assert not tools(api, namespace)
        assert (server.looked, server.asked) == (0, [])

    def test_again_when_somebody_asks_for_it(
        self, api: Api, namespace: str, server: Server
    ) -> None:
        server.message = {"content": "It is sunny."}
        api.apply(tried(namespace))
        serve_at(api, namespace)
        eventually(lambda: reason(api, namespace) == "False TextInsteadOfCall")
        server.message = {"tool_calls": [{"function": CALL}]}
        asked = {"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "now"}}}
        api.patch("LlamaModel", namespace, "coder", asked)
        eventually(lambda: reason(api, namespace) == "True Calls")

    def test_a_server_that_fails_is_told_after_three_times(
        self, api: Api, namespace: str, server: Server
    ) -> None:
        """Not at once: it may only be on its way up. The pauses are of a minute, so this test sees
        the first one alone."""
        server.status = 503
        api.apply(tried(namespace))
        serve_at(api, namespace)
        eventually(lambda: len(server.asked) == 1)
        api.apply(tried(namespace, aliases=["gpt-4o"]))
        time.sleep(2 * FIRST_POLL_SECONDS + 1)
        assert len(server.asked) == 1, "a reconcile makes it no sooner"
        assert reason(api, namespace) == "Unknown NotChecked"
