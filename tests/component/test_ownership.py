"""Whose children are whose: foreign objects, every way of deletion, and hanging pods."""

from __future__ import annotations

import time

import pytest

from hack.testbed import audit
from hack.testbed.cluster import Testbed
from tests.support.api import Api, eventually, message
from tests.support.resources import (
    StartOperator,
    deployments,
    model,
    pods,
    router,
    uids,
    wait_ready,
    wait_state,
)

MODEL_LABEL = "llama-halo.dev/model"
OURS = "app.kubernetes.io/managed-by=llama-halo"


def foreign_service(namespace: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "coder", "namespace": namespace},
        "spec": {"selector": {"app": "mine"}, "ports": [{"port": 80}]},
    }


@pytest.mark.usefixtures("operator")
class TestOwnership:
    def test_a_service_of_somebody_else_is_not_touched_until_it_is_gone(
        self, api: Api, namespace: str
    ) -> None:
        api.create(foreign_service(namespace))
        api.apply(model(namespace))
        resource = wait_state(api, namespace, "coder", "NameConflict")
        assert "belongs to somebody else" in message(resource)
        service = api.get("Service", namespace, "coder")
        assert service is not None
        assert service["spec"]["selector"] == {"app": "mine"}
        assert deployments(api, namespace) == []
        api.delete("Service", namespace, "coder")
        wait_ready(api, namespace, "coder", seconds=40)

    def test_a_service_of_another_controller_is_named_with_its_owner(
        self, api: Api, namespace: str
    ) -> None:
        config = {"apiVersion": "v1", "kind": "ConfigMap"}
        owner = api.create({**config, "metadata": {"name": "holder", "namespace": namespace}})
        foreign = foreign_service(namespace)
        metadata = {
            "name": "coder",
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "llama-halo"},
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "name": "holder",
                    "uid": owner["metadata"]["uid"],
                    "controller": True,
                }
            ],
        }
        api.create({**foreign, "metadata": metadata})
        api.apply(model(namespace))
        resource = wait_state(api, namespace, "coder", "NameConflict")
        assert "belongs to ConfigMap holder" in message(resource)

    def test_a_deployment_that_was_detached_is_not_taken_back(
        self, api: Api, namespace: str
    ) -> None:
        """Its fields are still our manager's, so that an apply would meet no resistance."""
        api.apply(model(namespace))
        wait_ready(api, namespace, "coder")
        name = deployments(api, namespace)[0]["metadata"]["name"]
        detached = {
            "ownerReferences": [],
            "labels": {"app.kubernetes.io/managed-by": None, MODEL_LABEL: None},
        }
        api.patch("Deployment", namespace, name, {"metadata": detached})
        resource = wait_state(api, namespace, "coder", "NameConflict")
        assert f"Deployment {namespace}/{name} belongs to somebody else" in message(resource)
        untouched = api.get("Deployment", namespace, name)
        assert untouched is not None
        assert not untouched["metadata"].get("ownerReferences")
        api.delete("Deployment", namespace, name)
        wait_ready(api, namespace, "coder", seconds=40)

    def test_deletion_in_the_foreground_takes_the_children_too(
        self, api: Api, namespace: str
    ) -> None:
        api.apply(model(namespace))
        wait_ready(api, namespace, "coder")
        api.delete("LlamaModel", namespace, "coder", propagation="Foreground")
        eventually(lambda: api.get("LlamaModel", namespace, "coder") is None, seconds=40)
        eventually(lambda: not api.list("Deployment", namespace, OURS))
        eventually(lambda: not api.list("Service", namespace, OURS))

    def test_orphans_go_on_and_are_taken_up_by_a_resource_of_their_name(
        self, api: Api, namespace: str
    ) -> None:
        api.apply(model(namespace))
        wait_ready(api, namespace, "coder")
        before = uids(api, namespace, MODEL_LABEL)
        api.delete("LlamaModel", namespace, "coder", propagation="Orphan")
        eventually(lambda: api.get("LlamaModel", namespace, "coder") is None, seconds=40)
        time.sleep(2)
        assert uids(api, namespace, MODEL_LABEL) == before
        api.apply(model(namespace))
        resource = wait_ready(api, namespace, "coder")
        (deployment,) = deployments(api, namespace)
        (owner,) = deployment["metadata"]["ownerReferences"]
        assert owner["uid"] == resource["metadata"]["uid"]
        assert uids(api, namespace, MODEL_LABEL) == before, "nothing rolled"

    def test_a_resource_that_is_made_anew_gets_children_of_its_own(
        self, api: Api, namespace: str
    ) -> None:
        api.apply(model(namespace))
        old = wait_ready(api, namespace, "coder")["metadata"]["uid"]
        api.delete("LlamaModel", namespace, "coder")
        api.apply(model(namespace, contextSize=8192))
        resource = wait_ready(api, namespace, "coder", seconds=40)
        assert resource["metadata"]["uid"] != old
        (deployment,) = deployments(api, namespace)
        assert [o["uid"] for o in deployment["metadata"]["ownerReferences"]] == [
            resource["metadata"]["uid"]
        ]
        service = api.get("Service", namespace, "coder")
        assert service is not None
        assert service["metadata"]["ownerReferences"][0]["uid"] == resource["metadata"]["uid"]

    def test_a_namespace_that_goes_takes_everything_and_leaves_the_operator_at_rest(
        self, api: Api, control_plane: Testbed
    ) -> None:
        name = api.namespace(f"gone-{time.time_ns()}")
        api.apply(model(name))
        api.apply(router(name))
        wait_ready(api, name, "coder")
        wait_ready(api, name, "main", kind="ModelRouter")
        api.delete("Namespace", "", name)
        eventually(lambda: api.get("Namespace", "", name) is None, seconds=60)

    def test_why_a_pod_hangs_in_creation_is_read_from_its_events(
        self, api: Api, namespace: str
    ) -> None:
        """The kubelet's part is played by hand, on a node that nobody else manages."""
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": "by-hand", "labels": {"by": "hand"}},
            "status": {"allocatable": {"cpu": "8", "memory": "64Gi", "pods": "10"}},
        }
        api.create(node)
        try:
            pod = {"nodeSelector": {"by": "hand"}, "tolerations": [{"operator": "Exists"}]}
            api.apply(model(namespace, pod=pod))
            eventually(lambda: any("nodeName" in pod["spec"] for pod in pods(api, namespace)))
            (hanging,) = pods(api, namespace)
            metadata = hanging["metadata"]
            waiting = {
                "name": "llama-server",
                "image": "x",
                "imageID": "",
                "ready": False,
                "restartCount": 0,
                "state": {"waiting": {"reason": "ContainerCreating"}},
            }
            body = {"status": {"containerStatuses": [waiting]}}
            api.patch("Pod", namespace, metadata["name"], body, subresource="/status")
            note = (
                'MountVolume.SetUp failed for volume "kfd" : hostPath type check failed:'
                " /dev/kfd is not a character device"
            )
            event = {
                "apiVersion": "events.k8s.io/v1",
                "kind": "Event",
                "metadata": {"name": "mount", "namespace": namespace},
                "eventTime": audit.now(),
                "type": "Warning",
                "reason": "FailedMount",
                "action": "Mount",
                "note": note,
                "reportingController": "kubelet",
                "reportingInstance": "by-hand",
                "regarding": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "namespace": namespace,
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                },
            }
            api.create(event)
            resource = wait_state(api, namespace, "coder", "DeviceUnavailable", seconds=30)
            assert "/dev/kfd is not a character device: the node lacks" in message(resource)
        finally:
            api.delete("Node", "", "by-hand")


class TestAbsence:
    def test_a_resource_deleted_while_no_operator_ran_leaves_nothing(
        self, api: Api, namespace: str, start_operator: StartOperator
    ) -> None:
        first = start_operator()
        first.wait_ready()
        api.apply(model(namespace))
        api.apply(model(namespace, "other"))
        wait_ready(api, namespace, "coder")
        wait_ready(api, namespace, "other")
        first.stop()
        api.delete("LlamaModel", namespace, "coder")
        eventually(lambda: api.get("LlamaModel", namespace, "coder") is None)
        start_operator().wait_ready()
        eventually(lambda: not pods(api, namespace, f"{MODEL_LABEL}=coder"), seconds=30)
        names = {service["metadata"]["name"] for service in api.list("Service", namespace, OURS)}
        assert names == {"other"}
