"""What each engine can do of a ModelRouter, what it refuses by name, and what it really routes."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
import yaml

from hack.testbed import images
from hack.testbed.layout import REPOSITORY
from llama_halo.api.modelrouter import ModelRouterSpec
from llama_halo.cli import env
from llama_halo.plan.engines import claude_code_router, litellm, llama_swap, sidecar
from llama_halo.plan.engines.choice import engine_of
from llama_halo.plan.facts import Owner, RouterFacts
from llama_halo.plan.modelrouter import plan_modelrouter
from llama_halo.settings import DEFAULT_ENGINE_IMAGES
from llama_halo.status.modelrouter import modelrouter_status
from tests.support.golden import DEFAULTS

OWNER = Owner("ModelRouter", "llm", "main", "uid", 1)
Json = dict[str, Any]
CCR, LITELLM, SWAP = ({name: {}} for name in ("claudeCodeRouter", "liteLLM", "llamaSwap"))
ONE_KEY = {"secretRef": {"name": "keys", "keys": ["alice"]}}
TWO_KEYS = {"secretRef": {"name": "keys", "keys": ["alice", "bob"]}}
ALL_KEYS = {"secretRef": {"name": "keys"}}
MODELS = [{"name": "coder", "modelRef": {"name": "coder"}, "aliases": ["gpt-4o"]}]
CLOUD = {"name": "cloud", "protocol": "OpenAI", "baseURL": "https://cloud.example.com/v1"}
LONG = {"longContext": {"model": "coder"}}


def spec(engine: Json, **more: Any) -> ModelRouterSpec:
    base = {"models": MODELS, "routes": {"default": "coder"}, "auth": ONE_KEY}
    chosen = {name: item for name, item in {**base, **more}.items() if item is not None}
    return ModelRouterSpec.model_validate({"engine": engine, **chosen})


def with_route(**routes: Any) -> Json:
    return {"routes": {"default": "coder", **routes}}


REFUSED: dict[str, tuple[Json, Json, str]] = {
    "Claude Code Router 3": (
        {"claudeCodeRouter": {"version": "3.1.1"}},
        {},
        "engine claudeCodeRouter version 3.1.1 is not supported: from 3 on its configuration is a"
        " database that is filled once, and its routes are rules of another kind",
    ),
    "Claude Code Router of no version": (
        {"claudeCodeRouter": {"version": "latest"}},
        {},
        "engine claudeCodeRouter: latest is not a version: use one such as 2.0.0",
    ),
    "an image of LiteLLM with a back door": (
        LITELLM,
        {"pod": {"image": "mirror.example.com/litellm:v1.82.8-stable"}},
        "engine liteLLM version mirror.example.com/litellm:v1.82.8-stable is refused",
    ),
    "Claude Code Router without a default": (CCR, {"routes": None}, "needs spec.routes.default"),
    "Claude Code Router without keys": (CCR, {"auth": None}, "needs spec.auth: without an API key"),
    "Claude Code Router with two keys": (CCR, {"auth": TWO_KEYS}, "exactly one entry"),
    "Claude Code Router with keys unnamed": (CCR, {"auth": ALL_KEYS}, "(none given)"),
    "Claude Code Router and subagents": (
        CCR,
        with_route(subagent="coder"),
        "engine claudeCodeRouter cannot route subagent: ",
    ),
    "Claude Code Router and a selector": (
        CCR,
        {"modelSelector": {"matchLabels": {"a": "b"}}},
        "engine claudeCodeRouter cannot take spec.modelSelector",
    ),
    "a provider with the name of the cluster's own": (
        CCR,
        {"providers": [{**CLOUD, "name": "local"}]},
        "calls the cluster's own models local",
    ),
    "transformers of no provider": (
        {"claudeCodeRouter": {"transformers": {"clod": {"use": ["deepseek"]}}}},
        {"providers": [CLOUD]},
        "spec.engine.claudeCodeRouter.transformers.clod names no provider: use one of cloud, local",
    ),
    "transformers of another shape": (
        {"claudeCodeRouter": {"transformers": {"cloud": ["deepseek"]}}},
        {"providers": [CLOUD]},
        "engine.claudeCodeRouter.transformers.cloud must be like",
    ),
    "LiteLLM and images": (LITELLM, with_route(image="coder"), "engine liteLLM cannot route image"),
    "LiteLLM and long prompts": (
        LITELLM,
        with_route(**LONG),
        "engine liteLLM cannot route longContext",
    ),
    "LiteLLM and searches": (
        LITELLM,
        with_route(webSearch="coder"),
        "engine liteLLM cannot route webSearch",
    ),
    "LiteLLM with a back door": (
        {"liteLLM": {"version": "1.82.7"}},
        {},
        "engine liteLLM version 1.82.7 is refused",
    ),
    "LiteLLM with two keys": (LITELLM, {"auth": TWO_KEYS}, "(2 given)"),
    "LiteLLM and a selector": (
        LITELLM,
        {"modelSelector": {"matchLabels": {"a": "b"}}},
        "engine liteLLM cannot take spec.modelSelector",
    ),
    "llama-swap and a pattern": (
        SWAP,
        {"models": [{**MODELS[0], "aliases": ["claude-*"]}]},
        "engine llamaSwap cannot serve the alias claude-*: it knows exact names only",
    ),
    "llama-swap and images": (SWAP, with_route(image="coder"), "engine llamaSwap cannot route"),
    "llama-swap with keys unnamed": (SWAP, {"auth": ALL_KEYS}, "name the entries of Secret keys"),
    "llama-swap and a selector": (
        SWAP,
        {"modelSelector": {"matchLabels": {"a": "b"}}},
        "engine llamaSwap cannot take spec.modelSelector",
    ),
}
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
    assert status(spec(CCR))["routes"] == [{"name": "default", "model": "coder"}]
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


def status(expected: ModelRouterSpec, previous: Json | None = None) -> Json:
    facts = RouterFacts(OWNER, DEFAULTS)
    return modelrouter_status(
        OWNER,
        spec=expected,
        outcome=plan_modelrouter(expected, facts),
        conflict=None,
        deployment=None,
        pods=[],
        models=[],
        previous=previous or {},
        requested_at=None,
        cluster_domain="cluster.local",
        now="2026-11-27T00:00:00Z",
    )


@pytest.mark.parametrize("case", REFUSED)
def test_while_a_spec_is_refused_its_status_tells_of_what_runs(case: str) -> None:
    engine, more, arguments = REFUSED[case]
    before = status(spec(LITELLM, routes={"default": "coder"}))
    after = status(spec(engine, **more), before)
    ready = next(condition for condition in after["conditions"] if condition["type"] == "Ready")
    assert arguments in ready["message"]
    assert (after["engine"], after["routes"]) == ("liteLLM", before["routes"])


def test_the_gateways_status_has_no_notes() -> None:
    assert "routes" not in status(spec({"gateway": {}}, auth=None))


def client_settings(client: str, engine: Json, **more: Any) -> str:
    model_dump = spec(engine, **more).model_dump(by_alias=True, exclude_none=True)
    metadata = {"namespace": "llm", "name": "main"}
    cr = {"metadata": metadata, "spec": model_dump, "status": {"url": "http://main-router:8080"}}
    return env.CLIENTS[client](env.router_of(cr, [], None))


def test_claude_code_asks_an_engine_for_names_that_it_knows() -> None:
    of_side_tasks = with_route(background="coder")
    swap = client_settings("claude-code", SWAP, **of_side_tasks)
    for name in ("ANTHROPIC_MODEL", "ANTHROPIC_DEFAULT_OPUS_MODEL"):
        assert f"export {name}=default\n" in swap
    assert "export ANTHROPIC_DEFAULT_HAIKU_MODEL=background" in swap
    ccr = client_settings("claude-code", CCR, **of_side_tasks)
    assert "ANTHROPIC_DEFAULT_HAIKU_MODEL=claude-haiku" in ccr
    assert "ANTHROPIC_MODEL=" not in ccr
    assert "HAIKU" not in client_settings("claude-code", LITELLM, **of_side_tasks)


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
    assert all(image.partition(":")[0] in release for _, image in expected.values())
