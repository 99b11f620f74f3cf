"""The result of an import, in this project's terms, and the outcome of every setting.

An importer takes each setting by name. A setting that it does not take is reported, so none is lost
silently.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from llama_halo.importers.secrets import one_line

Json = dict[str, Any]
_EMPTY: tuple[Any, ...] = (None, "", [], {}, False)


class SettingOutcome(StrEnum):
    """What the importer did with a setting."""

    MAPPED = "mapped"
    CHANGED = "changed"
    """Mapped to a setting that differs somewhat."""
    DROPPED = "dropped"
    TODO = "to do"
    """A person has to do it."""


@dataclass(frozen=True)
class Note:
    """The outcome of one setting."""

    where: str
    """Place of the setting: `config.yaml: models.qwen.ttl`."""
    outcome: SettingOutcome
    text: str
    about: str = ""
    """Name of the model that it belongs to, if any."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "where", one_line(self.where))
        object.__setattr__(self, "text", one_line(self.text))


@dataclass
class ImportedModel:
    """A model that a file names; it has no source until a file or `--source` sets one."""

    name: str
    spec: Json = field(default_factory=dict)
    """The spec of its LlamaModel, with YAML's field names."""
    aliases: list[str] = field(default_factory=list)
    port: int | None = None
    """The port that it was served at, by which other files refer to it."""


@dataclass(frozen=True)
class ProviderModel:
    """A model of a provider."""

    name: str
    provider: str
    model: str


@dataclass
class ImportResult:
    """Everything that the files contain."""

    models: dict[str, ImportedModel] = field(default_factory=dict)
    provider_models: dict[str, ProviderModel] = field(default_factory=dict)
    aliases: dict[str, list[str]] = field(default_factory=dict)
    """Aliases of providers' models, by model."""
    providers: dict[str, Json] = field(default_factory=dict)
    routes: Json = field(default_factory=dict)
    fallbacks: dict[str, list[str]] = field(default_factory=dict)
    transformers: Json = field(default_factory=dict)
    api_timeout: str = ""
    needs_key: bool = False
    notes: list[Note] = field(default_factory=list)

    def model(self, name: str) -> ImportedModel:
        """Return the model with a name; add it if there is none."""
        return self.models.setdefault(name, ImportedModel(name))

    def define(self, name: str, where: str) -> ImportedModel:
        """Return the model that a file defines; if the name has a source already, a new one."""
        chosen, number = name, 2
        while chosen in self.models and "source" in self.models[chosen].spec:
            chosen = f"{name}-{number}"
            number += 1
        if chosen != name:
            text = f"there is a {name} already: this one is called {chosen}"
            self.notes.append(Note(where, SettingOutcome.TODO, text, chosen))
        return self.model(chosen)

    def find_model(self, name: str) -> ImportedModel | None:
        """Return the model with a name or alias, None if there is none."""
        if name in self.models:
            return self.models[name]
        return next((model for model in self.models.values() if name in model.aliases), None)

    def find_by_port(self, port: int) -> ImportedModel | None:
        """Return the model that was served at a port of this machine, if only one was."""
        models = [model for model in self.models.values() if model.port == port]
        return models[0] if len(models) == 1 else None

    def add_provider_model(self, name: str, provider: str, model: str) -> str:
        """Add a provider's model under a free name, and return that name."""
        existing = self.provider_models.get(name)
        if name in self.models or (
            existing and (existing.provider, existing.model) != (provider, model)
        ):
            name = f"{provider}/{name}"
        self.provider_models[name] = ProviderModel(name, provider, model)
        return name

    def add_alias(self, model: str, alias: str) -> None:
        """Give a model of either kind another name."""
        names = self.models[model].aliases if model in self.models else None
        if names is None:
            names = self.aliases.setdefault(model, [])
        if alias != model and alias not in names:
            names.append(alias)


class SettingsReader:
    """Takes the settings of one mapping by name; a value of the wrong type becomes a note for a
    person."""

    def __init__(self, result: ImportResult, where: str, values: Any, about: str = "") -> None:
        self.result, self.where, self._about = result, where, about
        self._left: Json = {}
        if isinstance(values, Mapping):
            self._left = {str(name): value for name, value in values.items()}
        elif values is not None:
            self.note("", SettingOutcome.TODO, "is not a mapping: correct it")

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def peek(self) -> list[str]:
        """Return the names of the settings that are left."""
        return list(self._left)

    def take(self, name: str, became: str = "") -> Any:
        """Take a setting, None if there is none; `became` is noted as its mapping."""
        if name not in self._left:
            return None
        value = self._left.pop(name)
        if became:
            self.note(name, SettingOutcome.MAPPED, became)
        return value

    def text(self, name: str, became: str = "") -> str:
        """Take a string; a number becomes one."""
        value = self.take(name, became)
        if value is None or isinstance(value, str | int | float):
            return "" if value is None else str(value)
        self.note(name, SettingOutcome.TODO, "is not a text: correct it")
        return ""

    def number(self, name: str, became: str = "") -> int | None:
        """Take an integer from 0; None if it is absent, -1 or unusable."""
        value = self.take(name)
        try:
            number = None if value is None or isinstance(value, bool) else int(value)
        except (TypeError, ValueError, OverflowError):
            number = None
        if number is None or number < 0:
            if value is not None and number != -1:
                self.note(name, SettingOutcome.TODO, "is no number that can be used: write one")
            return None
        if became:
            self.note(name, SettingOutcome.MAPPED, became)
        return number

    def texts(self, name: str, became: str = "") -> list[str]:
        """Take a list of strings; a single string becomes one."""
        value = self.take(name)
        if value in _EMPTY:
            return []
        items = value if isinstance(value, list) else [value]
        if not all(isinstance(item, str | int | float) for item in items):
            self.note(name, SettingOutcome.TODO, "is not a list of texts: correct it")
            return []
        if became:
            self.note(name, SettingOutcome.MAPPED, became)
        return [str(item) for item in items]

    def inner(self, name: str, about: str = "") -> SettingsReader:
        """Take a mapping."""
        value = self._left.pop(name, None)
        where = f"{self.where}.{name}"
        return SettingsReader(self.result, where, value, about or self._about)

    def several(self, name: str) -> list[SettingsReader]:
        """Take a list of mappings."""
        value = self._left.pop(name, None)
        items = value if isinstance(value, list) else [] if value is None else [value]
        return [
            SettingsReader(self.result, f"{self.where}: {name}[{at}]", item, self._about)
            for at, item in enumerate(items)
        ]

    def change(self, name: str, became: str) -> Any:
        """Take a setting whose mapping differs somewhat."""
        return self._noted(name, SettingOutcome.CHANGED, became)

    def drop(self, name: str, reason: str) -> Any:
        """Take a setting that nothing here needs."""
        return self._noted(name, SettingOutcome.DROPPED, reason)

    def ask(self, name: str, task: str) -> Any:
        """Take a setting that a person has to handle, unless it is empty."""
        empty = self._left.get(name) in _EMPTY
        return self._noted(
            name, SettingOutcome.DROPPED if empty else SettingOutcome.TODO, "" if empty else task
        )

    def items(self) -> Iterator[tuple[str, Any]]:
        """Take all settings that are left."""
        left, self._left = self._left, {}
        yield from left.items()

    def note(self, name: str, outcome: SettingOutcome, text: str) -> None:
        """Add a note on a setting, or on the whole mapping if `name` is empty."""
        where = f"{self.where}.{name}" if name else self.where
        self.result.notes.append(Note(where, outcome, text or "it is empty", self._about))

    def end(self) -> None:
        """Add a note for every setting that was not taken."""
        for name, _ in self.items():
            self.note(
                name, SettingOutcome.TODO, "not known to the importer: check whether you need it"
            )

    def _noted(self, name: str, outcome: SettingOutcome, text: str) -> Any:
        if name not in self._left:
            return None
        value = self._left.pop(name)
        self.note(name, outcome, text)
        return value
