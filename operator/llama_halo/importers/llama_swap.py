"""Reads llama-swap's config.yaml: its models become on-demand models, with groups and timeouts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from llama_halo.importers.command_line import CommandLine
from llama_halo.importers.providers import provider_at
from llama_halo.importers.result import (
    ImportedModel,
    ImportResult,
    Note,
    SettingOutcome,
    SettingsReader,
)
from llama_halo.importers.shell import parse

_FOREVER = "8760h"
"""idleTimeout of a model without a ttl, which stays loaded."""
_LAST_TO_GO = 1000
_DEEPEST = 10
"""Maximum nesting of macros."""
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
_ENVIRONMENT = re.compile(r"\$\{(env\.[^}]*)\}")


def is_config(document: Any) -> bool:
    """Tell whether a document is llama-swap's."""
    if not isinstance(document, Mapping) or "model_list" in document:
        return False
    models = document.get("models")
    if "models" in document and not models and ("macros" in document or "groups" in document):
        return True  # all of its models are commented out
    has_commands = isinstance(models, Mapping) and any(
        isinstance(model, Mapping) and ("cmd" in model or "proxy" in model)
        for model in models.values()
    )
    return has_commands or "peers" in document


def read(result: ImportResult, file: str, document: Mapping[str, Any], root: str) -> None:
    """Read a whole configuration."""
    top = SettingsReader(result, file, document)
    macros = _macros(top.inner("macros"), {})
    default_ttl = top.number("globalTTL", "activation.onDemand.idleTimeout of every model") or 0
    top.drop("healthCheckTimeout", "the operator's STARTUP_TIMEOUT is for all models")
    top.drop("ttl", "llama-swap does not read it there: its own word is globalTTL")
    preloaded = _preloaded(top)
    groups, priorities = _routing(top)
    names: dict[str, str] = {}
    for name, values in top.inner("models").items():
        where = f"{file}: models.{name}"
        model = result.define(name, where)
        names[name] = model.name
        settings = SettingsReader(result, where, values, model.name)
        _model(result, model, settings, macros, root)
        _activation(model, settings, default_ttl, name in preloaded, groups.get(name))
        if name in priorities and "activation" in model.spec:
            model.spec["activation"]["onDemand"].setdefault("priority", priorities[name])
        settings.end()
    for missing in sorted((preloaded | set(groups) | set(priorities)) - set(names)):
        note = Note(
            f"{file}: {missing}", SettingOutcome.TODO, "is in a group or hook, and is no model"
        )
        result.notes.append(note)
    for name, values in top.inner("peers").items():
        _peer(result, SettingsReader(result, f"{file}: peers.{name}", values), name)
    _selectors(result, top, names)
    if top.ask("apiKeys", "put the keys into a Secret and name it in spec.auth of the ModelRouter"):
        result.needs_key = True
    for name, reason in _OF_THE_PROGRAM.items():
        top.drop(name, reason)
    top.ask("profiles", "which model a name means: change the ModelRouter's aliases instead")
    top.end()


def _model(
    result: ImportResult,
    model: ImportedModel,
    where: SettingsReader,
    macros: Mapping[str, str],
    root: str,
) -> None:
    own = _macros(where.inner("macros"), macros)
    substitutions = {**macros, **own, "MODEL_ID": model.name, "PORT": "8080", "PID": ""}
    command = where.text("cmd")
    variables = [_expanded(text, substitutions) for text in where.texts("env", "spec.env")]
    if command:
        _command(
            result,
            model,
            where,
            _expanded(_without_comments(command), substitutions),
            variables,
            root,
        )
        where.drop("proxy", "the Service is the address")
    else:
        where.ask("proxy", "serves without a command: name its file, or a provider")
    name = _expanded(where.text("name", "spec.displayName"), substitutions)
    if name:
        model.spec["displayName"] = name[:253]
    description = _expanded(where.text("description", "spec.description"), substitutions)
    if description.strip():
        model.spec["description"] = description.strip()[:1024]
    aliases = where.texts("aliases", "aliases in the router")
    model.aliases += [_expanded(alias, substitutions) for alias in aliases]
    where.drop("useModelName", "llama-server answers to any name")
    where.ask("filters", "what clients send goes on as it is: set defaults in spec.extraArgs")
    for setting, reason in _OF_A_MODEL.items():
        where.drop(setting, reason)


def _command(
    result: ImportResult,
    model: ImportedModel,
    where: SettingsReader,
    text: str,
    variables: list[str],
    root: str,
) -> None:
    try:
        parsed = parse(text)
    except ValueError as error:
        where.note("cmd", SettingOutcome.TODO, f"cannot be read ({error}): write its flags down")
        return
    CommandLine(result, model, f"{where.where}.cmd", root).start(parsed, variables)
    model.port = None  # llama-swap gives each model another ${PORT}
    for unknown in sorted(set(_MACRO.findall(text)) | set(_ENVIRONMENT.findall(text))):
        where.note("cmd", SettingOutcome.TODO, f"${{{unknown}}} is not known: write it out")


def _without_comments(command: str) -> str:
    return "\n".join(line for line in command.splitlines() if not line.lstrip().startswith("#"))


def _activation(
    model: ImportedModel,
    where: SettingsReader,
    default_ttl: int,
    preload: bool,
    group: tuple[str, bool] | None,
) -> None:
    """Set `activation`: llama-swap loads a model on a request for it, and so does the operator."""
    turns, persistent = group or ("", False)
    own = where.number("ttl", "activation.onDemand.idleTimeout")
    seconds = default_ttl if own is None else own
    if group is None:
        text = (
            "in no group, where it took turns with all others: here free memory decides which"
            " models stay"
        )
        where.note("", SettingOutcome.CHANGED, text)
    if persistent and not seconds:
        where.note("", SettingOutcome.CHANGED, "persistent: always on, so activation is absent")
        return
    on_demand: dict[str, Any] = {"idleTimeout": f"{seconds}s" if seconds else _FOREVER}
    if turns:
        on_demand["group"] = turns
    if persistent:
        on_demand["priority"] = _LAST_TO_GO
        where.note("", SettingOutcome.CHANGED, f"persistent, with a ttl: priority {_LAST_TO_GO}")
    if preload:
        on_demand["preload"] = True
        where.note("", SettingOutcome.MAPPED, "activation.onDemand.preload")
    model.spec["activation"] = {"onDemand": on_demand}


def _preloaded(top: SettingsReader) -> set[str]:
    hooks = top.inner("hooks")
    start = hooks.inner("on_startup")
    names = set(start.texts("preload"))
    start.end()
    hooks.end()
    return names


def _routing(top: SettingsReader) -> tuple[dict[str, tuple[str, bool]], dict[str, int]]:
    """Return (group, persistent) of each model, and the priorities; the group is empty if its
    members do not take turns."""
    routing = top.inner("routing")
    router, scheduler = routing.inner("router"), routing.inner("scheduler")
    router.drop("use", "groups are read, a matrix is not")
    settings, order = router.inner("settings"), scheduler.inner("settings")
    groups = {**dict(settings.inner("groups").items()), **dict(top.inner("groups").items())}
    for matrix in (top, settings):
        matrix.drop("matrix", "what fits together follows from memory")
    scheduler.drop("use", "the longest-waiting request is next")
    first = order.inner("fifo")
    order_of = first.inner("priority")
    priorities = {
        name: max(-1000, min(1000, number))
        for name in order_of.peek()
        if (number := order_of.number(name)) is not None
    }
    for name in priorities:
        text = "activation.onDemand.priority: also decides which model stays longest"
        first.note(f"priority.{name}", SettingOutcome.CHANGED, text)
    for section in (first, settings, order, router, scheduler, routing):
        section.end()
    members: dict[str, tuple[str, bool]] = {}
    for name, values in groups.items():
        members |= _group(SettingsReader(top.result, f"{top.where}: groups.{name}", values), name)
    return members, priorities


def _group(values: SettingsReader, name: str) -> dict[str, tuple[str, bool]]:
    swap = values.take("swap", "activation.onDemand.group: one of them at a time")
    values.change("exclusive", "what is loaded beside it follows from memory")
    persistent = values.take("persistent") is True
    members = values.texts("members")
    values.end()
    label = re.sub(r"[^a-z0-9]+", "-", name.lower())[:63].strip("-") or "group"
    turns = label if swap is not False and len(members) > 1 else ""
    return {member: (turns, persistent) for member in members}


def _peer(result: ImportResult, values: SettingsReader, name: str) -> None:
    address = values.text("proxy", "providers: baseURL")
    key = values.ask("apiKey", "put the key into a Secret: providers[].apiKeySecretRef names it")
    address = f"{address.rstrip('/').removesuffix('/v1')}/v1"
    provider = provider_at(result, name, address, protocol="OpenAI", key=bool(key))
    for peer_model in values.texts("models", "models of the router"):
        result.add_provider_model(peer_model, provider, peer_model)
    values.drop("timeouts", "a stream may be silent for 5 minutes")
    values.ask("filters", "what clients send goes on as it is")
    values.end()


def _selectors(result: ImportResult, top: SettingsReader, names: Mapping[str, str]) -> None:
    for name, value in top.inner("selectors").items():
        values = SettingsReader(result, f"{top.where}: selectors.{name}", value)
        targets = [_target(result, name, names) for name in values.texts("targets")]
        resolved = [target for target in targets if target]
        strategy = values.text("strategy")
        if len(resolved) < len(targets) or not resolved:
            values.note(
                "targets", SettingOutcome.TODO, "a target is no model here: give it an alias"
            )
        if resolved:
            result.add_alias(resolved[0], name)
        if resolved and strategy == "pin":
            values.note("", SettingOutcome.MAPPED, f"alias {name} of {resolved[0]}")
        elif resolved:
            result.fallbacks.setdefault(resolved[0], resolved[1:])
            text = f"{strategy}: alias of {resolved[0]} alone; the others are its fallbacks"
            values.note("", SettingOutcome.CHANGED, text)
        for setting in ("settings", "name", "description", "metadata", "unlisted"):
            values.drop(setting, "an alias has none")
        values.end()


def _target(result: ImportResult, name: str, names: Mapping[str, str]) -> str:
    """Return the model for a selector's target, MODEL or PEER/MODEL; empty if there is none."""
    if name in names:
        return names[name]
    for provider in result.provider_models.values():
        if name in (provider.name, f"{provider.provider}/{provider.model}"):
            return provider.name
    return ""


def _macros(own: SettingsReader, outer: Mapping[str, str]) -> dict[str, str]:
    """Return expanded macros by name; each may use those before it."""
    macros: dict[str, str] = {}
    for name in own.peek():
        text = _without_comments(own.text(name, "written out where it is used"))
        macros[name] = _expanded(text, {**outer, **macros})
    return macros


def _expanded(text: str, macros: Mapping[str, str]) -> str:
    for _ in range(_DEEPEST):
        text, before = _MACRO.sub(lambda match: macros.get(match[1], match[0]), text), text
        if text == before:
            break
    return text
