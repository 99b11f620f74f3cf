"""Reads scripts and systemd units that start llama-server, and lists of models by port."""

from __future__ import annotations

import re
from pathlib import PurePath

from llama_halo.importers.command_line import CommandLine
from llama_halo.importers.documents import whole_number
from llama_halo.importers.result import ImportedModel, ImportResult, Note, SettingOutcome
from llama_halo.importers.shell import Command, parse, starts_a_server

_STARTED = re.compile(r"""["']([A-Za-z0-9][-A-Za-z0-9._]*):(\d{2,5}):([A-Za-z]+)["']""")
_ROLES = {
    "background": "background",
    "default": "default",
    "coding": "default",
    "reasoning": "think",
    "think": "think",
    "longcontext": "longContext",
    "websearch": "webSearch",
    "image": "image",
    "vision": "image",
}
_EXPORT = re.compile(r"^\s*(?:export\s+)?([A-Za-z_]\w*)=(\S*|\"[^\"]*\"|'[^']*')\s*(?:#.*)?$")
_UNIT_ENVIRONMENT = re.compile(r"^\s*Environment=(.+)$")
_UNIT_START = re.compile(r"^\s*ExecStart=[-@:+!]*")
_UNIT_OTHER = re.compile(r"^\s*Exec\w+=")


def is_started(text: str) -> bool:
    """Tell whether a text lists models as name:port:role."""
    return bool(_STARTED.search(text))


def read_started(result: ImportResult, file: str, text: str) -> None:
    """Read models listed as name:port:role; a role becomes a route."""
    for name, port, role in _STARTED.findall(text):
        model = result.model(name)
        model.port = whole_number(port) or model.port
        route = _ROLES.get(role.lower())
        where = f"{file}: {name}:{port}:{role}"
        if route is None:
            result.notes.append(Note(where, SettingOutcome.TODO, f"no route is like {role}", name))
            continue
        result.routes.setdefault(route, {"model": name} if route == "longContext" else name)
        result.notes.append(Note(where, SettingOutcome.MAPPED, f"routes.{route}: {name}", name))


def is_commands(text: str) -> bool:
    """Tell whether a text has a command that starts a server."""
    return any(True for _ in _commands(ImportResult(), "", text))


def read_commands(result: ImportResult, file: str, text: str, root: str) -> None:
    """Read each command that starts a server."""
    for number, command, variables in _commands(result, file, text):
        where = f"{file}:{number}"
        read, reader = ImportedModel(""), ImportResult()
        CommandLine(reader, read, where, root).start(command, variables)
        model = result.define(_name_of(read, f"model-{number}"), where)
        model.spec |= read.spec
        model.port = read.port
        model.aliases += [alias for alias in read.aliases if alias != model.name]
        result.needs_key |= reader.needs_key
        result.notes += [Note(n.where, n.outcome, n.text, model.name) for n in reader.notes]


def _commands(result: ImportResult, file: str, text: str) -> list[tuple[int, Command, list[str]]]:
    """Return line number, command and environment of each start, with the variables that the
    script sets before it."""
    variables: dict[str, str] = {}
    commands: list[tuple[int, Command, list[str]]] = []
    environment: list[str] = []
    number = 0
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        number += 1
        if line.lstrip().startswith("#") or _UNIT_OTHER.match(_UNIT_START.sub("", line)):
            continue
        if unit := _UNIT_ENVIRONMENT.match(line):
            environment += [
                assignment.strip('"') for assignment in re.findall(r'"[^"]*"|\S+', unit[1])
            ]
            continue
        if assigned := _EXPORT.match(line):
            variables[assigned[1]] = assigned[2].strip("\"'")
            if line.lstrip().startswith("export"):
                environment.append(f"{assigned[1]}={variables[assigned[1]]}")
            continue
        try:
            command = parse(_UNIT_START.sub("", line), variables)
        except ValueError:
            if "llama-server" in line:
                note = Note(
                    f"{file}:{number}", SettingOutcome.TODO, "cannot be read: write it on one line"
                )
                result.notes.append(note)
            continue
        if starts_a_server(command):
            ours = [assignment for assignment in environment if assignment.startswith(_OF_SERVERS)]
            commands.append((number, command, ours))
    return commands


_OF_SERVERS = ("LLAMA_", "GGML_", "HIP_", "HSA_", "ROCR_", "AMD_", "VK_", "MESA_", "RADV_")
"""Prefixes of the exported variables that servers read."""


def _name_of(read: ImportedModel, otherwise: str) -> str:
    """Return the name of a model: its first alias, else its file's name."""
    if read.aliases:
        return read.aliases[0]
    source = read.spec.get("source", {})
    path = (
        source.get("local", {}).get("path")
        or source.get("huggingFace", {}).get("file")
        or source.get("http", {}).get("url", "").partition("?")[0]
    )
    stem = PurePath(path).name.removesuffix(".gguf").removesuffix(".bin") if path else otherwise
    return re.sub(r"-\d{5}-of-\d{5}$", "", stem).lower() or otherwise
