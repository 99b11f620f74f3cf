"""A pod's affinity as Kubernetes has it; only node affinity is typed, the rest passes unchanged."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from llama_halo.api.schema import LabelValue, OpenObject, Schema, Text, rule, rules

_VALUES = rule(
    "self.operator in ['Exists', 'DoesNotExist'] ? !has(self.values) || size(self.values) == 0"
    " : has(self.values) && (self.operator in ['In', 'NotIn'] ? size(self.values) > 0"
    " : size(self.values) == 1 && self.values[0].matches('^-?[0-9]+$'))",
    "In and NotIn need values, Exists and DoesNotExist have none, Gt and Lt need one whole number",
)


class NodeRequirement(Schema):
    """What a label, or a field, of the node must be."""

    model_config = ConfigDict(json_schema_extra=rules(_VALUES))

    key: Text
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
    values: Annotated[tuple[LabelValue, ...], Field(max_length=32)] | None = None


class NodeFieldRequirement(Schema):
    """What a field of the node must be: Kubernetes knows `metadata.name` only."""

    key: Literal["metadata.name"]
    operator: Literal["In", "NotIn"]
    values: Annotated[tuple[Text, ...], Field(min_length=1, max_length=1)]


class NodeTerm(Schema):
    """Requirements that a node must meet together; a term without any matches no node."""

    match_expressions: Annotated[tuple[NodeRequirement, ...], Field(max_length=16)] | None = None
    match_fields: Annotated[tuple[NodeFieldRequirement, ...], Field(max_length=4)] | None = None


class NodeTerms(Schema):
    """Terms of which a node must meet one."""

    node_selector_terms: Annotated[tuple[NodeTerm, ...], Field(min_length=1, max_length=8)]


class PreferredNodeTerm(Schema):
    """A term that adds its weight to the nodes that meet it."""

    weight: Annotated[int, Field(ge=1, le=100)]
    preference: NodeTerm


class NodeAffinity(Schema):
    """Nodes that the pod may run on, and those that it had better run on."""

    required: Annotated[
        NodeTerms | None, Field(alias="requiredDuringSchedulingIgnoredDuringExecution")
    ] = None
    preferred: Annotated[
        tuple[PreferredNodeTerm, ...] | None,
        Field(alias="preferredDuringSchedulingIgnoredDuringExecution", max_length=8),
    ] = None


class Affinity(Schema):
    """Where the pod may run, by labels of nodes and by the pods that run beside it."""

    node_affinity: NodeAffinity | None = None
    pod_affinity: OpenObject | None = None
    pod_anti_affinity: OpenObject | None = None
