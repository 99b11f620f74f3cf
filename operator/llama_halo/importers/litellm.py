"""LiteLLM's config.yaml: names before addresses, some of them on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_halo.importers.found import Found, Settings, Verdict
from llama_halo.importers.providers import here, provider_at

_PROTOCOLS = {"anthropic": "Anthropic", "ollama": "Ollama", "ollama_chat": "Ollama"}
"""All others that can be had by an address speak OpenAI's."""
_DEFAULT_ADDRESSES = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "openrouter": "https://openrouter.ai/api/v1",
    "groq": "https://api.groq.com/openai/v1",
    "deepseek": "https://api.deepseek.com/v1",
    "mistral": "https://api.mistral.ai/v1",
    "ollama": "http://localhost:11434",
    "ollama_chat": "http://localhost:11434",
}
_BY_THE_GATEWAY = ("timeout", "stream_timeout", "max_retries", "num_retries")
_OF_THE_ROUTER = {
    "routing_strategy": "replicas of one model share a session's cache: a session stays with one",
    "disable_cooldowns": "no model is set aside for an error",
    "allowed_fails": "no model is set aside for an error",
    "cooldown_time": "no model is set aside for an error",
    "num_retries": "a request is sent once more when its server went away",
    "timeout": "hold.timeout of the ModelRouter",
    "enable_pre_call_checks": "the model's own server counts its tokens",
}


def is_it(document: Any) -> bool:
    """Tell whether a document is LiteLLM's."""
    return isinstance(document, Mapping) and "model_list" in document


def read(found: Found, file: str, document: Mapping[str, Any]) -> None:
    """Read a whole configuration."""
    top = Settings(found, file, document)
    for at, entry in enumerate(top.take("model_list") or []):
        _entry(found, f"{file}: model_list[{at}]", entry)
    router = top.inner("router_settings")
    for alias, model in (router.take("model_group_alias", "aliases in the router") or {}).items():
        target = model.get("model") if isinstance(model, Mapping) else model
        found.add_alias(_behind(found, str(target)), str(alias))
    settings = top.inner("litellm_settings")
    for each in (router, settings):
        for kind in ("fallbacks", "context_window_fallbacks", "default_fallbacks"):
            _fallbacks(found, each, kind)
    for name, why in _OF_THE_ROUTER.items():
        router.drop(name, why)
    for name, _ in list(settings.items()):
        settings.note(name, Verdict.DROPPED, "the gateway needs no such setting")
    general = top.inner("general_settings")
    if general.ask(
        "master_key",
        "put it into a Secret and name it in spec.auth of the ModelRouter; keys of a database are"
        " gone, each client's can be an entry of that Secret",
    ):
        found.needs_key = True
    for name, _ in list(general.items()):
        general.note(name, Verdict.DROPPED, "there is no database, and no budgets")
    top.drop("environment_variables", "of LiteLLM's own process")
    for each in (router, settings, general, top):
        each.end()


def _entry(found: Found, where: str, entry: Mapping[str, Any]) -> None:
    values = Settings(found, where, entry)
    name = str(values.take("model_name"))
    parameters = values.inner("litellm_params")
    prefix, _, model = str(parameters.take("model")).rpartition("/")
    prefix, _, rest = prefix.partition("/")
    model = f"{rest}/{model}" if rest else model
    address = str(parameters.take("api_base") or _DEFAULT_ADDRESSES.get(prefix or "openai", ""))
    key = parameters.take("api_key")
    port = here(address)
    if port is not None and prefix not in ("ollama", "ollama_chat"):
        llama = found.at_port(port) or found.model(model)
        llama.port = port
        _named(found, llama.name, name, values)
    else:
        protocol = _PROTOCOLS.get(prefix, "OpenAI")
        has_key = bool(key) and key not in ("dummy", "none", "sk-none")
        provider = provider_at(found, prefix or "openai", address, protocol=protocol, key=has_key)
        found.add_elsewhere(model, provider, model)
        _named(found, model, name, values)
    for each in _BY_THE_GATEWAY:
        parameters.drop(each, "hold.timeout of the ModelRouter")
    for each in ("rpm", "tpm", "weight", "order", "max_parallel_requests"):
        parameters.drop(
            each,
            "as many requests as a server has slots, spec.parallel; a provider's"
            " are providers[].maxConcurrent",
        )
    parameters.end()
    values.drop("model_info", "what a model can do, the operator reads from its file")
    values.end()


def _named(found: Found, model: str, name: str, values: Settings) -> None:
    """Give a model the name by which clients ask for it."""
    if name == "*":
        found.routes.setdefault("default", model)
        values.note("model_name", Verdict.MAPPED, f"routes.default: {model}")
        return
    found.add_alias(model, name)
    values.note("model_name", Verdict.MAPPED, f"{name} is a name of {model}")


def _behind(found: Found, name: str) -> str:
    """Return the model that a name of LiteLLM's list stands for."""
    for model in found.models.values():
        if name == model.name or name in model.aliases:
            return model.name
    return next((model for model, names in found.aliases.items() if name in names), name)


def _fallbacks(found: Found, settings: Settings, kind: str) -> None:
    value = settings.take(kind)
    if not value:
        return
    if kind == "default_fallbacks":
        settings.note(kind, Verdict.DROPPED, "fallbacks are of one model each: spec.fallbacks")
        return
    for each in value:
        for name, others in each.items():
            targets = [_behind(found, str(other)) for other in others]
            if kind == "fallbacks":
                found.fallbacks.setdefault(_behind(found, str(name)), targets)
                settings.note(kind, Verdict.MAPPED, f"fallbacks of {name}")
            else:
                found.routes.setdefault("longContext", {"model": targets[0]})
                text = f"routes.longContext: {targets[0]}, for every model's long prompts"
                settings.note(kind, Verdict.CHANGED, text)
