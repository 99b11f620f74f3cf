"""Which model a request goes to: tables of names and shapes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llama_halo.contract.gateway_config import GatewayConfig
from llama_halo.gateway.apis.anthropic import take_tag
from llama_halo.gateway.models.model import Model
from llama_halo.gateway.routing.features import SUBAGENT_HEADER, RequestFeatures, features_of
from llama_halo.gateway.routing.table import RoutingTable

Json = dict[str, Any]
CONFIG = GatewayConfig.model_validate(
    {
        "router": "main",
        "namespace": "llm",
        "models": [
            {"name": name, "llama_model": name, "aliases": aliases}
            for name, aliases in (
                ("coder", ["claude-sonnet-*"]),
                *((name, []) for name in ("small", "big", "long", "seer", "finder", "helper")),
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
        "fallbacks": {"coder": ["big", "small"]},
    }
)


def model_named(name: str, *, accepts_images: bool | None = False) -> Model:
    return Model(name, f"http://{name}", True, "Serving", accepts_images=accepts_images)


MODELS = {name: model_named(name) for name in ("coder", "small", "big", "long", "finder", "helper")}
MODELS["seer"] = model_named("seer", accepts_images=True)


@pytest.mark.parametrize(
    "name", ["claude-opus-5-5", "claude-sonnet-5", "default", "default:latest"]
)
@pytest.mark.parametrize(
    ("features", "model", "route"),
    [
        ({}, "coder", None),
        ({"background": True}, "small", "background"),
        ({"wants_thinking": True}, "big", "think"),
        ({"wants_web_search": True, "wants_thinking": True}, "finder", "webSearch"),
        ({"subagent": True}, "helper", "subagent"),
        ({"subagent": True, "background": True}, "small", "background"),
        ({"has_image": True}, "seer", "image"),
        (
            {
                "has_image": True,
                "background": True,
                "wants_thinking": True,
                "wants_web_search": True,
            },
            "seer",
            "image",
        ),
    ],
)
def test_a_name_that_says_no_model_goes_by_its_task(
    name: str, features: Json, model: str, route: str | None
) -> None:
    target = RoutingTable.build(CONFIG, MODELS).resolve(name, RequestFeatures(**features))
    assert target is not None
    assert target.name == model
    assert route in (None, target.route)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("big", "big explicit"),
        ("local,big", "big explicit"),
        ("big:latest", "big explicit"),
        ("think", "big think"),
        ("think:latest", "big think"),
        ("longContext", "long longContext"),
        ("nobody,nope", None),
        ("gpt-5", None),
    ],
)
def test_a_name_that_says_its_model_has_it_whatever_the_task(name: str, model: str | None) -> None:
    target = RoutingTable.build(CONFIG, MODELS).resolve(
        name, RequestFeatures(background=True, wants_thinking=True)
    )
    assert (target and f"{target.name} {target.route}") == model


def test_a_pattern_is_for_the_name_as_it_was_asked_for() -> None:
    tagged = [
        model.model_copy(update={"aliases": ("qwen3:*", "llama*b")}) for model in CONFIG.models
    ]
    config = CONFIG.model_copy(update={"models": tagged[1:2]})
    for name in ("qwen3:latest", "qwen3:8b", "llama-8b:latest"):
        target = RoutingTable.build(config, MODELS).resolve(name, RequestFeatures())
        assert target is not None
        assert target.name == tagged[1].name
    assert RoutingTable.build(config, MODELS).resolve("llama-8b:q4", RequestFeatures()) is None


def test_a_model_that_sees_nothing_never_gets_an_image_that_another_can_see() -> None:
    features = RequestFeatures(has_image=True)
    target = RoutingTable.build(CONFIG, MODELS).resolve("coder", features)
    assert target is not None
    assert (target.name, target.route) == ("seer", "image")
    unknown = {**MODELS, "coder": replace(MODELS["coder"], accepts_images=None)}
    target = RoutingTable.build(CONFIG, unknown).resolve("coder", features)
    assert target is not None
    assert target.name == "coder", "nobody knows, so llama-server says"


def test_without_a_route_a_task_is_the_defaults() -> None:
    plain = CONFIG.model_copy(update={"routes": CONFIG.routes.model_copy(update={"think": None})})
    target = RoutingTable.build(plain, MODELS).resolve(
        "claude-opus-5", RequestFeatures(wants_thinking=True)
    )
    assert target is not None
    assert (target.name, target.route) == ("coder", "default")


def test_in_place_of_a_model_others_answer_in_order() -> None:
    target = RoutingTable.build(CONFIG, MODELS).resolve("coder", RequestFeatures())
    assert target is not None
    assert [
        fallback.name for fallback in RoutingTable.build(CONFIG, MODELS).with_fallbacks(target)
    ] == [
        "coder",
        "big",
        "small",
    ]
    long = RoutingTable.build(CONFIG, MODELS).long_context()
    assert long is not None
    assert [
        fallback.name for fallback in RoutingTable.build(CONFIG, MODELS).with_fallbacks(long)
    ] == ["long"]


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 40}}
RESULT = {"type": "tool_result", "tool_use_id": "t", "content": [IMAGE]}


def turn(*content: Any, role: str = "user") -> Json:
    return {"role": role, "content": list(content)}


@pytest.mark.parametrize(
    ("body", "has_image"),
    [
        ({"messages": [turn(IMAGE)]}, True),
        ({"messages": [turn(RESULT), turn({"type": "text", "text": "x"})]}, True),
        ({"messages": [turn({"type": "image_url", "image_url": {"url": "A" * 40}})]}, True),
        ({"input": [turn({"type": "input_image", "image_url": "A" * 40})]}, True),
        ({"messages": [{"role": "user", "content": "x", "images": ["A" * 40]}]}, True),
        ({"messages": [{"role": "user", "content": "an image"}]}, False),
        ({"messages": "image", "input": {"type": "image"}}, False),
    ],
)
def test_an_image_is_seen_wherever_it_is_and_counts_for_no_letters(
    body: Json, has_image: bool
) -> None:
    features = features_of({}, body, 1000)
    assert (features.has_image, features.text_bytes) == (has_image, 960 if has_image else 1000)


def test_nesting_without_end_is_not_followed() -> None:
    deep: Any = [IMAGE]
    for _ in range(500):
        deep = [{"type": "tool_result", "content": deep}]
    assert features_of({}, {"messages": [{"role": "user", "content": deep}]}, 10).has_image is False


@pytest.mark.parametrize(
    ("body", "wants_thinking"),
    [
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "medium"}}, False),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}, True),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, True),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, True),
        ({"thinking": {"type": "disabled"}}, False),
        ({"reasoning_effort": "high"}, True),
        ({"reasoning": {"effort": "xhigh"}}, True),
        ({"reasoning": "high", "think": True}, False),
        ({"think": "high"}, True),
    ],
)
def test_much_thinking_is_told_in_each_apis_words(body: Json, wants_thinking: bool) -> None:
    assert features_of({}, body, 0).wants_thinking is wants_thinking


def test_a_search_and_a_subagent_are_told_by_tool_and_header() -> None:
    search = {"type": "web_search_20250305", "name": "web_search"}
    assert features_of({}, {"tools": [search, 7]}, 0).wants_web_search
    codex = {"tools": [{"type": "function", "name": "shell"}, {"type": "web_search"}]}
    assert not features_of({}, codex, 0).wants_web_search, "Codex has it in every request"
    assert features_of({SUBAGENT_HEADER: "a1"}, {}, 0).subagent


TAG = "<CCR-SUBAGENT-MODEL>local,big</CCR-SUBAGENT-MODEL>"


@pytest.mark.parametrize(
    "body",
    [
        {"system": [{"type": "text", "text": "x"}, {"type": "text", "text": f"{TAG}\nYou are"}]},
        {"messages": [turn({"type": "text", "text": f"{TAG}You are"})]},
        {"messages": [{"role": "user", "content": f" {TAG} You are"}]},
    ],
)
def test_a_tag_at_the_start_of_a_text_names_the_model_and_goes_no_further(body: Json) -> None:
    whole = {"model": "claude-opus-5", "messages": [{"role": "user", "content": "x"}], **body}
    model, rest = take_tag(whole)
    assert model == "local,big"
    assert "CCR" not in str(rest)
    assert "You are" in str(rest)


@pytest.mark.parametrize(
    "text", [f"see {TAG}", "<CCR-SUBAGENT-MODEL>", "", "<CCR-SUBAGENT-MODEL></"]
)
def test_a_tag_elsewhere_is_text(text: str) -> None:
    body = {"system": 7, "messages": [{"role": "user", "content": text}, {"role": "user"}]}
    assert take_tag(body) == ("", body)


@pytest.mark.parametrize(
    ("part", "has_remote_url"),
    [
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}, False),
        ({"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}, True),
        ({"type": "image_url", "image_url": "file:///etc/passwd"}, True),
        ({"type": "input_image", "image_url": "https://host/a.png"}, True),
        ({"type": "image", "source": {"type": "url", "url": "http://host"}}, True),
        ({"type": "image", "source": {"type": "base64", "data": "AA"}}, False),
        ({"type": "image", "source": {"data": "AA", "url": "http://host"}}, True),
        ({"type": "image_url", "data": "AA", "image_url": {"url": "http://host"}}, True),
    ],
)
def test_an_image_that_would_have_to_be_fetched_is_told(part: Json, has_remote_url: bool) -> None:
    body = {"messages": [{"role": "user", "content": [part]}]}
    features = features_of({}, body, 1000)
    assert features.has_image
    assert features.has_remote_url is has_remote_url
