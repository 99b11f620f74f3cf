"""llama-swap's config.yaml: every model on demand, groups and ttl by what memory holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from llama_halo.importers.command_line import CommandLine, split
from llama_halo.importers.found import Found, FoundModel, Settings, Verdict
from llama_halo.importers.providers import provider_at

_FOREVER = "8760h"
"""For a model that was to stay once it was loaded."""
_LAST_TO_GO = 1000
_DEEPEST = 10
"""Of macros in macros."""
_OF_THE_PROGRAM = {
    "logLevel": "of llama-swap's own process",
    "logRequests": "the gateway writes one line for each request, without its content",
    "logTimeFormat": "of llama-swap's own process",
    "logToStdout": "of llama-swap's own process",
    "metricsMaxInMemory": "the gateway has /metrics",
    "captureBuffer": "nothing of a request is kept",
    "store": "nothing is kept beside the cluster's own state",
    "ui": "the gateway has a page at /ui",
    "performance": "the gateway has /metrics",
    "startPort": "each model is a Service of its own",
    "sendLoadingState": "clients that stream get pings while a model loads",
    "includeAliasesInList": "aliases are listed",
    "unloadTimeout": "a pod ends its requests first",
    "upstream": "models are reached by their Services",
}
_OF_A_MODEL = {
    "cmdStop": "the kubelet ends a pod",
    "checkEndpoint": "pods are probed at /health",
    "healthCheckTimeout": "the operator's STARTUP_TIMEOUT is for all models",
    "unloadTimeout": "a pod ends its requests first",
    "sendLoadingState": "clients that stream get pings while a model loads",
    "timeouts": "a request is held as long as hold.timeout of the ModelRouter",
    "metadata": "what a model is, the operator reads from its file",
    "capabilities": "what a model can do, the operator reads from its file",
    "compat": "there are no web sockets here",
    "concurrencyLimit": "the gateway sends as many at once as the server has slots: spec.parallel",
    "unlisted": "the gateway lists all models of a router",
}
_MACRO = re.compile(r"\$\{([A-Za-z0-9_-]+)\}")


def is_it(document: Any) -> bool:
    """Tell whether a document is llama-swap's."""
    if not isinstance(document, Mapping) or "model_list" in document:
        return False
    models = document.get("models")
    has_commands = isinstance(models, Mapping) and any(
        isinstance(each, Mapping) and ("cmd" in each or "proxy" in each) for each in models.values()
    )
    return has_commands or "peers" in document


def read(found: Found, file: str, document: Mapping[str, Any], root: str) -> None:
    """Read a whole configuration."""
    top = Settings(found, file, document)
    macros = _macros(top.take("macros", "written out in the models") or {}, {})
    default_ttl = top.take("globalTTL", "activation.onDemand.idleTimeout of every model") or 0
    top.drop("healthCheckTimeout", "the operator's STARTUP_TIMEOUT is for all models")
    preloaded = _preloaded(top)
    groups, priorities = _routing(top)
    models = top.inner("models")
    for name, values in models.items():
        model = found.model(str(name))
        where = Settings(found, f"{file}: models.{name}", values or {}, model.name)
        _model(found, model, where, macros, root)
        _activation(model, where, default_ttl, preloaded, groups)
        if model.name in priorities and "activation" in model.spec:
            model.spec["activation"]["onDemand"].setdefault("priority", priorities[model.name])
        where.end()
    for name, values in top.inner("peers").items():
        _peer(found, Settings(found, f"{file}: peers.{name}", values), str(name))
    _selectors(found, top)
    if top.ask("apiKeys", "put the keys into a Secret and name it in spec.auth of the ModelRouter"):
        found.needs_key = True
    for name, why in _OF_THE_PROGRAM.items():
        top.drop(name, why)
    top.ask("profiles", "which model a name means: change the ModelRouter's aliases instead")
    top.end()


def _model(
    found: Found, model: FoundModel, where: Settings, macros: Mapping[str, str], root: str
) -> None:
    own = _macros(where.take("macros", "written out") or {}, macros)
    known = {**macros, **own, "MODEL_ID": model.name, "PORT": "8080", "PID": ""}
    command = where.take("cmd")
    if command:
        variables, words, program = split(_expanded(str(command), known))
        listed = [_expanded(str(each), known) for each in where.take("env") or []]
        if program == "whisper-server":
            model.spec["mode"] = "Transcription"
        CommandLine(found, model, f"{where.where}.cmd", root).read(words, [*listed, *variables])
        where.drop("proxy", "the Service is the address")
        for unknown in sorted(set(_MACRO.findall(_expanded(str(command), known)))):
            where.note("cmd", Verdict.TODO, f"${{{unknown}}} is not known: write it out")
    else:
        where.ask("proxy", "serves without a command: name its file, or a provider")
    name = where.take("name", "spec.displayName")
    if name:
        model.spec["displayName"] = str(name)
    description = where.take("description", "spec.description")
    if description:
        model.spec["description"] = str(description).strip()[:1024]
    model.aliases += [str(each) for each in where.take("aliases", "aliases in the router") or []]
    where.drop("useModelName", "llama-server answers to any name")
    where.ask("filters", "what clients send goes on as it is: set defaults in spec.extraArgs")
    for setting, why in _OF_A_MODEL.items():
        where.drop(setting, why)


def _activation(
    model: FoundModel,
    where: Settings,
    default_ttl: Any,
    preloaded: set[str],
    groups: Mapping[str, tuple[str, bool]],
) -> None:
    """llama-swap loads every model when it is asked for: so does the operator."""
    group, persistent = groups.get(model.name, ("", False))
    ttl = where.take("ttl", "activation.onDemand.idleTimeout")
    seconds = int(default_ttl if ttl in (None, -1) else ttl)
    if persistent and seconds <= 0:
        where.note("", Verdict.MAPPED, "persistent: always on, so activation is absent")
        return
    on_demand: dict[str, Any] = {"idleTimeout": f"{seconds}s" if seconds > 0 else _FOREVER}
    if group:
        on_demand["group"] = group
    if persistent:
        on_demand["priority"] = _LAST_TO_GO
        where.note("", Verdict.CHANGED, f"persistent, with a ttl: priority {_LAST_TO_GO}")
    if model.name in preloaded:
        on_demand["preload"] = True
    model.spec["activation"] = {"onDemand": on_demand}


def _preloaded(top: Settings) -> set[str]:
    hooks = top.inner("hooks")
    start = hooks.inner("on_startup")
    found = {str(each) for each in start.take("preload", "activation.onDemand.preload") or []}
    start.end()
    hooks.end()
    return found


def _routing(top: Settings) -> tuple[dict[str, tuple[str, bool]], dict[str, int]]:
    """Return for each model the group whose members take turns and whether it is to stay; and who
    goes first."""
    routing = top.inner("routing")
    router, scheduler = routing.inner("router"), routing.inner("scheduler")
    router.drop("use", "groups are read, a matrix is not")
    settings, order = router.inner("settings"), scheduler.inner("settings")
    groups = {**dict(settings.inner("groups").items()), **dict(top.inner("groups").items())}
    for matrix in (top, settings):
        matrix.drop("matrix", "what fits together follows from memory")
    scheduler.drop("use", "who waits longest is next")
    first = order.inner("fifo")
    priorities = first.change("priority", "activation.onDemand.priority: also who stays longest")
    for each in (first, settings, order, router, scheduler, routing):
        each.end()
    found: dict[str, tuple[str, bool]] = {}
    for name, values in groups.items():
        found |= _group(Settings(top.found, f"{top.where}: groups.{name}", values or {}), str(name))
    return found, {str(name): int(each) for name, each in (priorities or {}).items()}


def _group(values: Settings, name: str) -> dict[str, tuple[str, bool]]:
    swap = values.take("swap", "activation.onDemand.group: one of them at a time")
    values.change("exclusive", "what is loaded beside it follows from memory")
    persistent = bool(values.take("persistent"))
    members = [str(each) for each in values.take("members", "spec of each member") or []]
    values.end()
    label = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "group"
    turns = label if swap is not False and len(members) > 1 else ""
    return {each: (turns, persistent) for each in members}


def _peer(found: Found, values: Settings, name: str) -> None:
    address = str(values.take("proxy", "providers: baseURL") or "")
    key = values.ask("apiKey", "put the key into a Secret: providers[].apiKeySecretRef names it")
    address = f"{address.rstrip('/').removesuffix('/v1')}/v1"
    provider = provider_at(found, name, address, protocol="OpenAI", key=bool(key))
    for each in values.take("models", "models of the router") or []:
        found.add_elsewhere(str(each), provider, str(each))
    values.drop("timeouts", "a stream may be silent for 5 minutes")
    values.ask("filters", "what clients send goes on as it is")
    values.end()


def _selectors(found: Found, top: Settings) -> None:
    for name, value in top.inner("selectors").items():
        values = Settings(found, f"{top.where}: selectors.{name}", value or {})
        targets = [str(each) for each in values.take("targets") or []]
        strategy = values.take("strategy")
        if strategy == "pin" and targets:
            found.add_alias(targets[0], str(name))
            values.note("", Verdict.MAPPED, f"alias {name} of {targets[0]}")
        elif targets:
            found.add_alias(targets[0], str(name))
            text = f"{strategy}: alias of {targets[0]} alone; the others are its fallbacks"
            found.fallbacks.setdefault(targets[0], targets[1:])
            values.note("", Verdict.CHANGED, text)
        for setting in ("settings", "name", "description", "metadata", "unlisted"):
            values.drop(setting, "an alias has none")
        values.end()


def _macros(own: Mapping[str, Any], outer: Mapping[str, str]) -> dict[str, str]:
    """Return macros by name; each may use those before it."""
    found: dict[str, str] = {}
    for name, value in own.items():
        found[str(name)] = _expanded(str(value), {**outer, **found})
    return found


def _expanded(text: str, macros: Mapping[str, str]) -> str:
    for _ in range(_DEEPEST):
        text, before = _MACRO.sub(lambda match: macros.get(match[1], match[0]), text), text
        if text == before:
            break
    return text
