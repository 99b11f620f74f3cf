"""What people and accidents do to a cluster, from a seed; and what must be true in the end."""

from __future__ import annotations

import contextlib
import random
import re
import time
from collections.abc import Callable
from typing import Any

from hack.testbed import audit
from hack.testbed.layout import Layout
from tests.support.api import Api, Refused, eventually, ready

Json = dict[str, Any]
NODES = 4
OURS = "app.kubernetes.io/managed-by=llama-halo"
CHILDREN = (
    *("Deployment", "Service", "ConfigMap", "ServiceAccount", "Role", "RoleBinding"),
    "PodDisruptionBudget",
)
# What the API server and the controllers add, and what must differ between two runs.
_NOT_OURS = ("resourceVersion", "uid", "generation", "creationTimestamp", "managedFields")
_REVISION = "deployment.kubernetes.io/revision"
_ADDRESSES = ("clusterIP", "clusterIPs")


def model(namespace: str, index: int, **spec: Any) -> Json:
    """Return a LlamaModel that has one node to be on, so that its place follows from its spec."""
    base = {
        "source": {"local": {"path": f"{index}.gguf"}},
        "contextSize": 4096,
        "replicas": 1,
        "memory": {"gpu": "512Mi", "host": "128Mi"},
        # No server is behind these pods.
        "verify": {"toolCalling": "Off"},
        "pod": {
            "nodeSelector": {"kubernetes.io/hostname": f"fake-{index % NODES}"},
            "resources": {"requests": {"cpu": "50m"}},
        },
    }
    return {
        "apiVersion": "llama-halo.dev/v1alpha1",
        "kind": "LlamaModel",
        "metadata": {"name": f"model-{index}", "namespace": namespace},
        "spec": {**base, **spec},
    }


def router(namespace: str, index: int, **spec: Any) -> Json:
    """Return a ModelRouter of a few models."""
    names = [f"model-{index + step}" for step in (0, 1, 2)]
    base = {
        "models": [{"name": name, "modelRef": {"name": name}} for name in names],
        "replicas": 1,
        "pod": {"resources": {"requests": {"cpu": "50m"}}},
    }
    return {
        "apiVersion": "llama-halo.dev/v1alpha1",
        "kind": "ModelRouter",
        "metadata": {"name": f"router-{index}", "namespace": namespace},
        "spec": {**base, **spec},
    }


class World:
    """Random edits of a number of models and some routers, in some namespaces."""

    def __init__(self, api: Api, namespaces: list[str], *, models: int, seed: int) -> None:
        self._api, self._namespaces, self._models = api, namespaces, models
        self._random = random.Random(seed)  # noqa: S311  (a seed, so that a run can be repeated)
        self.done = 0

    def place(self, index: int) -> str:
        return self._namespaces[index % len(self._namespaces)]

    def populate(self) -> None:
        """Make all models, and a router for every eighth."""
        for index in range(self._models):
            self._api.apply(model(self.place(index), index))
        for index in range(0, self._models, 8):
            self._api.apply(router(self.place(index), index))

    def rage(self, seconds: float, *, pause_seconds: float = 0.1) -> None:
        """Do random things for a while."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.act()
            time.sleep(self._random.random() * 2 * pause_seconds)

    def act(self) -> None:
        """Do one random thing; what is not there cannot be edited, and that is no matter."""
        actions: list[tuple[Callable[[], None], int]] = [
            (self._edit, 6),
            (self._scale, 3),
            (self._delete_and_remake, 2),
            (self._edit_router, 3),
            (self._drift, 6),
            (self._break_and_mend, 1),
        ]
        chosen = self._random.choices(
            [action for action, _ in actions], [weight for _, weight in actions]
        )[0]
        with contextlib.suppress(Refused, KeyError, IndexError):
            chosen()
        self.done += 1

    def mend(self) -> None:
        """Make every resource exist and be right again, so that the end can be compared."""
        self.populate()

    def _index(self) -> int:
        return self._random.randrange(self._models)

    def _edit(self) -> None:
        index, size = self._index(), self._random.choice([2048, 4096, 8192])
        self._api.apply(model(self.place(index), index, contextSize=size))

    def _scale(self) -> None:
        index = self._index()
        body = {"spec": {"replicas": self._random.choice([0, 1])}}
        self._api.patch(
            "LlamaModel", self.place(index), f"model-{index}", body, subresource="/scale"
        )

    def _delete_and_remake(self) -> None:
        index = self._index()
        how = self._random.choice(["Background", "Foreground", "Orphan"])
        self._api.delete("LlamaModel", self.place(index), f"model-{index}", propagation=how)
        if self._random.random() < 0.7:
            time.sleep(self._random.random())
            self._api.apply(model(self.place(index), index))

    def _break_and_mend(self) -> None:
        index = self._index()
        forgotten = {"gpu": "512", "host": "128Mi"}  # its unit
        self._api.apply(model(self.place(index), index, memory=forgotten))

    def _edit_router(self) -> None:
        index = self._index() // 8 * 8
        if self._random.random() < 0.2:
            self._api.delete("ModelRouter", self.place(index), f"router-{index}")
            return
        routes = {"default": f"model-{index + self._random.randrange(3)}"}
        replicas = self._random.choice([1, 1, 2])
        self._api.apply(router(self.place(index), index, routes=routes, replicas=replicas))

    def _drift(self) -> None:
        """Do to a child what hands do."""
        kind = self._random.choice(["Deployment", "Deployment", "Service", "ConfigMap"])
        namespace = self._random.choice(self._namespaces)
        child = self._random.choice(self._api.list(kind, namespace, OURS))
        name = child["metadata"]["name"]
        if kind == "ConfigMap" or self._random.random() < 0.4:
            self._api.delete(kind, namespace, name)
        elif kind == "Service":
            change = self._random.choice([{"spec": {"selector": {"a": "b"}}}, {"metadata": {}}])
            self._api.patch(kind, namespace, name, change)
        else:
            self._drift_deployment(namespace, child)

    def _drift_deployment(self, namespace: str, child: Json) -> None:
        name = child["metadata"]["name"]
        container = child["spec"]["template"]["spec"]["containers"][0]
        args = {"template": {"spec": {"containers": [{**container, "args": ["--bad"]}]}}}
        change = self._random.choice(
            [
                {"spec": {"replicas": 2}},
                {"spec": args},
                {"metadata": {"ownerReferences": []}},
                {"metadata": {"labels": {"llama-halo.dev/model": None}}},
                {"metadata": {"labels": {"app.kubernetes.io/instance": "other"}}},
            ]
        )
        self._api.patch("Deployment", namespace, name, change)


def snapshot(api: Api, namespaces: list[str]) -> dict[str, Json]:
    """Return every resource's status and every child, without what differs from run to run."""
    value: dict[str, Json] = {}
    for namespace in namespaces:
        for kind in CHILDREN:
            for obj in api.list(kind, namespace, OURS):
                value[f"{namespace}/{kind}/{obj['metadata']['name']}"] = _normal(obj)
        for kind in ("LlamaModel", "ModelRouter"):
            for obj in api.list(kind, namespace):
                value[f"{namespace}/{kind}/{obj['metadata']['name']}"] = _normal_status(obj)
    return value


def _normal(obj: Json) -> Json:
    metadata = {key: value for key, value in obj["metadata"].items() if key not in _NOT_OURS}
    metadata.get("annotations", {}).pop(_REVISION, None)
    owners = metadata.get("ownerReferences", ())
    metadata["ownerReferences"] = [{**owner, "uid": ""} for owner in owners]
    rest = {key: value for key, value in obj.items() if key not in ("metadata", "status")}
    if "spec" in rest:
        rest["spec"] = {k: v for k, v in rest["spec"].items() if k not in _ADDRESSES}
    subjects = rest.pop("secrets", None)
    return {**rest, "metadata": metadata, **({"secrets": subjects} if subjects else {})}


def _normal_status(obj: Json) -> Json:
    status = {key: value for key, value in obj.get("status", {}).items()}
    status["conditions"] = [
        {key: condition[key] for key in ("type", "status", "reason", "message")}
        for condition in status.get("conditions", ())
    ]
    for placement in status.get("placements", ()):
        placement.pop("address", None)  # of a pod, which is another one each time
    behind = status.pop("observedGeneration", -1) != obj["metadata"]["generation"]
    for condition in status["conditions"]:
        condition["message"] = re.sub(
            r"-[0-9a-f]{8,10}-[a-z0-9]{5}\b", "-POD", condition["message"]
        )
    return {**status, "behind": behind}


def untrue(api: Api, namespaces: list[str]) -> list[str]:
    """Return what the statuses claim that is not so, and children without a resource."""
    wrong = []
    for namespace in namespaces:
        owners = {}
        for kind in ("LlamaModel", "ModelRouter"):
            for obj in api.list(kind, namespace):
                owners[obj["metadata"]["uid"]] = obj
                name = f"{kind} {namespace}/{obj['metadata']['name']}"
                if obj["status"].get("observedGeneration") != obj["metadata"]["generation"]:
                    wrong.append(f"{name}: its status is of an older generation")
                if ready(obj) != ("True", "Serving"):
                    wrong.append(f"{name}: {ready(obj)}")
        for kind in CHILDREN:
            for obj in api.list(kind, namespace, OURS):
                uids = [
                    owner_reference["uid"]
                    for owner_reference in obj["metadata"].get("ownerReferences", ())
                ]
                if not any(uid in owners for uid in uids):
                    wrong.append(f"{kind} {namespace}/{obj['metadata']['name']}: an orphan")
        wrong += _pods_that_differ(api, namespace)
    return wrong


def wait_true(api: Api, namespaces: list[str]) -> None:
    """Wait until every resource is Ready, and says what is so."""
    eventually(lambda: untrue(api, namespaces), until=lambda wrong: not wrong, seconds=180)


def _pods_that_differ(api: Api, namespace: str) -> list[str]:
    """Return models that have not exactly one pod, of the version that their status names."""
    wrong, by_model = [], dict[str, list[Json]]()
    for pod in api.list("Pod", namespace, "llama-halo.dev/model"):
        by_model.setdefault(pod["metadata"]["labels"]["llama-halo.dev/model"], []).append(pod)
    for obj in api.list("LlamaModel", namespace):
        name = obj["metadata"]["name"]
        hashes = [
            pod["metadata"]["annotations"].get("llama-halo.dev/config-hash")
            for pod in by_model.get(name, [])
        ]
        if hashes != [obj["status"].get("configHash")]:
            wrong.append(f"{namespace}/{name}: pods of {hashes}, {obj['status'].get('configHash')}")
    return wrong


def wait_quiet(layout: Layout, *, seconds: float = 180, still_seconds: float = 5) -> None:
    """Wait until the operator has written nothing for a while."""
    deadline = time.monotonic() + seconds
    while True:
        since = audit.now()
        time.sleep(still_seconds)
        written = audit.writes(layout.audit_log, since=since)
        if not written:
            return
        assert time.monotonic() < deadline, f"it still writes: {written}"
