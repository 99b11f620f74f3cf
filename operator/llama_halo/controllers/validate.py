"""Validates a resource's spec: returns the frozen model, or `Invalid` with a message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.api.modelrouter import ModelRouterSpec
from llama_halo.contract.reasons import Reason
from llama_halo.kube.cache import Key, key_of
from llama_halo.kube.object_size import MAX_LEVELS, MAX_WEIGHT_BYTES, TOO_LARGE
from llama_halo.plan.outcome import Invalid
from llama_halo.plan.restrictions import Restrictions, refusal

Spec = TypeVar("Spec", LlamaModelSpec, ModelRouterSpec)
_TOO_LARGE = Invalid(
    Reason.INVALID_SPEC,
    f"the resource takes more than {MAX_WEIGHT_BYTES // 1024} KiB of memory, or has more than"
    f" {MAX_LEVELS} levels: write fewer, shorter and flatter entries (labels count, too)",
)


def validate(
    model: type[Spec],
    cr: Mapping[str, Any],
    cache: dict[Key, tuple[tuple[Any, ...], Any]],
    restrictions: Restrictions,
) -> Spec | Invalid:
    """Return the spec of a resource; each generation is validated once."""
    key, written = key_of(cr), cr.get("spec") or {}
    # Annotations, which have no generation, decide with the spec whether a resource is too large.
    version = (*version_of(cr), TOO_LARGE in written)
    cached = cache.get(key)
    if cached and cached[0] == version:
        validated: Spec | Invalid = cached[1]
        return validated
    result = _TOO_LARGE if TOO_LARGE in written else _validated(model, written, restrictions)
    cache[key] = (version, result)
    return result


def _validated(
    model: type[Spec], written: Mapping[str, Any], restrictions: Restrictions
) -> Spec | Invalid:
    try:
        spec = model.model_validate(written)
    except ValidationError as error:
        return Invalid(Reason.INVALID_SPEC, _sentence(error))
    except RecursionError:
        return Invalid(Reason.INVALID_SPEC, "spec is nested too deeply: write fewer levels")
    refused = refusal(spec, restrictions)
    return Invalid(Reason.INVALID_SPEC, refused) if refused else spec


def version_of(cr: Mapping[str, Any]) -> tuple[str, int]:
    """Return uid and generation, which identify one version of a resource's spec."""
    return cr["metadata"]["uid"], cr["metadata"].get("generation", 0)


def _sentence(error: ValidationError) -> str:
    """Return a message about the first five wrong fields; it shows no value below `env`."""
    parts = []
    for detail in error.errors(include_url=False)[:5]:
        segments = [str(word) for word in detail["loc"] if not str(word).startswith("function-")]
        path = ".".join(["spec", *segments])
        if detail["type"] == "extra_forbidden":
            parts.append(f"{path} is unknown to this operator: delete it, or upgrade the operator")
        elif "env" in segments or isinstance(detail["input"], dict | list):
            parts.append(f"{path}: {detail['msg']}")
        else:
            parts.append(f"{path}: {detail['msg']} (seen: {detail['input']!r})")
    return "; ".join(parts)
