"""Parses files into an `ImportResult`; writes resources as YAML with comments, and the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

import yaml

from llama_halo.errors import CliError
from llama_halo.importers import (
    claude_code_router,
    configs,
    litellm,
    llama_swap,
    modelfile,
    scripts,
)
from llama_halo.importers.documents import document
from llama_halo.importers.result import ImportResult, Json, Note, SettingOutcome

_HEADINGS = {
    SettingOutcome.TODO: "To do, by you",
    SettingOutcome.CHANGED: "Changed: not quite the same here",
    SettingOutcome.DROPPED: "Dropped: nothing here needs it",
    SettingOutcome.MAPPED: "Mapped",
}
_SYSTEMS = (
    ("Claude Code Router", claude_code_router.is_config, claude_code_router.read),
    ("LiteLLM", litellm.is_config, litellm.read),
    ("settings by model", configs.is_config, configs.read),
)


def read(result: ImportResult, path: str, text: str, root: str) -> str:
    """Read one file of any supported format; return the format's name. Raises `CliError`."""
    file = PurePath(path).name
    try:
        return _read(result, file, text, root)
    except RecursionError as error:
        raise CliError(f"{path}: it is nested too deeply to be a configuration") from error


def _read(result: ImportResult, file: str, text: str, root: str) -> str:
    parsed = document(file, text)
    if isinstance(parsed, dict):
        return _read_document(result, file, text, parsed, root)
    return _read_text(result, file, text, root)


def _read_document(result: ImportResult, file: str, text: str, parsed: Json, root: str) -> str:
    for name, is_config, read_config in _SYSTEMS:
        if is_config(parsed):
            read_config(result, file, parsed)
            return name
    if llama_swap.is_config(parsed):
        llama_swap.read(result, file, parsed, root)
        return "llama-swap"
    if parsed.get("kind") == "ConfigMap":
        return _config_map(result, file, parsed, root)
    if "services" in parsed:
        raise CliError(
            f"{file}: docker-compose is not read: give each service's command as one line of text"
        )
    return _read_text(result, file, text, root)


def _read_text(result: ImportResult, file: str, text: str, root: str) -> str:
    if modelfile.is_config(text):
        modelfile.read(result, file, text, root)
        return "Modelfile"
    commands, started = scripts.is_commands(text), scripts.is_started(text)
    if started:
        scripts.read_started(result, file, text)
    if commands:
        scripts.read_commands(result, file, text, root)
    if started or commands:
        return "models by port" if started else "llama-server command lines"
    raise CliError(
        f"{file}: not known: give a config of llama-swap, LiteLLM or Claude Code Router, a"
        " Modelfile, a model-configs.json, a script with llama-server's command lines, or one that"
        ' lists "name:port:role"'
    )


def _config_map(result: ImportResult, file: str, parsed: Json, root: str) -> str:
    data = parsed.get("data")
    entries = data.items() if isinstance(data, dict) else ()
    kinds = [_read(result, f"{name}", str(text), root) for name, text in entries]
    if not kinds:
        raise CliError(f"{file}: the ConfigMap has no data")
    return f"ConfigMap: {', '.join(kinds)}"


def order(path: str, text: str) -> int:
    """Return a file's sort key: files that define models and ports come before those that refer
    to them."""
    try:
        parsed = document(PurePath(path).name, text)
    except RecursionError:
        return 0
    return int(claude_code_router.is_config(parsed) or litellm.is_config(parsed))


def manifests(result: ImportResult, objects: Sequence[Json]) -> str:
    """Return the resources as YAML, each below its notes as comments."""
    by_name: dict[str, list[Note]] = {name: [] for name in ("", *result.models)}
    for note in result.notes:
        if note.outcome is not SettingOutcome.MAPPED:
            by_name.setdefault(note.about, []).append(note)
    names = list(result.models)
    parts = []
    for at, manifest in enumerate(objects):
        about = names[at] if at < len(names) else ""
        parts.append("".join(map(_comment, by_name[about])) + _yaml(manifest))
    return "---\n".join(parts)


def report(result: ImportResult, *, every: bool) -> str:
    """Return the report on all settings; mapped ones are only counted, unless `every` is set."""
    lines = []
    for outcome, heading in _HEADINGS.items():
        notes = [note for note in result.notes if note.outcome is outcome]
        if not notes:
            continue
        lines.append(f"{heading} ({len(notes)})")
        if outcome is not SettingOutcome.MAPPED or every:
            lines += [f"  {note.where}: {note.text}" for note in notes]
    return "\n".join(lines) + "\n"


def _comment(note: Note) -> str:
    return f"# {note.outcome}: {note.where}: {note.text}\n"


def _yaml(value: Json) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120)
