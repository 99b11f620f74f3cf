"""Options for pods that both kinds have."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from llama_halo.api.affinity import Affinity
from llama_halo.api.schema import (
    DnsName,
    EnvName,
    KeyReference,
    LabelValue,
    LocalReference,
    LongText,
    Quantity,
    Schema,
    Text,
    exactly_one,
    list_map,
    rule,
    rules,
)

Labels = Annotated[dict[str, LabelValue], Field(max_length=32)]
Annotations = Annotated[
    dict[str, Annotated[str, Field(max_length=4096)]],
    Field(max_length=32),
]
OWN_LABELS = rule(
    "!self.exists(k, k.startsWith('llama-halo.dev/') || k.startsWith('app.kubernetes.io/'))",
    "labels and annotations below llama-halo.dev/ and app.kubernetes.io/ belong to the operator",
)
Resources = Annotated[dict[str, Quantity], Field(max_length=16)]


class Toleration(Schema):
    """A node taint that the pod accepts."""

    key: Text | None = None
    operator: Literal["Exists", "Equal"] | None = None
    value: LabelValue | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: Annotated[int, Field(ge=0)] | None = None


class FieldReference(Schema):
    """A field of the pod itself."""

    field_path: Text


class EnvSource(Schema):
    """Where the value of an environment variable comes from; the operator never reads it."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            exactly_one("env.valueFrom", "secretKeyRef", "configMapKeyRef", "fieldRef")
        )
    )

    secret_key_ref: KeyReference | None = None
    config_map_key_ref: KeyReference | None = None
    field_ref: FieldReference | None = None


class EnvVar(Schema):
    """One environment variable of the server."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!(has(self.value) && has(self.valueFrom))",
                "an env entry has a value or a valueFrom, not both",
            )
        )
    )

    name: EnvName
    value: Annotated[str, Field(max_length=4096)] | None = None
    value_from: EnvSource | None = None


class PodResources(Schema):
    """Requests and limits beside those that the operator sets."""

    requests: Resources | None = None
    limits: Resources | None = None


class PodOptions(Schema):
    """What a person adds to the pods of a resource."""

    labels: Annotated[Labels, Field(json_schema_extra=rules(OWN_LABELS))] | None = None
    annotations: Annotated[Annotations, Field(json_schema_extra=rules(OWN_LABELS))] | None = None
    node_selector: Labels | None = None
    """Labels that the node must have."""
    tolerations: Annotated[list[Toleration], Field(max_length=16)] | None = None
    affinity: Affinity | None = None
    """Beside nodeSelector; a LlamaModel is placed only where its required node terms are met."""
    priority_class_name: DnsName | None = None
    runtime_class_name: DnsName | None = None
    service_account_name: DnsName | None = None
    image_pull_secrets: (
        Annotated[list[LocalReference], Field(max_length=8, json_schema_extra=list_map("name"))]
        | None
    ) = None
    resources: PodResources | None = None


Env = Annotated[list[EnvVar], Field(max_length=64, json_schema_extra=list_map("name"))]
Command = Annotated[list[LongText], Field(min_length=1, max_length=16)]
