"""Reads `model-configs.json`: settings by the model's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_halo.importers.command_line import ALL_LAYERS
from llama_halo.importers.result import ImportedModel, ImportResult, SettingOutcome, SettingsReader

_KNOWN = {"ctx_size", "gpu_layers", "batch_size"}
_FIELDS = {"ctx_size": "contextSize", "batch_size": "batchSize", "threads": "threads"}


def is_config(document: Any) -> bool:
    """Tell whether a document is one: `{"name": {"ctx_size": 4096}}`."""
    return (
        isinstance(document, Mapping)
        and bool(document)
        and all(isinstance(value, Mapping) for value in document.values())
        and any(_KNOWN & set(value) for value in document.values())
    )


def read(result: ImportResult, file: str, document: Mapping[str, Any]) -> None:
    """Read the settings of each model."""
    for name, values in document.items():
        model = result.model(str(name))
        settings = SettingsReader(result, f"{file}: {name}", values, model.name)
        for setting, field in _FIELDS.items():
            number = settings.number(setting, f"spec.{field}")
            if number:
                model.spec[field] = number
        _layers(model, settings)
        notes = settings.text("notes", "spec.description")
        if notes:
            model.spec["description"] = notes[:1024]
        settings.end()


def _layers(model: ImportedModel, settings: SettingsReader) -> None:
    if "gpu_layers" not in settings:
        return
    layers = settings.number("gpu_layers")
    if layers == 0:
        model.spec["backend"] = "CPU"
        settings.note("gpu_layers", SettingOutcome.MAPPED, "spec.backend: CPU")
    elif layers is not None and layers < ALL_LAYERS:
        model.spec["gpuLayers"] = layers
        text = "spec.gpuLayers; without it all are on the GPU, and what fits is computed"
        settings.note("gpu_layers", SettingOutcome.MAPPED, text)
    else:
        settings.note("gpu_layers", SettingOutcome.MAPPED, "all layers: spec.gpuLayers is absent")
