"""Parses command lines of shells, scripts and systemd units, and finds the server they start."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

LLAMA, WHISPER = "llama-server", "whisper-server"
_SERVER = re.compile(r"^(llama-server|whisper-server)([-.].*)?$")
_ASSIGNMENT = re.compile(r"^[A-Za-z_]\w*=")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_OPERATORS = "&|;<>()"
_WRAPPERS = (
    *("env", "exec", "nohup", "nice", "ionice", "sudo", "doas", "time", "setsid", "taskset"),
    *("numactl", "stdbuf", "screen", "tmux", "docker", "podman", "toolbox", "distrobox", "chrt"),
    *("systemd-run", "command", "unbuffer", "caffeinate"),
)
_SHELLS = ("sh", "bash", "zsh", "dash")


@dataclass(frozen=True)
class Command:
    """A command line, split at the server that it starts."""

    program: str
    """llama-server, whisper-server, or empty for any other program."""
    argv: list[str]
    variables: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    """The words before the program that are not assignments; they are dropped."""


def parse(text: str, assignments: Mapping[str, str] | None = None) -> Command:
    """Return the server that a command starts; raises `ValueError` for an unclosed quote.

    Comments, and words after a shell operator, are dropped. Known variables are expanded.
    """
    argv = [_written_out(word, assignments or {}) for word in _tokens(text)]
    start = next((at for at, word in enumerate(argv) if server_of(word)), None)
    if start is None:
        inner = _in_a_shell(argv)
        return parse(inner, assignments) if inner else Command("", argv)
    head = argv[:start]
    variables = [word for word in head if _ASSIGNMENT.match(word)]
    before = [word for word in head if not _ASSIGNMENT.match(word)]
    return Command(server_of(argv[start]), argv[start + 1 :], variables, before)


def server_of(word: str) -> str:
    """Return the server that a word names, empty if it names none."""
    if _ASSIGNMENT.match(word) or word.endswith((".service", ".log", ".sh", ".conf", ".yaml")):
        return ""
    match = _SERVER.match(PurePosixPath(word.replace("\\", "/")).name)
    return match[1] if match else ""


def starts_a_server(command: Command) -> bool:
    """Tell whether a command starts a server, and does not stop or look for one."""
    first = next(iter(command.before), "")
    return bool(command.program) and (not first or PurePosixPath(first).name in _WRAPPERS)


def _tokens(text: str) -> list[str]:
    joined = re.sub(r"\\\r?\n", " ", text)
    lexer = shlex.shlex(joined, posix=True, punctuation_chars=_OPERATORS)
    lexer.whitespace_split = True
    lexer.commenters = "#"
    tokens: list[str] = []
    for word in lexer:
        if word and all(letter in _OPERATORS for letter in word):
            # The number in `2>` belongs to the redirection, not to the command.
            if word[0] in "<>" and tokens and tokens[-1] in ("1", "2"):
                tokens.pop()
            break
        tokens.append(word)
    return tokens


def _written_out(word: str, variables: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda match: variables.get(match[1] or match[2], match[0]), word)


def _in_a_shell(argv: list[str]) -> str:
    """Return the command that a shell gets by -c, empty if there is none."""
    names = [PurePosixPath(word).name for word in argv]
    for at, name in enumerate(names[:-2]):
        if name in _SHELLS and re.fullmatch(r"-\w*c", argv[at + 1]):
            return argv[at + 2]
    return ""
