"""What each engine can do of a ModelRouter, what it refuses by name, and what it really routes."""

from __future__ import annotations

import json
import subprocess

import pytest
import yaml

from hack.testbed import images
from hack.testbed.layout import REPOSITORY
from llama_halo.plan.engines import claude_code_router, litellm, llama_swap, sidecar
from llama_halo.plan.engines.choice import engine_of
from llama_halo.settings import DEFAULT_ENGINE_IMAGES
from tests.support.engines import (
    CCR,
    CLOUD,
    LITELLM,
    LONG,
    MODELS,
    OWNER,
    REFUSED,
    SWAP,
    TWO_KEYS,
    Json,
    spec,
    with_route,
)
from tests.support.golden import DEFAULTS

TAKEN: dict[str, tuple[Json, Json]] = {
    "Claude Code Router of the first kind": ({"claudeCodeRouter": {"version": "1.0.73"}}, {}),
    "Claude Code Router with all its routes": (
        CCR,
        with_route(background="coder", think="coder", webSearch="coder", image="coder", **LONG),
    ),
    "LiteLLM with its routes": (LITELLM, with_route(background="coder", subagent="coder")),
    "LiteLLM open to all": (LITELLM, {"auth": None}),
    "LiteLLM without routes": (LITELLM, {"routes": None}),
    "llama-swap with its routes": (SWAP, with_route(background="coder", think="coder")),
    "llama-swap with two keys": (SWAP, {"auth": TWO_KEYS}),
    "llama-swap open to all": (SWAP, {"auth": None}),
    "the gateway with everything": ({"gateway": {}}, {**with_route(image="coder"), "auth": None}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_an_engine_cannot_do_is_refused_by_name(case: str) -> None:
    engine, more, arguments = REFUSED[case]
    expected = spec(engine, **more)
    refusal = engine_of(expected).refusal(expected)
    assert refusal is not None
    assert arguments in refusal
    assert engine_of(expected).NAME in refusal


@pytest.mark.parametrize("case", TAKEN)
def test_what_an_engine_can_do_is_taken(case: str) -> None:
    engine, more = TAKEN[case]
    expected = spec(engine, **more)
    assert engine_of(expected).refusal(expected) is None
    assert engine_of(expected).files(OWNER, expected)


@pytest.mark.parametrize("engine", [CCR, LITELLM, SWAP])
def test_an_engine_reaches_the_gateway_alone_and_has_its_keys_from_the_environment(
    engine: Json,
) -> None:
    expected = spec(engine, providers=[{**CLOUD, "apiKeySecretRef": {"name": "s", "key": "k"}}])
    chosen = engine_of(expected)
    files = chosen.files(OWNER, expected)
    assert "routes" not in json.loads(files["gateway.json"])
    own = next(text for name, text in files.items() if name != "gateway.json")
    assert "127.0.0.1:8082" in own
    assert "cloud.example.com" not in own, "providers are reached by the gateway beside"
    pod = chosen.pod(OWNER, expected, DEFAULTS, "config")
    (container,), (beside,) = pod["containers"], pod["initContainers"]
    (key,) = [variable for variable in container["env"] if "valueFrom" in variable]
    assert key["valueFrom"] == {"secretKeyRef": {"name": "keys", "key": "alice"}}
    assert key["name"] in own
    mounted = {volume_mount["name"] for volume_mount in container["volumeMounts"]}
    assert mounted == {"config", "tmp"}, "no token, and no provider's key"
    assert {"token", "provider-keys"} <= {
        volume_mount["name"] for volume_mount in beside["volumeMounts"]
    }
    assert pod["automountServiceAccountToken"] is False


KEYS = {
    "a good one": ("a-key-of-sixteen-letters", True),
    "an empty one": ("", False),
    "a short one": ("short", False),
    "one with a quote": ('a-key-of-sixteen-"letters', False),
    "one with a backslash": ("a-key-of-sixteen-\\letters", False),
    "one that is a variable": ("$LLAMA_HALO_KEY_AND_MORE", False),
}


@pytest.mark.parametrize("case", KEYS)
def test_an_engine_starts_with_keys_that_are_some(case: str) -> None:
    value, starts = KEYS[case]
    done = subprocess.run(
        sidecar.guarded(["echo", "started", "$A"], ["GOOD", "KEY"]),
        env={"GOOD": "another-key-that-is-good", "KEY": value, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0, done.stdout) == (starts, "started $A\n" if starts else "")
    assert ("is no key" in done.stderr) != starts
    assert not value or value not in done.stderr


def test_claude_code_router_routes_to_its_providers_by_the_routers_names() -> None:
    models = [*MODELS, {"name": "big", "provider": "cloud", "model": "maker/big-1"}]
    engine = {"claudeCodeRouter": {"apiTimeout": "5m"}}
    expected = spec(engine, models=models, providers=[CLOUD], **with_route(think="big"))
    config = json.loads(claude_code_router.files(OWNER, expected)["config.json"])
    assert config["Router"] == {"default": "local,coder", "think": "cloud,big"}
    assert config["API_TIMEOUT_MS"] == 300_000
    assert {provider["name"]: provider["models"] for provider in config["Providers"]} == {
        "local": ["coder", "gpt-4o"],
        "cloud": ["big", "maker/big-1"],
    }
    assert all(provider["api_key"] for provider in config["Providers"]), "else it is not registered"


def test_what_claude_code_really_does_with_the_routes_is_told() -> None:
    expected = spec(CCR, **with_route(think="coder", background="coder"))
    message = {route.route: route.note for route in claude_code_router.routes(expected)}
    assert (
        message["default"] == "requests without thinking; Claude Code's main requests go to think"
    )
    assert "all of Claude Code's main requests" in message["think"]
    assert "ANTHROPIC_DEFAULT_HAIKU_MODEL" in message["background"]
    alone = {route.route: route.note for route in claude_code_router.routes(spec(CCR))}
    assert alone == {"default": ""}


def test_litellm_answers_a_spec_s_own_names_before_those_of_routes() -> None:
    models = [
        {"name": "background", "modelRef": {"name": "a"}},
        {"name": "b", "modelRef": {"name": "b"}},
    ]
    expected = spec(LITELLM, models=models, routes={"default": "b", "background": "b"})
    config = yaml.safe_load(litellm.files(OWNER, expected)["config.yaml"])
    targets = {
        entry["model_name"]: entry["litellm_params"]["model"] for entry in config["model_list"]
    }
    assert targets == {
        "background": "anthropic/background",
        "b": "anthropic/b",
        "default": "anthropic/b",
        "claude-*haiku*": "anthropic/b",
        "*": "anthropic/b",
    }


def test_llama_swap_has_its_keys_from_the_environment_and_in_quotes() -> None:
    expected = spec(SWAP, auth=TWO_KEYS)
    text = llama_swap.files(OWNER, expected)["config.yaml"]
    keys = ["${env.LLAMA_HALO_KEY_0}", "${env.LLAMA_HALO_KEY_1}"]
    assert yaml.safe_load(text)["apiKeys"] == keys
    assert all(f'"{key}"' in text for key in keys), "an empty one would open the door"
    open_to_all = llama_swap.files(OWNER, spec(SWAP, auth=None))["config.yaml"]
    assert yaml.safe_load(open_to_all)["apiKeys"] == []


def test_llama_swap_lists_names_aliases_and_routes() -> None:
    expected = spec(SWAP, **with_route(background="coder"))
    config = yaml.safe_load(llama_swap.files(OWNER, expected)["config.yaml"])
    assert config["selectors"].keys() == {"coder", "gpt-4o", "default", "background"}
    assert {tuple(selector["targets"]) for selector in config["selectors"].values()} == {
        ("local/coder",)
    }
    assert config["peers"]["local"]["models"] == ["coder"]
    assert config["peers"]["local"]["timeouts"] == {"responseHeader": 0}


def test_the_images_that_are_built_are_those_that_run() -> None:
    expected = {
        "claudeCodeRouter": (claude_code_router, images.CLAUDE_CODE_ROUTER_IMAGES["2.0.0"]),
        "liteLLM": (litellm, images.LITELLM_IMAGE),
        "llamaSwap": (llama_swap, images.LLAMA_SWAP_IMAGE),
    }
    for name, (engine, image) in expected.items():
        built = DEFAULT_ENGINE_IMAGES[name].replace("{version}", engine.DEFAULT_VERSION)
        assert built == image
    folder = REPOSITORY / "images"
    pinned = (folder / "litellm/requirements.in").read_text()
    assert f"litellm[proxy]=={litellm.DEFAULT_VERSION}" in pinned
    for name, engine in (("claude-code-router", claude_code_router), ("llama-swap", llama_swap)):
        assert f"VERSION={engine.DEFAULT_VERSION}\n" in (folder / name / "Dockerfile").read_text()
    release = (REPOSITORY / ".github/workflows/release.yaml").read_text()
    for _, image in expected.values():
        assert f"build {image.rpartition('/')[2].partition(':')[0]}:" in release.replace('"', "")
