"""The operator's behaviour, seen from outside: resources in, children and status out."""

from __future__ import annotations

import time

import pytest

from hack.testbed.audit import now, writes
from hack.testbed.cluster import Testbed
from hack.testbed.operator_process import OperatorProcess
from llama_halo.controllers.placement.rollout_turns import is_rolling_out
from tests.support.api import Api, eventually, message, ready
from tests.support.resources import (
    MISTAKE,
    Json,
    StartOperator,
    deployments,
    model,
    pods,
    router,
    uids,
    wait_ready,
    wait_state,
)


def _has_context(deployment: Json, tokens: str) -> bool:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return tokens in container["args"]


@pytest.mark.usefixtures("operator")
class TestModel:
    def test_a_model_becomes_a_service_a_deployment_and_a_true_status(
        self, api: Api, namespace: str
    ) -> None:
        api.apply(model(namespace))
        resource = wait_ready(api, namespace, "coder")
        status = resource["status"]
        assert ready(resource) == ("True", "Serving")
        assert status["observedGeneration"] == resource["metadata"]["generation"]
        assert status["endpoint"] == f"http://coder.{namespace}.svc:8080"
        assert status["memory"]["summary"] == "11.0Gi"
        assert status["model"] == {"summary": "x", "contextSize": 4096}
        assert status["replicas"] == status["readyReplicas"] == 1
        node = status["nodeSummary"]
        (pod,) = pods(api, namespace)
        address = f"{pod['status']['podIP']}:8080"
        assert status["placements"] == [{"node": node, "reason": "Serving", "address": address}]
        assert api.get("Service", namespace, "coder") is not None
        (deployment,) = deployments(api, namespace)
        template = deployment["spec"]["template"]
        assert template["metadata"]["annotations"]["llama-halo.dev/gpu-mib"] == "10240"
        assert pods(api, namespace)[0]["spec"]["nodeName"] == node

    def test_replicas_run_on_nodes_of_their_own_and_scale_to_nothing_and_back(
        self, api: Api, namespace: str
    ) -> None:
        api.apply(model(namespace, replicas=2))
        resource = wait_ready(api, namespace, "coder")
        nodes = resource["status"]["nodeSummary"].split(",")
        assert len(set(nodes)) == 2
        api.patch("LlamaModel", namespace, "coder", {"spec": {"replicas": 0}}, subresource="/scale")
        wait_state(api, namespace, "coder", "Stopped")
        eventually(lambda: not pods(api, namespace), description="no pods")
        assert {deployment["spec"]["replicas"] for deployment in deployments(api, namespace)} == {0}
        api.patch("LlamaModel", namespace, "coder", {"spec": {"replicas": 1}}, subresource="/scale")
        again = wait_state(api, namespace, "coder", "Serving")
        assert len(pods(api, namespace)) == 1
        assert again["status"]["nodeSummary"] in nodes, "it goes back to where it was"

    def test_an_edit_rolls_the_pod_and_says_so(self, api: Api, namespace: str) -> None:
        api.apply(model(namespace))
        before = wait_ready(api, namespace, "coder")["status"]["configHash"]
        old = uids(api, namespace, "llama-halo.dev/model")
        api.apply(model(namespace, contextSize=8192))

        def rolled() -> bool:
            live = api.get("LlamaModel", namespace, "coder")
            hashed = (live or {})["status"].get("configHash")
            return ready(live) == ("True", "Serving") and hashed != before

        eventually(rolled)
        assert uids(api, namespace, "llama-halo.dev/model").isdisjoint(old)
        (deployment,) = deployments(api, namespace)
        args = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
        assert args[args.index("--ctx-size") + 1] == "8192"

    def test_models_on_one_node_roll_one_after_another(self, api: Api, namespace: str) -> None:
        names = ("one", "two", "three")
        api.patch("Node", "", "fake-1", {"metadata": {"labels": {"disk": "fast"}}})
        pod = {"nodeSelector": {"disk": "fast"}}
        try:
            for name in names:
                api.apply(model(namespace, name, pod=pod))
            for name in names:
                wait_ready(api, namespace, name)
            for name in names:
                api.apply(model(namespace, name, pod=pod, contextSize=8192))
            most, report = 0, set[str]()
            deadline = time.monotonic() + 30
            while not all(
                _has_context(deployment, "8192") for deployment in api.list("Deployment", namespace)
            ):
                assert time.monotonic() < deadline
                most = max(most, sum(map(is_rolling_out, api.list("Deployment", namespace))))
                report |= {
                    message(llama_model) for llama_model in api.list("LlamaModel", namespace)
                }
            assert most == 1
            assert any("waits for its rollout turn" in item for item in report), report
            for name in names:
                wait_ready(api, namespace, name)
        finally:
            api.patch("Node", "", "fake-1", {"metadata": {"labels": {"disk": None}}})

    def test_labels_and_the_same_yaml_again_roll_nothing_and_write_nothing(
        self, api: Api, namespace: str, control_plane: Testbed
    ) -> None:
        api.apply(model(namespace))
        wait_ready(api, namespace, "coder")
        old = uids(api, namespace, "llama-halo.dev/model")
        time.sleep(0.5)
        since = now()
        api.apply(model(namespace))
        api.patch("LlamaModel", namespace, "coder", {"metadata": {"labels": {"team": "core"}}})
        time.sleep(2)
        assert uids(api, namespace, "llama-halo.dev/model") == old
        assert writes(control_plane.layout.audit_log, since=since) == {}

    def test_a_suspended_model_is_left_alone_and_taken_up_again(
        self, api: Api, namespace: str
    ) -> None:
        api.apply(model(namespace))
        wait_ready(api, namespace, "coder")
        api.apply(model(namespace, suspend=True, contextSize=8192))
        wait_state(api, namespace, "coder", "Suspended")
        api.delete("Service", namespace, "coder")
        time.sleep(1)
        assert api.get("Service", namespace, "coder") is None
        assert "4096" in str(deployments(api, namespace))
        api.apply(model(namespace, suspend=False, contextSize=8192))
        eventually(lambda: api.get("Service", namespace, "coder"))
        eventually(lambda: "8192" in str(deployments(api, namespace)))

    def test_what_the_operator_alone_refuses_is_in_the_status(
        self, api: Api, namespace: str
    ) -> None:
        api.create(model(namespace, mode="Embedding", draft={"mtp": {}}))
        resource = wait_state(api, namespace, "coder", "InvalidSpec")
        assert message(resource).startswith("spec.draft: mode Embedding generates no text")
        conditions = {
            condition["type"]: condition["status"] for condition in resource["status"]["conditions"]
        }
        report = {"Ready": "False", "Available": "False", "Stalled": "True"}
        assert conditions == {**report, "FilesVerified": "Unknown", "MemoryReserved": "False"}
        assert deployments(api, namespace) == []

    def test_a_mistake_in_an_edit_does_not_take_the_running_model_away(
        self, api: Api, namespace: str
    ) -> None:
        api.apply(model(namespace))
        wait_ready(api, namespace, "coder")
        old = uids(api, namespace, "llama-halo.dev/model")
        api.apply(model(namespace, **MISTAKE))
        resource = wait_state(api, namespace, "coder", "InvalidSpec")
        assert uids(api, namespace, "llama-halo.dev/model") == old
        available = [c for c in resource["status"]["conditions"] if c["type"] == "Available"]
        assert available[0]["status"] == "True"

    def test_a_model_that_fits_nowhere_waits_until_there_is_room(
        self, api: Api, namespace: str
    ) -> None:
        # three nodes with 117 GiB of GPU budget each
        for name in ("one", "two", "three"):
            api.apply(model(namespace, name, memory={"gpu": "70Gi", "host": "1Gi"}))
            wait_ready(api, namespace, name)
        api.apply(model(namespace, "four", memory={"gpu": "70Gi", "host": "1Gi"}))
        resource = wait_state(api, namespace, "four", "WaitingForMemory")
        assert "needs 70.0Gi of GPU memory, fake-0 has 47.0Gi free" in message(resource)
        assert f"{namespace}/" in message(resource)
        api.delete("LlamaModel", namespace, "two")
        wait_ready(api, namespace, "four")

    def test_a_model_for_another_kind_of_node_waits_for_one(self, api: Api, namespace: str) -> None:
        api.apply(model(namespace, pod={"nodeSelector": {"disk": "fast"}}))
        resource = wait_state(api, namespace, "coder", "WaitingForNode")
        assert "disk=fast" in message(resource)
        api.patch("Node", "", "fake-1", {"metadata": {"labels": {"disk": "fast"}}})
        try:
            assert wait_ready(api, namespace, "coder")["status"]["nodeSummary"] == "fake-1"
        finally:
            api.patch("Node", "", "fake-1", {"metadata": {"labels": {"disk": None}}})

    def test_deleting_the_model_deletes_its_children(self, api: Api, namespace: str) -> None:
        api.apply(model(namespace))
        wait_ready(api, namespace, "coder")
        api.delete("LlamaModel", namespace, "coder")
        eventually(lambda: not deployments(api, namespace))
        eventually(lambda: api.get("Service", namespace, "coder") is None)

    def test_events_tell_of_each_transition_once(self, api: Api, namespace: str) -> None:
        api.apply(model(namespace))
        wait_ready(api, namespace, "coder")

        def reasons() -> list[str]:
            events = api.list("Event", namespace)
            return [e["reason"] for e in events if e["regarding"]["kind"] == "LlamaModel"]

        eventually(lambda: "Serving" in reasons())
        assert reasons() == ["Serving"]
        api.apply(model(namespace, **MISTAKE))
        eventually(lambda: sorted(reasons()) == ["InvalidSpec", "Serving"])


@pytest.mark.usefixtures("operator")
class TestRouter:
    def test_a_router_has_all_its_children_and_names_what_is_missing(
        self, api: Api, namespace: str
    ) -> None:
        api.apply(router(namespace, replicas=2))
        resource = wait_ready(api, namespace, "main", kind="ModelRouter")
        assert resource["status"]["modelSummary"] == "0/1"
        assert "missing from this namespace: LlamaModel coder" in message(resource)
        assert "no auth" in message(resource)
        assert resource["status"]["url"] == f"http://main-router.{namespace}.svc:8080"
        for kind in ("Deployment", "Service", "ServiceAccount", "RoleBinding"):
            assert api.get(kind, namespace, "main-router"), kind
        role = api.get("Role", namespace, "main-router-leases") or {}
        assert role["rules"][0]["resourceNames"] == ["llama-halo-coder"]
        assert api.get("PodDisruptionBudget", namespace, "main-router")
        assert len(api.list("ConfigMap", namespace, "llama-halo.dev/router=main")) == 1
        api.apply(model(namespace))
        eventually(
            lambda: (
                (api.get("ModelRouter", namespace, "main") or {})["status"]["modelSummary"] == "1/1"
            )
        )

    def test_editing_a_model_rolls_no_router(self, api: Api, namespace: str) -> None:
        api.apply(model(namespace))
        api.apply(router(namespace))
        wait_ready(api, namespace, "coder")
        wait_ready(api, namespace, "main", kind="ModelRouter")
        old = uids(api, namespace, "llama-halo.dev/router")
        api.apply(model(namespace, contextSize=8192, aliases=["gpt-4o"]))
        time.sleep(1)
        wait_ready(api, namespace, "coder")
        assert uids(api, namespace, "llama-halo.dev/router") == old

    def test_editing_a_router_rolls_it_with_a_new_config_and_removes_the_old(
        self, api: Api, namespace: str
    ) -> None:
        api.apply(router(namespace))
        wait_ready(api, namespace, "main", kind="ModelRouter")
        (old,) = api.list("ConfigMap", namespace, "llama-halo.dev/router=main")
        old_pods = uids(api, namespace, "llama-halo.dev/router")
        assert old["immutable"] is True
        api.apply(router(namespace, routes={"default": "coder"}))

        def replaced() -> bool:
            configs = api.list("ConfigMap", namespace, "llama-halo.dev/router=main")
            names = [config["metadata"]["name"] for config in configs]
            return len(names) == 1 and names != [old["metadata"]["name"]]

        eventually(replaced)
        wait_ready(api, namespace, "main", kind="ModelRouter")
        assert uids(api, namespace, "llama-halo.dev/router").isdisjoint(old_pods)

    def test_fewer_replicas_remove_the_disruption_budget(self, api: Api, namespace: str) -> None:
        api.apply(router(namespace, replicas=2))
        wait_ready(api, namespace, "main", kind="ModelRouter")
        api.apply(router(namespace, replicas=1))
        eventually(lambda: api.get("PodDisruptionBudget", namespace, "main-router") is None)

    def test_what_the_api_server_refuses_is_told(self, api: Api, namespace: str) -> None:
        api.apply(router(namespace, service={"type": "NodePort", "nodePort": 80}))
        resource = wait_state(api, namespace, "main", "InvalidSpec", kind="ModelRouter")
        assert "the API server refuses Service main-router" in message(resource)
        assert "nodePort" in message(resource)


class TestProcess:
    def test_at_rest_nothing_is_written_and_a_restart_writes_its_identity_alone(
        self,
        api: Api,
        namespace: str,
        control_plane: Testbed,
        start_operator: StartOperator,
    ) -> None:
        first = start_operator()
        first.wait_ready()
        for name in ("one", "two", "three"):
            api.apply(model(namespace, name))
        api.apply(router(namespace, models=[{"name": "a", "modelRef": {"name": "one"}}]))
        for name in ("one", "two", "three"):
            wait_ready(api, namespace, name)
        wait_ready(api, namespace, "main", kind="ModelRouter")
        time.sleep(2)
        log = control_plane.layout.audit_log
        since = now()
        time.sleep(10)
        assert writes(log, since=since) == {}
        since = now()
        assert first.stop() == 0
        start_operator().wait_ready()
        time.sleep(5)
        assert writes(log, since=since) == {"patch leases": 1}

    def test_changes_made_while_no_operator_ran_are_caught_up(
        self, api: Api, namespace: str, start_operator: StartOperator
    ) -> None:
        first = start_operator()
        first.wait_ready()
        api.apply(model(namespace))
        wait_ready(api, namespace, "coder")
        first.stop()
        api.apply(model(namespace, contextSize=8192))
        api.delete("Service", namespace, "coder")
        start_operator().wait_ready()
        eventually(lambda: "8192" in str(deployments(api, namespace)))
        eventually(lambda: api.get("Service", namespace, "coder"))

    def test_of_two_operators_the_newer_acts(
        self, api: Api, namespace: str, start_operator: StartOperator
    ) -> None:
        old = start_operator()
        old.wait_ready()
        new = start_operator()
        new.wait_ready()
        eventually(lambda: "another instance holds the identity Lease" in old.why_not_ready())
        api.apply(model(namespace))
        wait_ready(api, namespace, "coder")
        assert new.is_ready()

    def test_metrics_and_health_are_served(
        self, api: Api, namespace: str, operator: OperatorProcess
    ) -> None:
        api.apply(model(namespace))
        wait_ready(api, namespace, "coder")
        assert operator.get("/healthz")[0] == 200
        text = operator.get("/metrics")[1]
        labels = f'kind="LlamaModel",name="coder",namespace="{namespace}"'
        assert f"llama_halo_resource_ready{{{labels}}} 1.0" in text
        assert "llama_halo_queue_depth 0.0" in text
        api.delete("LlamaModel", namespace, "coder")
        eventually(lambda: f"{{{labels}}}" not in operator.get("/metrics")[1])

    def test_with_crds_of_another_version_it_waits_and_says_so(
        self, api: Api, namespace: str, start_operator: StartOperator
    ) -> None:
        kind, name = "CustomResourceDefinition", "llamamodels.llama-halo.dev"
        annotation = "llama-halo.dev/schema-hash"
        crd = api.get(kind, "", name)
        assert crd is not None
        good = crd["metadata"]["annotations"][annotation]
        api.patch(kind, "", name, {"metadata": {"annotations": {annotation: "0" * 10}}})
        try:
            operator = start_operator()
            eventually(lambda: "is of another version" in operator.why_not_ready())
            assert "kubectl apply -f crds/" in operator.why_not_ready()
        finally:
            api.patch(kind, "", name, {"metadata": {"annotations": {annotation: good}}})
        operator.wait_ready()
        api.apply(model(namespace))
        wait_ready(api, namespace, "coder")

    def test_without_a_permission_it_waits_and_names_it(
        self, api: Api, start_operator: StartOperator
    ) -> None:
        role = api.get("ClusterRole", "", "llama-halo-operator")
        assert role is not None
        without = [rule for rule in role["rules"] if "deployments" not in rule["resources"]]
        api.patch("ClusterRole", "", "llama-halo-operator", {"rules": without})
        try:
            time.sleep(1)
            operator = start_operator()
            lacks = "the service account may not: get deployments.apps"
            eventually(lambda: lacks in operator.why_not_ready())
        finally:
            api.patch("ClusterRole", "", "llama-halo-operator", {"rules": role["rules"]})
        operator.wait_ready()
