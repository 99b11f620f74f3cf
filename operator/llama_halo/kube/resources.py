"""The kinds that the operator reads or writes, and their paths."""

from __future__ import annotations

from dataclasses import dataclass

from llama_halo.api import llamamodel, modelrouter
from llama_halo.contract.labels import API_VERSION


@dataclass(frozen=True)
class Resource:
    """One kind of the Kubernetes API, with the parts of its URLs."""

    kind: str
    api_version: str
    plural: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        return self.api_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        return self.api_version.rpartition("/")[2]

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """Return the URL path of the collection, or of one object."""
        root = f"/apis/{self.api_version}" if self.group else f"/api/{self.api_version}"
        parts = [root]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name:
            parts.append(name)
        return "/".join(parts)


LLAMAMODEL = Resource(llamamodel.KIND, API_VERSION, llamamodel.PLURAL)
MODELROUTER = Resource(modelrouter.KIND, API_VERSION, modelrouter.PLURAL)
NODE = Resource("Node", "v1", "nodes", namespaced=False)
POD = Resource("Pod", "v1", "pods")
JOB = Resource("Job", "batch/v1", "jobs")
LEASE = Resource("Lease", "coordination.k8s.io/v1", "leases")
EVENT = Resource("Event", "events.k8s.io/v1", "events")
CLAIM = Resource("PersistentVolumeClaim", "v1", "persistentvolumeclaims")
VOLUME = Resource("PersistentVolume", "v1", "persistentvolumes", namespaced=False)
CRD = Resource(
    "CustomResourceDefinition",
    "apiextensions.k8s.io/v1",
    "customresourcedefinitions",
    namespaced=False,
)
CONFIG_MAP = Resource("ConfigMap", "v1", "configmaps")
CHILDREN = (
    Resource("Deployment", "apps/v1", "deployments"),
    JOB,
    LEASE,
    Resource("Service", "v1", "services"),
    CONFIG_MAP,
    Resource("ServiceAccount", "v1", "serviceaccounts"),
    Resource("Role", "rbac.authorization.k8s.io/v1", "roles"),
    Resource("RoleBinding", "rbac.authorization.k8s.io/v1", "rolebindings"),
    Resource("PodDisruptionBudget", "policy/v1", "poddisruptionbudgets"),
)
PRUNED = frozenset({"Deployment", "Job", "Lease", "ConfigMap", "PodDisruptionBudget"})
"""Kinds that a plan may drop or rename. A plan always has the other kinds, under fixed names."""
OWNERS = (LLAMAMODEL, MODELROUTER)
WATCHED = (*OWNERS, *CHILDREN, POD, NODE)
METADATA_ONLY = frozenset({"ConfigMap"})
"""Kinds whose metadata alone is watched and compared: the name of a ConfigMap of ours contains the
hash of its data, and it is immutable. Who may delete it and create another of its name decides what
is in it, and may do so for one namespace alone."""
LABELLED = frozenset(resource.kind for resource in (*CHILDREN, POD))
"""Kinds that the operator watches with a selector for our label."""
BY_KIND = {resource.kind: resource for resource in (*WATCHED, EVENT, CLAIM, VOLUME, CRD)}
