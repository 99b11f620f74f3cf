"""Builds LlamaModels and one ModelRouter from the result of an import."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.api.modelrouter import ModelRouterSpec
from llama_halo.contract.labels import API_VERSION
from llama_halo.errors import CliError
from llama_halo.importers.result import ImportedModel, ImportResult, Json, Note, SettingOutcome
from llama_halo.importers.secrets import redact
from llama_halo.plan.engines.choice import engine_of

_MAX_NAME_CHARACTERS = 40
_MAX_ALIASES = 32
_KEYS = "me"
"""The entry of the router's Secret."""


@dataclass(frozen=True)
class ImportOptions:
    """The options of `llama-halo import`."""

    router: str = "main"
    engine: str = "gateway"
    sources: Mapping[str, str] = field(default_factory=dict)
    """By a model's name, or `*`: local:PATH, hf:REPO/FILE or a URL."""


def resources(result: ImportResult, options: ImportOptions) -> list[Json]:
    """Return the resources; missing and invalid values become notes for a person.

    Raises `CliError` for an invalid router name.
    """
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", options.router):
        raise CliError(
            f"--router {options.router!r}: give at most 40 lowercase letters, digits and dashes,"
            " starting with a letter"
        )
    names = _names(result)
    llama_models = [_llama_model(result, model, names, options) for model in result.models.values()]
    router = _router(result, names, options)
    return [*llama_models, router] if router else llama_models


def source_of(text: str) -> Json:
    """Return the source of a `--source` option; raises `CliError` if it is invalid."""
    kind, _, rest = text.partition(":")
    if kind == "local" and rest and not rest.startswith("/") and ".." not in rest.split("/"):
        return {"local": {"path": rest}}
    if kind in ("http", "https"):
        return {"http": {"url": text}}
    repo, file = "/".join(rest.split("/")[:2]), "/".join(rest.split("/")[2:])
    if kind == "hf" and file:
        return {"huggingFace": {"repo": repo, "file": file}}
    raise CliError(
        f"{text!r} is no source: give local:PATH (below the store), hf:OWNER/REPO/FILE or a URL"
    )


def _names(result: ImportResult) -> dict[str, str]:
    """Return the name of each model's resource, which has to be valid in a host name."""
    names: dict[str, str] = {}
    for model in result.models:
        stem = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-") or "model"
        stem = stem if stem[0].isalpha() else f"m-{stem}"
        stem = re.sub(r"(-router)+$", "", stem[:_MAX_NAME_CHARACTERS]).rstrip("-") or "model"
        name, number = stem, 2
        while name in names.values():
            name = f"{stem[: _MAX_NAME_CHARACTERS - 3]}-{number}"
            number += 1
        names[model] = name
    return names


def _llama_model(
    result: ImportResult, model: ImportedModel, names: Mapping[str, str], options: ImportOptions
) -> Json:
    spec = dict(model.spec)
    source = options.sources.get(model.name) or options.sources.get("*")
    if source:
        spec["source"] = source_of(source)
    elif "source" not in spec:
        path = f"{names[model.name]}.gguf"
        spec["source"] = {"local": {"path": path}}
        _ask(
            result,
            model.name,
            f"no file says where its weights are: put them into the store of each node as {path},"
            f" or name them: --source {model.name}=hf:OWNER/REPO/FILE",
        )
    if spec.get("microBatchSize", 0) > spec.get("batchSize", 2048):
        spec["batchSize"] = spec["microBatchSize"]
    ordered = {"source": spec.pop("source"), **redact(spec)}
    _validate(result, model.name, LlamaModelSpec, ordered)
    return _resource("LlamaModel", names[model.name], ordered)


def _router(result: ImportResult, names: Mapping[str, str], options: ImportOptions) -> Json | None:
    if not result.models and not result.provider_models:
        return None
    spec: Json = {}
    if options.engine != "gateway":
        spec["engine"] = {options.engine: _engine(result, options.engine)}
    spec["models"] = [
        *(
            _routed(result, model.name, {"modelRef": {"name": names[model.name]}}, model.aliases)
            for model in result.models.values()
        ),
        *(
            _routed(
                result,
                entry.name,
                {"provider": entry.provider, "model": entry.model},
                result.aliases.get(entry.name, []),
            )
            for entry in result.provider_models.values()
        ),
    ]
    served = {model["name"] for model in spec["models"]}
    used = {entry.provider for entry in result.provider_models.values()}
    if used:
        spec["providers"] = [result.providers[name] for name in sorted(used)]
    routes = _routes(result, served)
    if routes:
        spec["routes"] = routes
    fallbacks = {}
    for name, others in result.fallbacks.items():
        fallbacks[name] = [other for other in others if other in served and other != name]
        for missing in {name, *others} - served:
            _ask(result, "", f"fallbacks of {name} name {missing}, which none of the files has")
    fallbacks = {name: names for name, names in fallbacks.items() if name in served}
    if any(fallbacks.values()):
        spec["fallbacks"] = {name: names for name, names in fallbacks.items() if names}
    if result.needs_key:
        secret = f"{options.router}-keys"
        spec["auth"] = {"secretRef": {"name": secret, "keys": [_KEYS]}}
        _ask(
            result,
            "",
            f"kubectl create secret generic {secret} --from-literal={_KEYS}=…; a key has at least"
            " 16 bytes",
        )
    _validate_router(result, spec)
    return _resource("ModelRouter", options.router, spec)


def _engine(result: ImportResult, engine: str) -> Json:
    if engine != "claudeCodeRouter":
        return {}
    engine_options: Json = {}
    if result.transformers:
        engine_options["transformers"] = result.transformers
    if result.api_timeout:
        engine_options["apiTimeout"] = result.api_timeout
    return engine_options


def _routed(result: ImportResult, name: str, behind: Json, aliases: list[str]) -> Json:
    unique = [alias for alias in dict.fromkeys(aliases) if alias != name]
    for left_out in unique[_MAX_ALIASES:]:
        _ask(result, name, f"alias {left_out} is one too many: {_MAX_ALIASES} are the most")
    more = {"aliases": unique[:_MAX_ALIASES]} if unique else {}
    return {"name": name, **behind, **more}


def _routes(result: ImportResult, names: set[str]) -> Json:
    routes: Json = {}
    for route, value in result.routes.items():
        model = value["model"] if isinstance(value, dict) else value
        if model in names:
            routes[route] = value
        else:
            _ask(result, "", f"routes.{route} means {model}, which none of the files has")
    return routes


def _validate(
    result: ImportResult,
    name: str,
    schema: type[LlamaModelSpec] | type[ModelRouterSpec],
    spec: Json,
) -> None:
    try:
        schema.model_validate(spec)
    except ValidationError as error:
        for detail in error.errors():
            path = ".".join(str(part) for part in detail["loc"])
            value = str(detail["input"])[:80]
            _ask(result, name, f"spec.{path}: {value!r} would be refused: {detail['msg']}")


def _validate_router(result: ImportResult, spec: Json) -> None:
    before = len(result.notes)
    _validate(result, "", ModelRouterSpec, spec)
    if len(result.notes) == before:
        valid = ModelRouterSpec.model_validate(spec)
        refusal = engine_of(valid).refusal(valid)
        if refusal:
            _ask(result, "", refusal)


def _ask(result: ImportResult, about: str, text: str) -> None:
    result.notes.append(Note(about or "the router", SettingOutcome.TODO, text, about))


def _resource(kind: str, name: str, spec: Json) -> Json:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
