"""Converts pydantic models into CustomResourceDefinitions.

Structural schemas have no $ref, no null and no `additionalProperties: false`, so those are resolved
here. A keyword without a structural form raises `SchemaError`, so that none is lost silently.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from llama_halo.api import llamamodel, modelrouter
from llama_halo.api.llamamodel_status import LlamaModelStatus
from llama_halo.api.schema import INT64_MAX, Schema
from llama_halo.contract.labels import GROUP, VERSION
from llama_halo.errors import SchemaError

HASH_ANNOTATION = f"{GROUP}/schema-hash"

_KEPT = {
    "type",
    "description",
    "enum",
    "format",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "required",
    "x-kubernetes-validations",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
}
_DROPPED = {"title", "default", "examples"}


def structural(model: type[Schema]) -> dict[str, Any]:
    """Return the structural OpenAPI v3 schema of a model."""
    schema = model.model_json_schema(by_alias=True, mode="validation")
    return _convert(schema, schema.get("$defs", {}), path=model.__name__)


def _convert(schema: dict[str, Any], definitions: dict[str, Any], path: str) -> dict[str, Any]:
    schema = {key: value for key, value in schema.items() if key != "$defs"}
    if "$ref" in schema:
        target = definitions[schema.pop("$ref").removeprefix("#/$defs/")]
        return _convert({**target, **_merged_rules(target, schema)}, definitions, path)
    if "anyOf" in schema:
        return _convert(_without_any_of(schema, path), definitions, path)
    if "const" in schema:
        schema["enum"] = [schema.pop("const")]
    out: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _KEPT or key in ("x-kubernetes-int-or-string",):
            out[key] = value
        elif key == "properties":
            out[key] = {
                name: _convert(child, definitions, f"{path}.{name}")
                for name, child in value.items()
            }
        elif key == "items":
            out[key] = _convert(value, definitions, f"{path}[]")
        elif key == "additionalProperties":
            out.update(_additional(value, definitions, path))
        elif key not in _DROPPED:
            raise SchemaError(f"{path}: schema keyword {key!r} has no structural form")
    return out


def _merged_rules(target: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """Return the keywords of a field, with its CEL rules appended to those of its model."""
    rules = "x-kubernetes-validations"
    if rules in target and rules in extra:
        return {**extra, rules: target[rules] + extra[rules]}
    return extra


def _without_any_of(schema: dict[str, Any], path: str) -> dict[str, Any]:
    """Resolve `X | None` to X, and the unions of integer and string to int-or-string."""
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    variants = [variant for variant in schema["anyOf"] if variant != {"type": "null"}]
    if len(variants) == 1:
        variant = variants[0]
        return {**variant, **_merged_rules(variant, rest)}
    if sorted(variant.get("type", "") for variant in variants) == ["integer", "string"]:
        return {**_int_or_string(variants), **rest}
    raise SchemaError(f"{path}: a union of {variants} has no structural form")


def _int_or_string(variants: list[dict[str, Any]]) -> dict[str, Any]:
    """Return an int-or-string schema; bounds of one type become CEL rules or patterns."""
    number = next(variant for variant in variants if variant["type"] == "integer")
    text = next(variant for variant in variants if variant["type"] == "string")
    out: dict[str, Any] = {"x-kubernetes-int-or-string": True}
    checks = []
    if "minimum" in number:
        checks.append(f"self >= {number['minimum']}")
    if number.get("maximum", INT64_MAX) < INT64_MAX:  # the API server stores no larger one
        checks.append(f"self <= {number['maximum']}")
    values = [text["const"]] if "const" in text else text.get("enum")
    if values:
        checks_text = f"type(self) == string ? self in {json.dumps(values)}"
        bounds = " && ".join(checks) or "true"
        both = f"{' or '.join(values)} or a number"
        if checks:
            both += f" from {number.get('minimum', '-inf')} to {number.get('maximum', 'inf')}"
        out["x-kubernetes-validations"] = [
            {"rule": f"{checks_text} : ({bounds})", "message": f"must be {both}"}
        ]
        return out
    for key in ("pattern", "maxLength"):
        if key in text:
            out[key] = text[key]
    if checks:
        out["x-kubernetes-validations"] = [
            {
                "rule": f"type(self) == string || ({' && '.join(checks)})",
                "message": f"must be at least {number['minimum']}",
            }
        ]
    return out


def _additional(value: Any, definitions: dict[str, Any], path: str) -> dict[str, Any]:
    if value is False:
        return {}
    if value is True:
        return {"x-kubernetes-preserve-unknown-fields": True}
    return {"additionalProperties": _convert(value, definitions, f"{path}{{}}")}


def _column(name: str, path: str, *, kind: str = "string", wide: bool = False) -> dict[str, Any]:
    column = {"name": name, "type": kind, "jsonPath": path}
    return {**column, "priority": 1} if wide else column


def _condition(kind: str, field: str) -> str:
    return f'.status.conditions[?(@.type=="{kind}")].{field}'


_AGE = _column("Age", ".metadata.creationTimestamp", kind="date")
_READY = _column("Ready", _condition("Ready", "status"))
_STATE = _column("State", _condition("Ready", "reason"))
_MESSAGE = _column("Message", _condition("Ready", "message"), wide=True)
_NAME_RULE = {
    "rule": "self.metadata.name.size() <= 40 && self.metadata.name.matches("
    "'^[a-z]([-a-z0-9]*[a-z0-9])?$') && !self.metadata.name.endsWith('-router')",
    "message": "metadata.name is also the Service's name: a DNS label that starts with a letter, at"
    " most 40 characters, not ending in -router; names like llama-3.2-3b go into spec.aliases",
}


def llamamodel_crd() -> dict[str, Any]:
    """Return the CustomResourceDefinition of LlamaModel."""
    return _crd(
        kind=llamamodel.KIND,
        plural=llamamodel.PLURAL,
        short_name="lm",
        spec=llamamodel.LlamaModelSpec,
        status=LlamaModelStatus,
        columns=[
            _READY,
            _STATE,
            _column("Model", ".status.model.summary"),
            _column("Ctx", ".status.model.contextSize", kind="integer"),
            _column("Memory", ".status.memory.summary"),
            _column("Node", ".status.nodeSummary"),
            _column("Tools", _condition("ToolCalling", "status")),
            _AGE,
            _column("Backend", ".spec.backend", wide=True),
            _column("Endpoint", ".status.endpoint", wide=True),
            _MESSAGE,
        ],
        rules=[_NAME_RULE],
        scale={
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    )


def modelrouter_crd() -> dict[str, Any]:
    """Return the CustomResourceDefinition of ModelRouter."""
    return _crd(
        kind=modelrouter.KIND,
        plural=modelrouter.PLURAL,
        short_name="lmr",
        spec=modelrouter.ModelRouterSpec,
        status=modelrouter.ModelRouterStatus,
        columns=[
            _READY,
            _STATE,
            _column("Engine", ".status.engine"),
            _column("Models", ".status.modelSummary"),
            _column("URL", ".status.url"),
            _AGE,
            _MESSAGE,
        ],
        rules=[
            {
                "rule": "self.metadata.name.size() <= 40 && self.metadata.name.matches("
                "'^[a-z]([-a-z0-9]*[a-z0-9])?$')",
                "message": "metadata.name is part of the Service's name: a DNS label that starts"
                " with a letter, at most 40 characters",
            }
        ],
        scale=None,
    )


def _crd(  # noqa: PLR0913  (one table of what differs between the two kinds)
    *,
    kind: str,
    plural: str,
    short_name: str,
    spec: type[Schema],
    status: type[Schema],
    columns: list[dict[str, Any]],
    rules: list[dict[str, str]],
    scale: dict[str, str] | None,
) -> dict[str, Any]:
    spec_schema = structural(spec)
    if scale:
        # Without the default, reading /scale of an object that leaves it out is an error, and an
        # HPA, a VPA or KEDA begins with that.
        spec_schema["properties"]["replicas"]["default"] = 1
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}, **({"scale": scale} if scale else {})},
        "additionalPrinterColumns": columns,
        "schema": {
            "openAPIV3Schema": {
                "type": "object",
                "required": ["spec"],
                "x-kubernetes-validations": rules,
                "properties": {
                    "apiVersion": {"type": "string"},
                    "kind": {"type": "string"},
                    "metadata": {"type": "object"},
                    "spec": spec_schema,
                    # Without the default, kstatus takes an object without a status for healthy.
                    "status": {**structural(status), "default": {"observedGeneration": -1}},
                },
            }
        },
    }
    digest = hashlib.sha256(json.dumps(version, sort_keys=True).encode()).hexdigest()[:10]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{GROUP}",
            "annotations": {
                HASH_ANNOTATION: digest,
                "kustomize.toolkit.fluxcd.io/prune": "disabled",
            },
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short_name],
                "categories": ["llama-halo"],
            },
            "versions": [version],
        },
    }


def all_crds() -> list[dict[str, Any]]:
    """Return both CustomResourceDefinitions."""
    return [llamamodel_crd(), modelrouter_crd()]
