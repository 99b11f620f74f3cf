"""What hands, other controllers and lost watches do to children, and how they come back.

Each drift happens twice: in sight of the operator, and inside a watch gap that ends in 410 Gone,
of which no watch ever tells.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from hack.testbed.audit import now, writes
from hack.testbed.cluster import Testbed
from tests.support.api import Api, eventually, message
from tests.support.fault_proxy import FaultProxy
from tests.support.resources import (
    MISTAKE,
    Json,
    deployments,
    model,
    router,
    wait_ready,
    wait_state,
)

# What of a Deployment is a person's or a controller's, not the operator's.
FOREIGN = ("resourceVersion", "uid", "generation", "creationTimestamp", "managedFields")
CHILDREN = ("Deployment", "Service", "ConfigMap", "ServiceAccount", "Role", "RoleBinding")


def ours(api: Api, namespace: str) -> dict[str, Json]:
    """Return all children as the operator made them."""
    value = {}
    for kind in CHILDREN:
        for obj in api.list(kind, namespace, "app.kubernetes.io/managed-by=llama-halo"):
            metadata = {k: v for k, v in obj["metadata"].items() if k not in FOREIGN}
            metadata.get("annotations", {}).pop("deployment.kubernetes.io/revision", None)
            rest = {k: v for k, v in obj.items() if k not in ("metadata", "status")}
            rest.get("spec", {}).pop("clusterIP", None)
            rest.get("spec", {}).pop("clusterIPs", None)
            value[f"{kind}/{metadata['name']}"] = {**rest, "metadata": metadata}
    return value


def delete_deployment(api: Api, namespace: str) -> None:
    api.delete("Deployment", namespace, deployments(api, namespace)[0]["metadata"]["name"])


def delete_service(api: Api, namespace: str) -> None:
    api.delete("Service", namespace, "coder")


def delete_config(api: Api, namespace: str) -> None:
    (config,) = api.list("ConfigMap", namespace, "llama-halo.dev/router=main")
    api.delete("ConfigMap", namespace, config["metadata"]["name"])


def edit_args(api: Api, namespace: str) -> None:
    (deployment,) = deployments(api, namespace)
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    template = {"spec": {"containers": [{**container, "args": ["--bad"]}]}}
    name = deployment["metadata"]["name"]
    api.patch("Deployment", namespace, name, {"spec": {"template": template}})


def edit_replicas(api: Api, namespace: str) -> None:
    name = deployments(api, namespace)[0]["metadata"]["name"]
    api.patch("Deployment", namespace, name, {"spec": {"replicas": 3}})


def drop_owner(api: Api, namespace: str) -> None:
    name = deployments(api, namespace)[0]["metadata"]["name"]
    api.patch("Deployment", namespace, name, {"metadata": {"ownerReferences": []}})


def drop_labels(api: Api, namespace: str) -> None:
    api.patch("Service", namespace, "coder", {"metadata": {"labels": None}})


def drop_owner_label(api: Api, namespace: str) -> None:
    name = deployments(api, namespace)[0]["metadata"]["name"]
    label = {"llama-halo.dev/model": None}
    api.patch("Deployment", namespace, name, {"metadata": {"labels": label}})


def drop_owner_and_label(api: Api, namespace: str) -> None:
    drop_owner(api, namespace)
    drop_owner_label(api, namespace)


def edit_selector(api: Api, namespace: str) -> None:
    api.patch("Service", namespace, "coder", {"spec": {"selector": {"app": "other"}}})


DRIFTS = (
    delete_deployment,
    delete_service,
    delete_config,
    edit_args,
    edit_replicas,
    drop_owner,
    drop_labels,
    drop_owner_label,
    drop_owner_and_label,
    edit_selector,
)


@pytest.mark.usefixtures("proxied_operator")
class TestDrift:
    @contextmanager
    def gap(self, proxy: FaultProxy) -> Iterator[None]:
        """Close every watch, and let them go on only with 410 Gone."""
        proxy.set(watch_refused_503=1)
        proxy.cut_watches()
        yield
        proxy.set(watch_refused_503=0, watch_refused_410=1)
        time.sleep(1)
        proxy.set(watch_refused_410=0)

    @pytest.mark.parametrize("unseen", [False, True], ids=["in sight", "inside a watch gap"])
    @pytest.mark.parametrize("drift", DRIFTS, ids=[case.__name__ for case in DRIFTS])
    def test_what_was_changed_by_hand_is_put_right(
        self,
        api: Api,
        namespace: str,
        proxy: FaultProxy,
        drift: Callable[[Api, str], None],
        unseen: bool,
    ) -> None:
        api.apply(model(namespace))
        api.apply(router(namespace))
        wait_ready(api, namespace, "coder")
        wait_ready(api, namespace, "main", kind="ModelRouter")
        before = ours(api, namespace)
        if unseen:
            with self.gap(proxy):
                drift(api, namespace)
        else:
            drift(api, namespace)
        eventually(lambda: ours(api, namespace) == before, description="all as before")
        wait_ready(api, namespace, "coder")

    def test_a_hand_added_environment_entry_and_a_rollout_restart_stay(
        self, api: Api, namespace: str, control_plane: Testbed
    ) -> None:
        api.apply(model(namespace))
        wait_ready(api, namespace, "coder")
        (deployment,) = deployments(api, namespace)
        name = deployment["metadata"]["name"]
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        env = [*container["env"], {"name": "ADDED", "value": "by hand"}]
        template = {
            "metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}},
            "spec": {"containers": [{**container, "env": env}]},
        }
        since = now()
        api.patch("Deployment", namespace, name, {"spec": {"template": template}})
        time.sleep(2)
        live = api.get("Deployment", namespace, name)
        assert "by hand" in str(live)
        assert "restartedAt" in str(live)
        log = control_plane.layout.audit_log
        assert "patch deployments" not in writes(log, since=since, namespace=namespace)

    def test_what_something_else_changes_back_each_time_is_not_fought_for_ever(
        self, api: Api, namespace: str, control_plane: Testbed
    ) -> None:
        api.apply(model(namespace))
        wait_ready(api, namespace, "coder")
        since, report = now(), ""
        for _ in range(40):
            edit_replicas(api, namespace)
            time.sleep(0.1)
            report = message(api.get("LlamaModel", namespace, "coder"))
            if "something else changes" in report:
                break
        assert "something else changes spec.replicas back" in report
        write_count = writes(control_plane.layout.audit_log, since=since, namespace=namespace)
        assert write_count["patch deployments"] <= 6

    def test_an_event_that_is_refused_is_posted_again_and_no_status_waits_for_it_long(
        self, api: Api, namespace: str, proxy: FaultProxy
    ) -> None:
        def posted() -> list[str]:
            return [event["reason"] for event in api.list("Event", namespace)]

        proxy.events_to_refuse = 2
        api.apply(model(namespace, **MISTAKE))
        wait_state(api, namespace, "coder", "InvalidSpec")
        assert posted() == ["InvalidSpec"]
        proxy.events_to_refuse = 100
        api.apply(model(namespace, "other", **MISTAKE))
        wait_state(api, namespace, "other", "InvalidSpec")
        proxy.events_to_refuse = 0
        assert posted() == ["InvalidSpec"]
