"""`llama-halo env ROUTER`: print the settings that a client needs, for `eval` or a file."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llama_halo.api.modelrouter import ModelRouterSpec
from llama_halo.errors import CliError, ClusterError
from llama_halo.kube.resources import LLAMAMODEL, MODELROUTER
from llama_halo.plan.engines.choice import engine_of

Json = dict[str, Any]
AUTO = "default"
"""The name for which the router's routes choose the model by task."""
KEY_VARIABLE = "LLAMA_HALO_KEY"
NO_KEY = "none"
"""Stands for the key in clients that require one."""
MAX_ANSWER_TOKENS = 8192


@dataclass(frozen=True)
class Router:
    """The properties of a router that clients need."""

    url: str
    model: str
    """The model name to request."""
    context_size: int
    key: str
    """A shell expression that reads the key, or `NO_KEY`."""
    models: tuple[str, ...]
    engine: str = "gateway"
    background: bool = False
    """Whether the router has a route for background tasks."""

    @property
    def answer_tokens(self) -> int:
        """Maximum length of an answer. Clients reserve as much of the context; one that reserves
        all of it compacts for ever."""
        return min(MAX_ANSWER_TOKENS, self.context_size // 4)


def run(argv: list[str]) -> int:
    """Print the settings of one kind of client, or of all."""
    arguments = _parser().parse_args(argv)
    router = asyncio.run(_find(arguments.namespace, arguments.router, arguments.url))
    served = [name for name in CLIENTS if name not in _UNSERVED.get(router.engine, ())]
    if arguments.client and arguments.client not in served:
        raise CliError(
            f"engine {router.engine} does not serve what {arguments.client} asks for: these it"
            f" does: {', '.join(served)}; engine gateway serves all"
        )
    for name in [arguments.client] if arguments.client else served:
        if not arguments.client:
            print(f"# --- {name}")
        if name in _TAKES_NO_COMMENTS:
            print(f"# for {name}: export {KEY_VARIABLE}={router.key}", file=sys.stderr)
        print(CLIENTS[name](router) + ("" if arguments.client else "\n"))
    return 0


async def _find(requested: str | None, name: str, url: str | None) -> Router:
    from llama_halo.kube.client import (  # noqa: PLC0415  (the import takes a second)
        KubeClient,
        current_namespace,
    )

    namespace = requested or current_namespace()
    cluster = await KubeClient.connect()
    try:
        cr = await cluster.get(MODELROUTER, namespace, name)
        llamas, _ = await cluster.list(LLAMAMODEL, namespace=namespace)
    except ClusterError as error:
        raise CliError(f"ModelRouter {namespace}/{name}: {error}") from error
    finally:
        await cluster.close()
    return router_of(cr, llamas, url)


def router_of(cr: Json, llamas: list[Any], url: str | None) -> Router:
    """Return the router's properties, from a ModelRouter and its namespace's LlamaModels."""
    metadata, status = cr["metadata"], cr.get("status") or {}
    address = url or status.get("url")
    if not address:
        raise CliError(
            f"ModelRouter {metadata['namespace']}/{metadata['name']} has no address yet: give the"
            " one by which your machine reaches it, --url http://HOST:PORT"
        )
    spec = ModelRouterSpec.model_validate(cr["spec"])
    by_task = spec.routes.default if spec.routes else None
    own = {model.name: model.model_ref.name for model in spec.models or () if model.model_ref}
    first = by_task or next(iter(own), AUTO)
    contexts = {cr["metadata"]["name"]: _context(cr) for cr in llamas}
    return Router(
        url=address.rstrip("/"),
        model=AUTO if by_task else first,
        context_size=contexts.get(own.get(first, first), 0) or 32768,
        key=_key(metadata["namespace"], spec),
        models=tuple(own),
        engine=engine_of(spec).NAME,
        background=bool(spec.routes and spec.routes.background),
    )


def _context(llama: Json) -> int:
    about = (llama.get("status") or {}).get("model") or {}
    return int(about.get("contextSize") or llama["spec"].get("contextSize") or 0)


def _key(namespace: str, spec: ModelRouterSpec) -> str:
    """Return a shell expression that reads a key: this command itself reads no Secret."""
    if spec.auth is None:
        return NO_KEY
    secret = spec.auth.secret_ref
    entry = secret.keys[0] if secret.keys else "ENTRY"
    path = "{.data." + entry.replace(".", "\\.") + "}"
    return (
        f"\"$(kubectl -n {namespace} get secret {secret.name} -o jsonpath='{path}' | base64 -d)\""
    )


def _claude_code(router: Router) -> str:
    return _exports(
        ANTHROPIC_BASE_URL=router.url,
        ANTHROPIC_AUTH_TOKEN=router.key,
        CLAUDE_CODE_MAX_CONTEXT_TOKENS=str(router.context_size),
        CLAUDE_CODE_MAX_OUTPUT_TOKENS=str(router.answer_tokens),
        # Tools that are added later would invalidate the prompt cache.
        ENABLE_TOOL_SEARCH="false",
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
        **_claude_code_names(router),
    )


def _claude_code_names(router: Router) -> dict[str, str]:
    """Return the model names that Claude Code must request where the engine does not map its
    own names to the right models."""
    if router.engine == "llamaSwap":
        side = "background" if router.background else router.model
        main = ("ANTHROPIC_MODEL", "ANTHROPIC_DEFAULT_OPUS_MODEL", "ANTHROPIC_DEFAULT_SONNET_MODEL")
        return dict.fromkeys(main, router.model) | {"ANTHROPIC_DEFAULT_HAIKU_MODEL": side}
    if router.engine == "claudeCodeRouter" and router.background:
        return {"ANTHROPIC_DEFAULT_HAIKU_MODEL": "claude-haiku"}
    return {}


def _openai(router: Router) -> str:
    return _exports(
        OPENAI_BASE_URL=f"{router.url}/v1", OPENAI_API_KEY=router.key, OPENAI_MODEL=router.model
    )


def _anthropic(router: Router) -> str:
    return _exports(ANTHROPIC_BASE_URL=router.url, ANTHROPIC_API_KEY=router.key)


def _ollama(router: Router) -> str:
    return _exports(OLLAMA_HOST=router.url)


def _codex(router: Router) -> str:
    return "\n".join(
        [
            "# ~/.codex/config.toml; the key is in the environment:",
            f"#   export {KEY_VARIABLE}={router.key}",
            f'model = "{router.model}"',
            'model_provider = "llama-halo"',
            f"model_context_window = {router.context_size}",
            "",
            "[model_providers.llama-halo]",
            'name = "llama-halo"',
            f'base_url = "{router.url}/v1"',
            f'env_key = "{KEY_VARIABLE}"',
            'wire_api = "responses"',
        ]
    )


def _opencode(router: Router) -> str:
    limit = {"context": router.context_size, "output": router.answer_tokens}
    names = dict.fromkeys([router.model, *router.models])
    config = {
        "$schema": "https://opencode.ai/config.json",
        "model": f"llama-halo/{router.model}",
        "provider": {
            "llama-halo": {
                "npm": "@ai-sdk/openai-compatible",
                "options": {"baseURL": f"{router.url}/v1", "apiKey": f"{{env:{KEY_VARIABLE}}}"},
                "models": {name: {"name": name, "limit": limit} for name in names},
            }
        },
    }
    head = f"// opencode.json; the key is in the environment: export {KEY_VARIABLE}={router.key}\n"
    return head + json.dumps(config, indent=2)


def _crush(router: Router) -> str:
    side = "background" if router.background else router.model
    names = dict.fromkeys([router.model, side, *router.models])
    config = {
        "models": {
            size: {"provider": "llama-halo", "model": name}
            for size, name in (("large", router.model), ("small", side))
        },
        "providers": {
            "llama-halo": {
                "type": "openai-compat",
                "base_url": f"{router.url}/v1",
                "api_key": f"${KEY_VARIABLE}",
                "models": [
                    {
                        "id": name,
                        "name": name,
                        "context_window": router.context_size,
                        "default_max_tokens": router.answer_tokens,
                    }
                    for name in names
                ],
            }
        },
    }
    return json.dumps(config, indent=2)


def _exports(**values: str) -> str:
    return "\n".join(f"export {name}={value}" for name, value in values.items())


CLIENTS: dict[str, Callable[[Router], str]] = {
    "claude-code": _claude_code,
    "codex": _codex,
    "opencode": _opencode,
    "qwen-code": _openai,
    "crush": _crush,
    "openai": _openai,
    "anthropic": _anthropic,
    "ollama": _ollama,
}
"""By the client's name; `openai` and `anthropic` are for anything built on those SDKs."""
_TAKES_NO_COMMENTS = ("crush",)
"""Clients whose file takes no comments: standard error shows where the key goes."""
_UNSERVED: dict[str, tuple[str, ...]] = {
    "claudeCodeRouter": ("codex", "opencode", "qwen-code", "crush", "openai", "ollama"),
    "liteLLM": ("ollama",),
    "llamaSwap": ("ollama",),
}
"""By engine: clients of an API that the engine does not serve."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llama-halo env")
    parser.add_argument("router", metavar="ROUTER")
    parser.add_argument("-n", "--namespace", help="default: of kubeconfig's context")
    parser.add_argument("--client", choices=list(CLIENTS), help="all when it is not given")
    parser.add_argument(
        "--url", help="by which your machine reaches the router; else the one inside the cluster"
    )
    return parser
