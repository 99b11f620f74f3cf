"""Files to `Found`, resources to YAML with comments, and the report for a person; pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import yaml

from llama_halo.errors import SettingsError
from llama_halo.importers import claude_code_router, litellm, llama_swap, plain
from llama_halo.importers.found import Found, Json, Note, Verdict

_HEADINGS = {
    Verdict.TODO: "To do, by you",
    Verdict.CHANGED: "Changed: not quite the same here",
    Verdict.DROPPED: "Dropped: nothing here needs it",
    Verdict.MAPPED: "Mapped",
}


def read(found: Found, path: str, text: str, root: str) -> str:
    """Read one file, whatever it is, and return what it was taken for."""
    file = PurePath(path).name
    document = _document(file, text)
    if claude_code_router.is_it(document):
        claude_code_router.read(found, file, document)
        return "Claude Code Router"
    if litellm.is_it(document):
        litellm.read(found, file, document)
        return "LiteLLM"
    if llama_swap.is_it(document):
        llama_swap.read(found, file, document, root)
        return "llama-swap"
    if plain.is_configs(document):
        plain.read_configs(found, file, document)
        return "settings by model"
    if plain.is_modelfile(text):
        plain.read_modelfile(found, file, text, root)
        return "Modelfile"
    commands, started = plain.is_commands(text), plain.is_started(text)
    if started:
        plain.read_started(found, file, text)
    if commands:
        plain.read_commands(found, file, text, root)
    if started or commands:
        return "models by port" if started else "llama-server command lines"
    raise SettingsError(
        f"{path}: not known: give a config of llama-swap, LiteLLM or Claude Code Router, a"
        " Modelfile, a model-configs.json, a script with llama-server's command lines, or one that"
        ' lists "name:port:role"'
    )


def order(path: str, text: str) -> int:
    """Return when a file is to be read: what names models and ports comes before what uses them."""
    document = _document(PurePath(path).name, text)
    return int(claude_code_router.is_it(document) or litellm.is_it(document))


def _document(file: str, text: str) -> Any:
    """Return what a text is as JSON or YAML, None where it is neither."""
    if file.endswith(".json"):
        try:
            return json.loads(text)
        except ValueError as error:
            raise SettingsError(f"{file} is no JSON: {error}") from error
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        if file.endswith((".yaml", ".yml")):
            raise SettingsError(f"{file} is no YAML: {error}") from error
        return None
    return found if isinstance(found, dict) else None


def manifests(found: Found, made: Sequence[Json]) -> str:
    """Return resources as YAML, each with the notes that are of it."""
    by_name: dict[str, list[Note]] = {each: [] for each in ("", *found.models)}
    for note in found.notes:
        if note.verdict is not Verdict.MAPPED:
            by_name.setdefault(note.about, []).append(note)
    names = list(found.models)
    parts = []
    for at, each in enumerate(made):
        about = names[at] if at < len(names) else ""
        parts.append("".join(map(_comment, by_name[about])) + _yaml(each))
    return "---\n".join(parts)


def report(found: Found, *, every: bool) -> str:
    """Return what became of every setting; of those that were mapped only how many, unless `every`
    is wanted."""
    lines = []
    for verdict, heading in _HEADINGS.items():
        notes = [each for each in found.notes if each.verdict is verdict]
        if not notes:
            continue
        lines.append(f"{heading} ({len(notes)})")
        if verdict is not Verdict.MAPPED or every:
            lines += [f"  {each.where}: {each.text}" for each in notes]
    return "\n".join(lines) + "\n"


def _comment(note: Note) -> str:
    return f"# {note.verdict}: {note.where}: {note.text}\n"


def _yaml(value: Json) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120)
