"""Fields that are in the schema but whose feature this release does not have.

They are refused by name: a field that is silently ignored is worse than one that is missing.
"""

from __future__ import annotations

from functools import cache

from pydantic import BaseModel

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.contract.reasons import Reason
from llama_halo.plan.outcome import Invalid

# path in YAML -> what to do instead
_MODEL_FIELDS = {
    "pod.affinity": "use pod.nodeSelector",
}


def unsupported_in_model(spec: LlamaModelSpec) -> Invalid | None:
    """Return the refusal of the first field of a LlamaModel that nothing acts on yet."""
    for path, instead in _MODEL_FIELDS.items():
        if _value(spec, path) is not None:
            message = f"spec.{path} is not supported yet: {instead}"
            return Invalid(Reason.INVALID_SPEC, message)
    return None


def _value(spec: BaseModel, path: str) -> object:
    """Return the value at a path of YAML names, None where a part of it is absent."""
    value: object = spec
    for word in path.split("."):
        if not isinstance(value, BaseModel):
            return None
        value = getattr(value, _names(type(value))[word])
    return value


@cache
def _names(model: type[BaseModel]) -> dict[str, str]:
    """Return a model's field names by their YAML names."""
    return {field.alias or name: name for name, field in model.model_fields.items()}
