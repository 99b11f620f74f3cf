"""What the files of another system say, in this project's terms, and what became of every setting.

An importer takes each setting by name; what it does not take is reported as dropped, so nothing is
lost without a word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Json = dict[str, Any]


class Verdict(StrEnum):
    """What became of a setting."""

    MAPPED = "mapped"
    CHANGED = "changed"
    """Mapped to something that is not quite the same."""
    DROPPED = "dropped"
    TODO = "to do"
    """Only a person can."""


@dataclass(frozen=True)
class Note:
    """What became of one setting."""

    where: str
    """`config.yaml: models.qwen.ttl`."""
    verdict: Verdict
    text: str
    about: str = ""
    """The model it is of, if it is of one."""


@dataclass
class FoundModel:
    """A model as a file names it; its source is empty until some file, or a person, says it."""

    name: str
    spec: Json = field(default_factory=dict)
    """Of a LlamaModel, in YAML's names."""
    aliases: list[str] = field(default_factory=list)
    port: int | None = None
    """Where it was served: how other files mean it."""


@dataclass(frozen=True)
class Elsewhere:
    """A model of a provider."""

    name: str
    provider: str
    model: str


@dataclass
class Found:
    """All that the files say."""

    models: dict[str, FoundModel] = field(default_factory=dict)
    elsewhere: dict[str, Elsewhere] = field(default_factory=dict)
    aliases: dict[str, list[str]] = field(default_factory=dict)
    """Of models elsewhere."""
    providers: dict[str, Json] = field(default_factory=dict)
    routes: Json = field(default_factory=dict)
    fallbacks: dict[str, list[str]] = field(default_factory=dict)
    transformers: Json = field(default_factory=dict)
    api_timeout: str = ""
    needs_key: bool = False
    notes: list[Note] = field(default_factory=list)

    def model(self, name: str) -> FoundModel:
        """Return the model of a name, which is there from now on."""
        return self.models.setdefault(name, FoundModel(name))

    def add_elsewhere(self, name: str, provider: str, model: str) -> None:
        """Add a model of a provider, under a name that is free."""
        known = self.elsewhere.get(name)
        if name in self.models or (known and known.provider != provider):
            name = f"{provider}/{name}"
        self.elsewhere[name] = Elsewhere(name, provider, model)

    def add_alias(self, model: str, alias: str) -> None:
        """Give a model of either kind another name."""
        names = self.models[model].aliases if model in self.models else None
        if names is None:
            names = self.aliases.setdefault(model, [])
        if alias != model and alias not in names:
            names.append(alias)

    def at_port(self, port: int) -> FoundModel | None:
        """Return the model that was served at a port of this machine."""
        return next((each for each in self.models.values() if each.port == port), None)


class Settings:
    """A mapping of a file, whose settings are taken one by one."""

    def __init__(
        self, found: Found, where: str, values: Mapping[str, Any], about: str = ""
    ) -> None:
        self.found, self.where, self._about = found, where, about
        self._left = dict(values)

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def take(self, name: str, became: str = "") -> Any:
        """Return a setting, None when there is none, and note what it became."""
        if name not in self._left:
            return None
        value = self._left.pop(name)
        if became:
            self.note(name, Verdict.MAPPED, became)
        return value

    def change(self, name: str, became: str) -> Any:
        """Take a setting that became something not quite the same."""
        return self._noted(name, Verdict.CHANGED, became)

    def drop(self, name: str, why: str) -> Any:
        """Take a setting that nothing here needs."""
        return self._noted(name, Verdict.DROPPED, why)

    def ask(self, name: str, what: str) -> Any:
        """Take a setting that a person has to do something about."""
        return self._noted(name, Verdict.TODO, what)

    def inner(self, name: str, about: str = "") -> Settings:
        """Return a mapping in this one."""
        value = self._left.pop(name, None)
        where = f"{self.where}.{name}"
        if value is not None and not isinstance(value, Mapping):
            self.note(name, Verdict.DROPPED, "is no mapping")
            value = None
        return Settings(self.found, where, value or {}, about or self._about)

    def items(self) -> Iterator[tuple[str, Any]]:
        """Take all that is left."""
        left, self._left = self._left, {}
        yield from left.items()

    def note(self, name: str, verdict: Verdict, text: str) -> None:
        """Note what became of something in here."""
        where = f"{self.where}.{name}" if name else self.where
        self.found.notes.append(Note(where, verdict, text, self._about))

    def end(self) -> None:
        """Report what nobody took."""
        for name, _ in self.items():
            self.note(name, Verdict.DROPPED, "not known to the importer")

    def _noted(self, name: str, verdict: Verdict, text: str) -> Any:
        if name not in self._left:
            return None
        value = self._left.pop(name)
        self.note(name, verdict, text)
        return value
