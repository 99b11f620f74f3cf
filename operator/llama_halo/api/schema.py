"""The base of every API model, and the small string types that the two kinds share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

_SPELLINGS = {"Mib": "MiB", "Llm": "LLM", "Url": "URL"}


def _camel(name: str) -> str:
    """Return a field's name in YAML: camelCase, but a last word MiB, LLM or URL keeps its case."""
    word = to_camel(name)
    for ending, spelling in _SPELLINGS.items():
        if word.endswith(ending):
            return word.removesuffix(ending) + spelling
    return word


class Schema(BaseModel):
    """A frozen part of a resource: camelCase in YAML, snake_case here, unknown fields refused."""

    model_config = ConfigDict(
        alias_generator=_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )


def rule(expression: str, message: str, **more: str) -> dict[str, str]:
    """Return one CEL rule of the CRD; `message` is what `kubectl apply` prints."""
    return {"rule": expression, "message": message, **more}


def rules(*validation: dict[str, str]) -> dict[str, Any]:
    """Return the schema extension that carries CEL rules."""
    return {"x-kubernetes-validations": list(validation)}


def exactly_one(field: str, *members: str) -> dict[str, str]:
    """Return the CEL rule that an object has exactly one of these members."""
    present = ", ".join(f"has(self.{member})" for member in members)
    return rule(
        f"[{present}].filter(x, x).size() == 1",
        f"{field} needs exactly one of {', '.join(members)}",
    )


SET = {"x-kubernetes-list-type": "set"}


def list_map(*keys: str) -> dict[str, Any]:
    """Return the schema extension of a list whose items are identified by these keys."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


DnsLabel = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
DnsName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
Text = Annotated[str, Field(min_length=1, max_length=253)]
LongText = Annotated[str, Field(min_length=1, max_length=1024)]
SecretKey = Annotated[str, Field(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)]
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=253)]
LabelValue = Annotated[
    str, Field(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", max_length=63)
]
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][-A-Za-z0-9._:/@+]*$", max_length=253)]
ModelPattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9*][-A-Za-z0-9._:/@+*]*$", max_length=253)]
DURATION = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"
"""A Go duration without a sign and without units below a millisecond."""
Duration = Annotated[str, Field(pattern=DURATION, max_length=32)]
DecimalText = Annotated[str, Field(pattern=r"^-?[0-9]+(\.[0-9]+)?$", max_length=16)]
QuantityText = Annotated[
    str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$", max_length=32)
]
INT64_MAX = 2**63 - 1
Quantity = Annotated[int, Field(ge=0, le=INT64_MAX)] | QuantityText
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", max_length=64)]
Port = Annotated[int, Field(ge=1, le=65535)]
OpenObject = dict[str, Any]


class LocalReference(Schema):
    """The name of another object in the same namespace."""

    name: DnsName


class KeyReference(Schema):
    """One key of a Secret or ConfigMap in the same namespace."""

    name: DnsName
    key: SecretKey


class Condition(Schema):
    """One condition of a status, as every Kubernetes API has it."""

    type: Text
    status: Annotated[str, Field(json_schema_extra={"enum": ["True", "False", "Unknown"]})]
    reason: Text
    message: Annotated[str, Field(max_length=4096)]
    last_transition_time: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    observed_generation: int | None = None
