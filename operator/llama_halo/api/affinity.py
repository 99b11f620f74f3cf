"""A pod's affinity as Kubernetes has it, within bounds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from llama_halo.api.schema import DnsLabel, LabelValue, Schema, Text, rule, rules

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
    values: Annotated[tuple[LabelValue, ...], Field(max_length=16)] | None = None


class NodeFieldRequirement(Schema):
    """What a field of the node must be: Kubernetes knows `metadata.name` only."""

    key: Literal["metadata.name"]
    operator: Literal["In", "NotIn"]
    values: Annotated[tuple[Text, ...], Field(min_length=1, max_length=1)]


class NodeTerm(Schema):
    """Requirements that a node must meet together; a term without any matches no node."""

    match_expressions: Annotated[tuple[NodeRequirement, ...], Field(max_length=8)] | None = None
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


_LABEL_VALUES = rule(
    "self.operator in ['Exists', 'DoesNotExist'] ? !has(self.values) || size(self.values) == 0"
    " : has(self.values) && size(self.values) > 0",
    "In and NotIn need values, Exists and DoesNotExist have none",
)


class LabelRequirement(Schema):
    """What a label must be."""

    model_config = ConfigDict(json_schema_extra=rules(_LABEL_VALUES))

    key: Text
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: Annotated[tuple[LabelValue, ...], Field(max_length=16)] | None = None


class LabelSelector(Schema):
    """Labels that an object must have; an empty selector selects every object."""

    match_labels: Annotated[dict[str, LabelValue], Field(max_length=16)] | None = None
    match_expressions: Annotated[tuple[LabelRequirement, ...], Field(max_length=8)] | None = None


LabelKeys = Annotated[tuple[Text, ...], Field(max_length=8)]


class PodTerm(Schema):
    """Pods, and the label of nodes that says what is beside them."""

    topology_key: Text
    label_selector: LabelSelector | None = None
    match_label_keys: LabelKeys | None = None
    mismatch_label_keys: LabelKeys | None = None
    namespaces: Annotated[tuple[DnsLabel, ...], Field(max_length=16)] | None = None
    namespace_selector: LabelSelector | None = None


class PreferredPodTerm(Schema):
    """A term that adds its weight to the nodes that meet it."""

    weight: Annotated[int, Field(ge=1, le=100)]
    pod_affinity_term: PodTerm


class PodAffinity(Schema):
    """Pods that the pod must, or had better, run beside, or not beside."""

    required: Annotated[
        tuple[PodTerm, ...] | None,
        Field(alias="requiredDuringSchedulingIgnoredDuringExecution", max_length=4),
    ] = None
    preferred: Annotated[
        tuple[PreferredPodTerm, ...] | None,
        Field(alias="preferredDuringSchedulingIgnoredDuringExecution", max_length=4),
    ] = None


class Affinity(Schema):
    """Where the pod may run, by labels of nodes and by the pods that run beside it."""

    node_affinity: NodeAffinity | None = None
    pod_affinity: PodAffinity | None = None
    pod_anti_affinity: PodAffinity | None = None
