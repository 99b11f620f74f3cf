"""Every field of the schema changes something: a plan, a demand, or what the gateway reads."""

from __future__ import annotations

import copy
import operator
import types
import typing
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from enum import StrEnum
from functools import reduce
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.api.modelrouter import ModelRouterSpec
from llama_halo.api.schema import Schema
from llama_halo.contract.lease import Phase
from llama_halo.controllers.file_facts import template_facts, template_key
from llama_halo.gateway.models.model import model_of
from llama_halo.plan import server
from llama_halo.plan.facts import (
    Assignment,
    ChatTemplateFacts,
    FileFacts,
    ModelUsage,
    Owner,
    RouterFacts,
    Sizing,
)
from llama_halo.plan.llamamodel import plan_llamamodel
from llama_halo.plan.model_files import parts
from llama_halo.plan.modelrouter import plan_modelrouter
from llama_halo.plan.sizing import size
from llama_halo.status.verification import is_enabled
from tests.support import golden
from tests.support.plans import BASE, demand_of, facts_of, live

Json = dict[str, Any]
Path = tuple[str, ...]
ENTRY = "*"
"""In a path: any entry of a list, or any value of a mapping."""
WITHOUT_EFFECT = {("description",), ("engine", "gateway")}
"""A text that only people read, and the default engine, which may be named."""
BUSY = ModelUsage(phase=Phase.LOADED, resident_seconds=60.0, busy=True)
SOURCES: list[Json] = [
    {
        "huggingFace": {
            "repo": "o/r",
            "file": "x.gguf",
            "revision": "v1",
            "tokenSecretRef": {"name": "token", "key": "hf"},
        }
    },
    {
        "http": {
            "url": "https://host/x.gguf",
            "sha256": "a" * 64,
            "headersSecretRef": {"name": "headers"},
        }
    },
    {"local": {"path": "x.gguf"}},
]
ON_DEMAND = {
    "idleTimeout": "20m",
    "minResident": "2m",
    "priority": 3,
    "preload": True,
    "group": "one-at-a-time",
}
NODE_TERM = {
    "matchExpressions": [{"key": "disk", "operator": "In", "values": ["nvme"]}],
    "matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["halo-9"]}],
}
SELECTOR = {
    "matchLabels": {"app": "db"},
    "matchExpressions": [{"key": "tier", "operator": "In", "values": ["1"]}],
}
POD_TERM = {
    "topologyKey": "zone",
    "labelSelector": SELECTOR,
    "matchLabelKeys": ["app"],
    "mismatchLabelKeys": ["tier"],
    "namespaces": ["llm"],
    "namespaceSelector": SELECTOR,
}
POD_TERMS = {
    "requiredDuringSchedulingIgnoredDuringExecution": [POD_TERM],
    "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 5, "podAffinityTerm": POD_TERM}],
}
POD: Json = {
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [NODE_TERM]},
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 5, "preference": NODE_TERM}
            ],
        },
        "podAffinity": POD_TERMS,
        "podAntiAffinity": POD_TERMS,
    },
    "annotations": {"example.com/note": "kept"},
    "priorityClassName": "high",
    "runtimeClassName": "crun",
    "serviceAccountName": "models",
    "imagePullSecrets": [{"name": "registry"}],
    "tolerations": [
        {
            "key": "dedicated",
            "operator": "Equal",
            "value": "ai",
            "effect": "NoExecute",
            "tolerationSeconds": 30,
        }
    ],
    "resources": {"limits": {"cpu": "2"}},
}
MODELS: list[Json] = [
    *(golden.load(path)["spec"] for path in golden.cases() if path.stem.startswith("model-")),
    *({"source": source} for source in SOURCES),
    *({**BASE, "projector": {"source": source}} for source in SOURCES),
    *({**BASE, "draft": {"model": {"source": source, "maxTokens": 4}}} for source in SOURCES),
    *({**BASE, "adapters": [{"name": "sql", "source": source}]} for source in SOURCES),
    {**BASE, "draft": {"mtp": {"maxTokens": 2}}},
    {**BASE, "activation": {"onDemand": ON_DEMAND}},
    {**BASE, "update": {"mode": "WhenIdle", "timeout": "20m"}},
    {**BASE, "store": {"persistentVolumeClaim": {"claimName": "models"}}},
    {**BASE, "devices": {"resource": {"name": "amd.com/gpu", "count": 2}}},
    {**BASE, "devices": {"claim": {"name": "gpu"}}},
    {**BASE, "devices": {"claim": {"templateName": "gpu"}}},
    {**BASE, "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}]},
    {
        **BASE,
        "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}],
    },
    {**BASE, "pod": POD},
]
ROUTED = [{"name": "a", "modelRef": {"name": "a"}}]
ROUTERS: list[Json] = [
    *(golden.load(path)["spec"] for path in golden.cases() if path.stem.startswith("router-")),
    {"models": ROUTED, "engine": {"claudeCodeRouter": {"apiTimeout": "20m"}}},
    {"models": ROUTED, "engine": {"claudeCodeRouter": {"version": "2.0.0"}}},
    {"models": ROUTED, "engine": {"llamaSwap": {"version": "199"}}},
    {"models": ROUTED, "suspend": True},
    {"models": ROUTED, "hold": {"timeout": "5m", "pingInterval": "7s"}},
    {"models": ROUTED, "documents": {"pdf": "Refuse"}},
    {
        "models": [{"name": "a", "provider": "p", "model": "m", "maxTokens": 8192}],
        "providers": [{"name": "p", "protocol": "OpenAI", "baseURL": "https://p/v1"}],
    },
    {"models": ROUTED, "pod": {**POD, "image": "registry.example.com/gateway:1"}},
]


def paths_of(annotation: Any, at: Path = ()) -> Iterator[tuple[Path, tuple[Any, ...]]]:
    """Yield the path of every value of a type that is no Schema itself, and its other choices."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Schema):
        annotation.model_rebuild()  # the aliases of what names a class below itself
        hints = typing.get_type_hints(annotation, include_extras=True)
        for name, field in annotation.model_fields.items():
            yield from paths_of(hints[name], (*at, field.alias or name))
        if not annotation.model_fields:
            yield at, ()
    elif origin is typing.Annotated:
        yield from paths_of(arguments[0], at)
    elif origin in (typing.Union, types.UnionType):
        for part in arguments:
            if part is not type(None):
                yield from paths_of(part, at)
    elif origin in (list, tuple):
        yield from paths_of(arguments[0], (*at, ENTRY))
    elif origin is dict and arguments[1] is not Any:
        yield from paths_of(arguments[1], (*at, ENTRY))
    elif origin is typing.Literal:
        yield at, arguments
    elif isinstance(annotation, type) and issubclass(annotation, StrEnum):
        yield at, tuple(str(member) for member in annotation)
    else:
        yield at, ()


def fields_of(schema: type[Schema]) -> dict[Path, tuple[Any, ...]]:
    """Return the paths of what may have one value or another, each with the named ones."""
    fields: dict[Path, tuple[Any, ...]] = {}
    for path, choices in paths_of(schema):
        fields[path] = fields.get(path, ()) + choices
    return {path: choices for path, choices in fields.items() if len(choices) != 1}


def changes(spec: Json, path: Path, choices: Sequence[Any]) -> Iterator[Json]:
    """Yield the specs that have another value at a path, or none; nothing where it is absent."""
    for keys in keys_at(spec, path):
        value = get(spec, keys)
        for other in (*choices, *others_than(value)):
            changed = copy.deepcopy(spec)
            get(changed, keys[:-1])[keys[-1]] = other
            yield changed
        # A field is left out, and with it what would be empty.
        changed = copy.deepcopy(spec)
        for length in range(len(keys) - 1, -1, -1):
            del get(changed, keys[:length])[keys[length]]
            yield copy.deepcopy(changed)
            if get(changed, keys[:length]):
                break


def keys_at(value: Any, path: Path, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the keys and indexes of all values that a path names."""
    if not path:
        yield at
        return
    names: Iterable[Any] = ()
    if path[0] == ENTRY and isinstance(value, list | dict):
        names = range(len(value)) if isinstance(value, list) else value
    elif isinstance(value, dict) and path[0] in value:
        names = (path[0],)
    for name in names:
        yield from keys_at(value[name], path[1:], (*at, name))


def get(value: Any, keys: Sequence[Any]) -> Any:
    return reduce(operator.getitem, keys, value)


def others_than(value: Any) -> tuple[Any, ...]:
    """Return values of the same type; the schema says which of them are allowed."""
    if isinstance(value, bool):
        return (not value,)
    if isinstance(value, int):
        return value + 1, value - 1, 2 * value
    if isinstance(value, str):
        return (
            *(f"{value}x", f"x{value}", value[:-1], "9m", "9s", "9Gi", "0.9", "b" * 64, "9.9.9"),
            *("small", "cloud", "Ollama", "OpenAI"),  # of the routers' models and protocols
        )
    return ()


def effects_of_model(raw: Json) -> list[Any]:
    """Return all that is derived from the spec of a LlamaModel."""
    spec = LlamaModelSpec.model_validate(raw)
    template = ChatTemplateFacts(golden.TEMPLATE if spec.chat_template else "")
    files = FileFacts(chat_template=template)
    demand = demand_of(spec, files)
    decided = Assignment(demand, ("n1",)) if demand else None
    more = {"files": files, "candidates": ("n1",)}
    busy = {"deployments": (live("n1", "old", answers=True),), "usage": BUSY}
    resource = {"metadata": {"name": "coder", "namespace": "llm"}, "spec": raw}
    return [
        demand,
        is_enabled(spec),
        model_of(resource),
        _template_of(resource),
        _container(spec),
        plan_llamamodel(spec, facts_of(spec, decided, **more)),
        plan_llamamodel(spec, facts_of(spec, decided, **more, **busy)),
    ]


def _template_of(resource: Json) -> Any:
    """Return which key of which ConfigMap the operator reads."""
    texts = {"qwen.jinja": "text"}
    state = SimpleNamespace(pollers=SimpleNamespace(templates=defaultdict(lambda: texts)))
    return template_key(resource), template_facts(state, resource)  # type: ignore[arg-type]


def _container(spec: LlamaModelSpec) -> Any:
    """Return the server of a model whose files are all there, whatever they hold."""
    sizing = size(spec, {})
    paths = {part.role: f"{part.role}.gguf" for part in parts(spec)}
    assert isinstance(sizing, Sizing)
    return server.container("coder", spec, golden.DEFAULTS, paths=paths, sizing=sizing)


def effects_of_router(raw: Json) -> list[Any]:
    """Return all that is derived from the spec of a ModelRouter."""
    owner = Owner("ModelRouter", "llm", "main", "uid-1", 1)
    return [
        plan_modelrouter(ModelRouterSpec.model_validate(raw), RouterFacts(owner, golden.DEFAULTS))
    ]


MODEL_FIELDS, ROUTER_FIELDS = fields_of(LlamaModelSpec), fields_of(ModelRouterSpec)


@pytest.mark.parametrize("path", MODEL_FIELDS, ids=".".join)
def test_no_field_of_a_model_is_ignored(path: Path) -> None:
    check(path, MODEL_FIELDS[path], MODELS, effects_of_model)


@pytest.mark.parametrize("path", ROUTER_FIELDS, ids=".".join)
def test_no_field_of_a_router_is_ignored(path: Path) -> None:
    check(path, ROUTER_FIELDS[path], ROUTERS, effects_of_router)


def check(
    path: Path, choices: Sequence[Any], specs: Sequence[Json], effects_of: Callable[[Json], Any]
) -> None:
    tried = 0
    for spec in specs:
        before = effects_of(spec)
        for changed in changes(spec, path, choices):
            # The API server refuses what names a model or a provider that is not there.
            with suppress(ValidationError, KeyError):
                after = effects_of(changed)
                tried += changed != spec
                if after != before:
                    assert path not in WITHOUT_EFFECT
                    return
    assert tried, "no spec has the field: add one"
    assert path in WITHOUT_EFFECT, f"{tried} changes of it change nothing"
