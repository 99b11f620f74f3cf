"""Reads LiteLLM's config.yaml: model names for addresses, some of them on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llama_halo.importers.providers import here, provider_at
from llama_halo.importers.result import ImportResult, SettingOutcome, SettingsReader

_PROTOCOLS = {"anthropic": "Anthropic", "ollama": "Ollama", "ollama_chat": "Ollama"}
"""Any other provider with an address speaks OpenAI's API."""
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
_MODES = {
    "embedding": "Embedding",
    "rerank": "Rerank",
    "audio_transcription": "Transcription",
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


def is_config(document: Any) -> bool:
    """Tell whether a document is LiteLLM's."""
    return isinstance(document, Mapping) and "model_list" in document


def read(result: ImportResult, file: str, document: Mapping[str, Any]) -> None:
    """Read a configuration; local servers first, because their model names take precedence."""
    top = SettingsReader(result, file, document)
    entries = [_Entry.of(entry) for entry in top.several("model_list")]
    for entry in sorted(entries, key=lambda entry: not entry.is_local):
        _entry(result, entry)
    router = top.inner("router_settings")
    for alias, target in router.inner("model_group_alias").items():
        model = _resolve_name(
            result, str(target.get("model") if isinstance(target, Mapping) else target)
        )
        if model:
            result.add_alias(model, alias)
            router.note(f"model_group_alias.{alias}", SettingOutcome.MAPPED, f"{alias}: {model}")
        else:
            router.note(
                f"model_group_alias.{alias}", SettingOutcome.TODO, "means no model of the list"
            )
    settings = top.inner("litellm_settings")
    for section in (router, settings):
        for kind in ("fallbacks", "context_window_fallbacks", "default_fallbacks"):
            _fallbacks(result, section, kind)
    for name, reason in _OF_THE_ROUTER.items():
        router.drop(name, reason)
    for name in settings.peek():
        settings.drop(name, "of LiteLLM's own process")
    general = top.inner("general_settings")
    if general.ask(
        "master_key",
        "put it into a Secret and name it in spec.auth of the ModelRouter; keys of a database are"
        " gone, each client's can be an entry of that Secret",
    ):
        result.needs_key = True
    for name in general.peek():
        general.drop(name, "there is no database, and no budgets")
    top.drop("environment_variables", "of LiteLLM's own process")
    for section in (router, settings, general, top):
        section.end()


@dataclass(frozen=True)
class _Entry:
    """One item of `model_list`."""

    name: str
    prefix: str
    model: str
    address: str
    values: SettingsReader
    parameters: SettingsReader

    @classmethod
    def of(cls, values: SettingsReader) -> _Entry:
        name = values.text("model_name")
        parameters = values.inner("litellm_params")
        prefix, _, model = parameters.text("model").partition("/")
        if not model:
            prefix, model = "anthropic" if prefix.startswith("claude") else "openai", prefix
        address = parameters.text("api_base") or _DEFAULT_ADDRESSES.get(prefix, "")
        return cls(name, prefix, model, address, values, parameters)

    @property
    def is_local(self) -> bool:
        return here(self.address) is not None and self.prefix not in ("ollama", "ollama_chat")


def _entry(result: ImportResult, entry: _Entry) -> None:
    values, parameters = entry.values, entry.parameters
    key = parameters.take("api_key")
    if not entry.model or not entry.name:
        values.note("", SettingOutcome.TODO, "it has no model or no name")
    elif entry.is_local:
        # A server that is known by its port accepts any model name.
        find_model = result.find_model(entry.model) or result.find_model(entry.name)
        llama = (
            find_model or result.find_by_port(here(entry.address) or 0) or result.model(entry.model)
        )
        mode = values.inner("model_info").text("mode")
        if mode in _MODES:
            llama.spec.setdefault("mode", _MODES[mode])
        _named(result, llama.name, entry.name, values)
    elif not entry.address:
        text = f"{entry.prefix}/ has no address here: write api_base, one that speaks OpenAI's API"
        values.note("", SettingOutcome.TODO, text)
    else:
        protocol = _PROTOCOLS.get(entry.prefix, "OpenAI")
        has_key = bool(key) and key not in ("dummy", "none", "sk-none")
        provider = provider_at(result, entry.prefix, entry.address, protocol=protocol, key=has_key)
        model = result.add_provider_model(entry.model, provider, entry.model)
        _named(result, model, entry.name, values)
    for name in _BY_THE_GATEWAY:
        parameters.drop(name, "hold.timeout of the ModelRouter")
    for name in ("rpm", "tpm", "weight", "order", "max_parallel_requests"):
        text = "as many requests as a server has slots, spec.parallel; a provider's are"
        parameters.drop(name, f"{text} providers[].maxConcurrent")
    parameters.end()
    values.drop("model_info", "what a model can do, the operator reads from its file")
    values.end()


def _named(result: ImportResult, model: str, name: str, values: SettingsReader) -> None:
    """Add the name that clients request as an alias; `*` is the default route."""
    if name == "*":
        result.routes.setdefault("default", model)
        values.note("model_name", SettingOutcome.MAPPED, f"routes.default: {model}")
        return
    result.add_alias(model, name)
    values.note("model_name", SettingOutcome.MAPPED, f"{name} is a name of {model}")


def _resolve_name(result: ImportResult, name: str) -> str:
    """Return the model that a name of LiteLLM's list stands for, empty if there is none."""
    find_model = result.find_model(name)
    if find_model:
        return find_model.name
    if name in result.provider_models:
        return name
    return next((model for model, names in result.aliases.items() if name in names), "")


def _fallbacks(result: ImportResult, settings: SettingsReader, kind: str) -> None:
    if kind == "default_fallbacks":
        settings.ask(kind, "fallbacks are of one model each: spec.fallbacks")
        return
    for entry in settings.several(kind):
        for name in entry.peek():
            others = [_resolve_name(result, other) for other in entry.texts(name)]
            model, fallbacks = _resolve_name(result, name), [other for other in others if other]
            if not model or len(fallbacks) < len(others) or not fallbacks:
                entry.note(name, SettingOutcome.TODO, "names a model that is not in the list")
            elif kind == "fallbacks":
                result.fallbacks.setdefault(model, fallbacks)
                entry.note(name, SettingOutcome.MAPPED, f"fallbacks of {model}")
            else:
                result.routes.setdefault("longContext", {"model": fallbacks[0]})
                text = f"routes.longContext: {fallbacks[0]}, for every model's long prompts"
                entry.note(name, SettingOutcome.CHANGED, text)
