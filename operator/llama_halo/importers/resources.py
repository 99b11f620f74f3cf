"""What was found, as LlamaModels and one ModelRouter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from llama_halo.api import API_VERSION
from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.api.modelrouter import ModelRouterSpec
from llama_halo.errors import SettingsError
from llama_halo.importers.result import Found, FoundModel, Json, Note, Verdict
from llama_halo.importers.secrets import cleaned
from llama_halo.plan.engines.choice import engine_of

_LONGEST_NAME = 40
_MOST_ALIASES = 32
_KEYS = "me"
"""The entry of the router's Secret."""


@dataclass(frozen=True)
class Wanted:
    """What a person says beside the files."""

    router: str = "main"
    engine: str = "gateway"
    sources: Mapping[str, str] = field(default_factory=dict)
    """By a model's name, or `*`: local:PATH, hf:REPO/FILE or a URL."""


def resources(found: Found, wanted: Wanted) -> list[Json]:
    """Return the resources; what is missing or would be refused is noted for a person. Raises
    `SettingsError` for a name that no router can have."""
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", wanted.router):
        raise SettingsError(
            f"--router {wanted.router!r}: give small letters, digits and dashes, at most 40"
        )
    names = _names(found)
    made = [_llama_model(found, model, names, wanted) for model in found.models.values()]
    router = _router(found, names, wanted)
    return [*made, router] if router else made


def source_of(text: str) -> Json:
    """Return the source that a person names; raises `SettingsError` for what is none."""
    kind, _, rest = text.partition(":")
    if kind == "local" and rest and not rest.startswith("/") and ".." not in rest.split("/"):
        return {"local": {"path": rest}}
    if kind in ("http", "https"):
        return {"http": {"url": text}}
    repo, file = "/".join(rest.split("/")[:2]), "/".join(rest.split("/")[2:])
    if kind == "hf" and file:
        return {"huggingFace": {"repo": repo, "file": file}}
    raise SettingsError(
        f"{text!r} is no source: give local:PATH (below the store), hf:OWNER/REPO/FILE or a URL"
    )


def _names(found: Found) -> dict[str, str]:
    """Return the name of each model's resource, which is a part of a host's name."""
    names: dict[str, str] = {}
    for model in found.models:
        stem = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-") or "model"
        stem = stem if stem[0].isalpha() else f"m-{stem}"
        stem = re.sub(r"(-router)+$", "", stem[:_LONGEST_NAME]).rstrip("-") or "model"
        name, number = stem, 2
        while name in names.values():
            name = f"{stem[: _LONGEST_NAME - 3]}-{number}"
            number += 1
        names[model] = name
    return names


def _llama_model(found: Found, model: FoundModel, names: Mapping[str, str], wanted: Wanted) -> Json:
    spec = dict(model.spec)
    said = wanted.sources.get(model.name) or wanted.sources.get("*")
    if said:
        spec["source"] = source_of(said)
    elif "source" not in spec:
        path = f"{names[model.name]}.gguf"
        spec["source"] = {"local": {"path": path}}
        _ask(
            found,
            model.name,
            f"no file says where its weights are: put them into the store of each node as {path},"
            f" or name them: --source {model.name}=hf:OWNER/REPO/FILE",
        )
    if spec.get("microBatchSize", 0) > spec.get("batchSize", 2048):
        spec["batchSize"] = spec["microBatchSize"]
    ordered = {"source": spec.pop("source"), **cleaned(spec)}
    _checked(found, model.name, LlamaModelSpec, ordered)
    return _resource("LlamaModel", names[model.name], ordered)


def _router(found: Found, names: Mapping[str, str], wanted: Wanted) -> Json | None:
    if not found.models and not found.elsewhere:
        return None
    spec: Json = {}
    if wanted.engine != "gateway":
        spec["engine"] = {wanted.engine: _engine(found, wanted.engine)}
    spec["models"] = [
        *(
            _routed(found, model.name, {"modelRef": {"name": names[model.name]}}, model.aliases)
            for model in found.models.values()
        ),
        *(
            _routed(
                found,
                each.name,
                {"provider": each.provider, "model": each.model},
                found.aliases.get(each.name, []),
            )
            for each in found.elsewhere.values()
        ),
    ]
    known = {each["name"] for each in spec["models"]}
    used = {each.provider for each in found.elsewhere.values()}
    if used:
        spec["providers"] = [found.providers[name] for name in sorted(used)]
    routes = _routes(found, known)
    if routes:
        spec["routes"] = routes
    fallbacks = {}
    for name, others in found.fallbacks.items():
        fallbacks[name] = [each for each in others if each in known and each != name]
        for each in {name, *others} - known:
            _ask(found, "", f"fallbacks of {name} name {each}, which none of the files has")
    fallbacks = {name: each for name, each in fallbacks.items() if name in known}
    if any(fallbacks.values()):
        spec["fallbacks"] = {name: each for name, each in fallbacks.items() if each}
    if found.needs_key:
        secret = f"{wanted.router}-keys"
        spec["auth"] = {"secretRef": {"name": secret, "keys": [_KEYS]}}
        _ask(
            found,
            "",
            f"kubectl create secret generic {secret} --from-literal={_KEYS}=…; a key has at least"
            " 16 letters",
        )
    _checked_router(found, spec)
    return _resource("ModelRouter", wanted.router, spec)


def _engine(found: Found, engine: str) -> Json:
    if engine != "claudeCodeRouter":
        return {}
    found_options: Json = {}
    if found.transformers:
        found_options["transformers"] = found.transformers
    if found.api_timeout:
        found_options["apiTimeout"] = found.api_timeout
    return found_options


def _routed(found: Found, name: str, behind: Json, aliases: list[str]) -> Json:
    unique = [each for each in dict.fromkeys(aliases) if each != name]
    for left_out in unique[_MOST_ALIASES:]:
        _ask(found, name, f"alias {left_out} is one too many: {_MOST_ALIASES} are the most")
    more = {"aliases": unique[:_MOST_ALIASES]} if unique else {}
    return {"name": name, **behind, **more}


def _routes(found: Found, known: set[str]) -> Json:
    routes: Json = {}
    for route, value in found.routes.items():
        model = value["model"] if isinstance(value, dict) else value
        if model in known:
            routes[route] = value
        else:
            _ask(found, "", f"routes.{route} means {model}, which none of the files has")
    return routes


def _checked(
    found: Found, name: str, schema: type[LlamaModelSpec] | type[ModelRouterSpec], spec: Json
) -> None:
    try:
        schema.model_validate(spec)
    except ValidationError as error:
        for each in error.errors():
            path = ".".join(str(part) for part in each["loc"])
            seen = str(each["input"])[:80]
            _ask(found, name, f"spec.{path}: {seen!r} would be refused: {each['msg']}")


def _checked_router(found: Found, spec: Json) -> None:
    before = len(found.notes)
    _checked(found, "", ModelRouterSpec, spec)
    if len(found.notes) == before:
        valid = ModelRouterSpec.model_validate(spec)
        refusal = engine_of(valid).refusal(valid)
        if refusal:
            _ask(found, "", refusal)


def _ask(found: Found, about: str, text: str) -> None:
    found.notes.append(Note(about or "the router", Verdict.TODO, text, about))


def _resource(kind: str, name: str, spec: Json) -> Json:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
