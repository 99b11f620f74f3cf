"""The gateway's pure parts: names to models, what is mended in a request, events from bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_halo.contract.gateway_config import GatewayConfig, Routes
from llama_halo.gateway.apis import anthropic
from llama_halo.gateway.http.errors import Failure, anthropic_error, from_upstream, openai_error
from llama_halo.gateway.http.sse import SseEvent, encode, events
from llama_halo.gateway.models.model import Model, model_of, servers, urls
from llama_halo.gateway.routing.features import RequestFeatures, features_of
from llama_halo.gateway.routing.sessions import session_of
from llama_halo.gateway.routing.table import RoutingTable

CONFIG = GatewayConfig.model_validate(
    {
        "router": "main",
        "namespace": "llm",
        "models": [
            {"name": "big", "llama_model": "large", "aliases": ["claude-opus-*", "gpt-4o"]},
            {"name": "small", "llama_model": "little", "aliases": ["claude-*", "gpt-4o"]},
        ],
        "model_labels": {"tier": "agents"},
        "routes": {"default": "small", "background": "small"},
    }
)


def model(name: str, *aliases: str, labels: dict[str, str] | None = None) -> Model:
    return Model(
        name, f"http://{name}", True, "Serving", aliases, labels=frozenset((labels or {}).items())
    )


MODELS = {
    item.name: item
    for item in (
        model("large", "qwen", "gpt-4o-mini"),
        model("little", "gpt-4o-mini"),
        model("found", "vision", labels={"tier": "agents", "x": "y"}),
        model("other", "elsewhere", labels={"tier": "none"}),
    )
}


@pytest.mark.parametrize(
    ("name", "background", "target"),
    [
        ("big", True, "big explicit"),
        ("gpt-4o", False, "big explicit"),
        ("qwen", False, "big explicit"),
        ("large", False, "big explicit"),
        ("gpt-4o-mini", False, "big explicit"),
        ("found", False, "found explicit"),
        ("vision", False, "found explicit"),
        ("elsewhere", False, None),
        ("default", False, "small default"),
        ("background", False, "small background"),
        ("think", False, None),
        ("claude-opus-5", False, "big explicit"),
        ("claude-opus-5", True, "small background"),
        ("claude-sonnet-5", False, "small explicit"),
        ("nope", False, None),
        ("gpt-5", True, None),
    ],
)
def test_a_name_becomes_a_model(name: str, background: bool, target: str | None) -> None:
    value = RoutingTable.build(CONFIG, MODELS).resolve(name, RequestFeatures(background=background))
    assert (value and f"{value.name} {value.route}") == target


def test_without_a_pattern_claude_goes_to_the_default_route() -> None:
    config = CONFIG.model_copy(update={"models": (), "routes": Routes(default="found")})
    target = RoutingTable.build(config, MODELS).resolve("claude-sonnet-5", RequestFeatures())
    assert target is not None
    assert (target.name, target.route) == ("found", "default")


CLAUDE = {"user-agent": "claude-cli/2.1.331 (external, sdk-cli)"}
FIRST: dict[str, Any] = {"model": "x", "messages": [{"role": "user", "content": "Hi"}]}
TITLE = {**FIRST, "output_config": {"format": {"type": "json_schema", "schema": {}}}}
TASK = {"model": "x", "messages": [{"role": "user", "content": "### Task:\nSuggest titles"}]}
EMOJI = "Your task is to reflect the speaker's likely facial expression through a fitting emoji."
FACE = {"model": "x", "messages": [{"role": "user", "content": EMOJI}]}
CONTINUE = "Given the following... please reply with a title for the chat that is 3-4 words"
NAMED = {"model": "x", "messages": [{"role": "user", "content": CONTINUE}]}
PARTS = {"model": "x", "messages": [{"role": "user", "content": [{"text": "### Task: x"}]}]}


@pytest.mark.parametrize(
    ("headers", "body", "background"),
    [
        ({}, {"model": "claude-haiku-5", "tools": [{}]}, True),
        (CLAUDE, FIRST, True),
        (CLAUDE, {**FIRST, "tools": [{}]}, False),
        (CLAUDE, {**FIRST, "thinking": {"type": "adaptive"}}, False),
        (CLAUDE, {"model": "x", "messages": [{"role": "user"}, {"role": "assistant"}]}, False),
        (CLAUDE, {"model": "x", "messages": [7], "thinking": "loud"}, True),
        (CLAUDE, {"model": "x", "prompt": "no messages at all"}, False),
        ({"user-agent": "opencode/1.18.33 ai-sdk"}, FIRST, True),
        ({}, FIRST, False),
        ({"user-agent": "OpenAI/Python 3.1"}, FIRST, False),
        ({}, TITLE, True),
        ({}, TASK, True),
        ({}, PARTS, True),
        ({}, FACE, True),
        ({}, NAMED, True),
    ],
)
def test_a_side_task_is_told_by_its_shape_and_not_taken_for_a_first_question(
    headers: dict[str, str], body: dict[str, Any], background: bool
) -> None:
    assert features_of(headers, body, 0).background is background


def text(arguments: str) -> dict[str, str]:
    return {"type": "text", "text": arguments}


@pytest.mark.parametrize(
    ("messages", "folded"),
    [
        pytest.param(
            [{"role": "user", "content": "a"}, {"role": "system", "content": "s"}],
            [{"role": "user", "content": [text("a"), text("s")]}],
            id="a last system message joins the user's",
        ),
        pytest.param(
            [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}],
            [{"role": "user", "content": [text("s"), text("a")]}],
            id="a first one goes before it",
        ),
        pytest.param(
            [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b"},
                {"role": "system", "content": [text("s")]},
                {"role": "user", "content": "c"},
            ],
            [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b"},
                {"role": "user", "content": [text("s"), text("c")]},
            ],
            id="one in the middle joins the next",
        ),
    ],
)
def test_system_messages_are_folded(messages: list[Any], folded: list[Any]) -> None:
    body = {"model": "x", "messages": messages}
    assert anthropic.upstream_body(body)["messages"] == folded


roles = st.lists(st.sampled_from(["user", "assistant", "system"]), min_size=1, max_size=8)


@given(roles)
def test_folding_leaves_no_system_message_and_loses_no_text(order: list[str]) -> None:
    messages = [{"role": role, "content": f"<{i}>"} for i, role in enumerate(order)]
    folded = anthropic.upstream_body({"model": "x", "messages": messages})["messages"]
    assert all(message["role"] != "system" for message in folded)
    output = "".join(
        message["content"]
        if isinstance(message["content"], str)
        else "".join(b["text"] for b in message["content"])
        for message in folded
    )
    assert output == "".join(f"<{i}>" for i in range(len(order)))


def test_the_billing_line_server_tools_and_disabled_thinking_are_mended() -> None:
    body = {
        "model": "x",
        "messages": [{"role": "user", "content": "a"}],
        "system": [text("x-anthropic-billing-header: 1"), text("You are")],
        "tools": [{"name": "Read", "input_schema": {}}, {"type": "web_search_20250305"}],
        "thinking": {"type": "disabled"},
    }
    mended = anthropic.upstream_body(body)
    assert mended["system"] == [text("You are")]
    assert [tool["name"] for tool in mended["tools"]] == ["Read"]
    assert mended["chat_template_kwargs"] == {"enable_thinking": False}
    none = anthropic.upstream_body({**body, "tool_choice": {"type": "none"}})
    assert "tools" not in none


@pytest.mark.parametrize(
    ("status", "error", "becomes"),
    [
        (500, {"message": "Jinja Exception: System message must be at the beginning."}, 400),
        (500, {"message": "image input is not supported - hint: mmproj"}, 400),
        (500, {"message": "the GPU is on fire"}, 500),
        (501, {"message": "This server does not support embeddings"}, 400),
        (503, {"message": "Loading model"}, 503),
        (400, {"message": "x", "type": "exceed_context_size_error", "n_ctx": 4096}, 400),
    ],
)
def test_llama_servers_errors_become_what_clients_understand(
    status: int, error: dict[str, Any], becomes: int
) -> None:
    assert from_upstream(status, {"error": error}).status == becomes


def test_a_long_prompt_is_told_in_each_apis_words() -> None:
    failure = Failure(400, "x", tokens=(9031, 4096))
    message = anthropic_error(failure, "req_1")["error"]["message"]
    assert message == "prompt is too long: 9031 tokens > 4096 maximum"
    assert openai_error(failure)["error"]["code"] == "context_length_exceeded"


@given(st.lists(st.text(alphabet="aä\u2028 b:", max_size=8), max_size=5), st.data())
async def test_events_are_whole_however_the_bytes_are_cut(texts: list[str], data: Any) -> None:
    whole = b"".join(encode({"text": chunk}, "delta") for chunk in texts)
    if data.draw(st.booleans()):
        whole = whole.replace(b"\n", b"\r\n")

    async def chunks() -> AsyncIterator[bytes]:
        rest = whole
        while rest:
            size = data.draw(st.integers(1, len(rest)))
            yield rest[:size]
            rest = rest[size:]

    value = [event async for event in events(chunks())]
    assert [event.value["text"] for event in value] == texts
    assert all(event.name == "delta" for event in value)


def test_done_is_no_json() -> None:
    assert SseEvent.of("[DONE]").value is None


@pytest.mark.parametrize(
    ("spec", "on_demand", "has_lease"),
    [
        ({}, False, False),
        ({"update": {"mode": "Immediate"}}, False, False),
        ({"update": {"mode": "WhenIdle"}}, False, True),
        ({"activation": {"onDemand": {}}}, True, True),
    ],
)
def test_it_is_said_of_these_models_what_is_in_flight(
    spec: Any, on_demand: bool, has_lease: bool
) -> None:
    value = model_of({"metadata": {"name": "m"}, "spec": spec})
    assert (value.on_demand, value.has_lease) == (on_demand, has_lease)


def with_replicas(*placements: tuple[str, str], available: bool = True) -> Model:
    conditions = [
        {"type": "Available", "status": str(available)},
        {"type": "Ready", "status": str(available), "reason": "Serving"},
    ]
    status = {
        "endpoint": "http://service",
        "conditions": conditions,
        "placements": [
            {"node": f"n{index}", "reason": reason, **({"address": address} if address else {})}
            for index, (reason, address) in enumerate(placements)
        ],
    }
    return model_of({"metadata": {"name": "m"}, "status": status})


@pytest.mark.parametrize(
    ("placements", "available", "value"),
    [
        ((("Serving", "a:8080"),), True, ["http://a:8080", "http://service"]),
        ((("Serving", "a:8080"), ("Loading", "b:8080")), True, ["http://a:8080", "http://service"]),
        ((("Loading", "b:8080"),), False, ["http://b:8080", "http://service"]),
        ((("Scheduling", ""),), False, ["http://service"]),
        ((), True, ["http://service"]),
    ],
)
def test_servers_that_answer_are_asked_themselves_and_the_service_is_the_way_out(
    placements: Any, available: bool, value: list[str]
) -> None:
    model = with_replicas(*placements, available=available)
    assert urls(model, servers(model, "s")[0]) == value


def test_a_session_stays_with_its_replica_whatever_becomes_of_the_others() -> None:
    three = [("Serving", f"{name}:8080") for name in "abc"]
    sessions = [f"session {number}" for number in range(300)]
    first = {session: servers(with_replicas(*three), session)[0] for session in sessions}
    shares = [list(first.values()).count(f"http://{name}:8080") for name in "abc"]
    assert min(shares) > 60
    without_a = {session: servers(with_replicas(*three[1:]), session)[0] for session in sessions}
    moved = [session for session in sessions if first[session] != without_a[session]]
    assert {first[entry] for entry in moved} == {"http://a:8080"}


USER = '{"device_id": "d", "session_id": "from-user-id"}'


ASKED = {"system": "s", "messages": [{"role": "system"}, {"role": "user", "content": "a"}]}
LATER = {**ASKED, "messages": [*ASKED["messages"], {"role": "assistant"}, {"role": "user"}]}
OTHER_ONE = {"system": "s", "messages": [{"role": "system"}, {"role": "user", "content": "b"}]}


@pytest.mark.parametrize(
    ("headers", "body", "same", "other"),
    [
        ({"x-claude-code-session-id": "one"}, {"metadata": {"user_id": USER}}, {}, None),
        ({"x-session-id": "two"}, {}, {"messages": [7]}, None),
        ({}, {"metadata": {"user_id": USER}}, {"user": "from-user-id"}, {"user": USER}),
        ({}, {"metadata": {"user_id": "plain"}}, {"user": "plain"}, {"user": "else"}),
        ({}, {"prompt_cache_key": "three", "user": "u"}, {"user": "three"}, {"user": "u"}),
        ({}, {"metadata": {"user_id": "[1"}}, {"user": "[1"}, {"user": "1"}),
        ({}, {"metadata": {"user_id": 7}, "user": 7, "messages": [1]}, {"messages": [1]}, {}),
        ({}, ASKED, LATER, OTHER_ONE),
        ({}, {"input": "a"}, {"input": "a"}, {"input": "b"}),
    ],
)
def test_a_session_is_what_the_client_calls_it_else_how_it_begins(
    headers: dict[str, str], body: Any, same: Any, other: Any
) -> None:
    assert session_of(headers, body) == session_of(headers, same)
    assert other is None or session_of(headers, body) != session_of(headers, other)
