"""Jobs for files on a real control plane; their pods' words are written as a kubelet would."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hack.testbed import audit
from llama_halo.status.jobs import inspection_entry
from tests.support.api import Api, eventually, message, ready
from tests.support.hub import COMMIT
from tests.support.inspections import SHA, inspection
from tests.support.resources import Json, StartOperator, wait_state


def hub_model(namespace: str, **source: Any) -> Json:
    """Return a model whose Jobs find no node: the tests say what becomes of their pods."""
    named = {"repo": "o/r", "file": "x-Q4_K_M.gguf", **source}
    return {
        "apiVersion": "llama-halo.dev/v1alpha1",
        "kind": "LlamaModel",
        "metadata": {"name": "coder", "namespace": namespace},
        "spec": {"source": {"huggingFace": named}, "pod": {"nodeSelector": {"no": "node"}}},
    }


def the_job(api: Api, namespace: str, *, without: str = "") -> Json:
    """Return the one Job that is there, once it is another than the named one."""

    def live_jobs() -> list[Json]:
        jobs = api.list("Job", namespace)
        return [job for job in jobs if "deletionTimestamp" not in job["metadata"]]

    (job,) = eventually(
        live_jobs, until=lambda jobs: len(jobs) == 1 and jobs[0]["metadata"]["name"] != without
    )
    return job


def say(api: Api, namespace: str, job: Json, arguments: Json, *, exit_code: int = 0) -> None:
    """End the Job's container with its last words."""
    selector = f"batch.kubernetes.io/job-name={job['metadata']['name']}"
    (pod,) = eventually(lambda: api.list("Pod", namespace, selector))
    container = pod["spec"]["containers"][0]
    end = {"exitCode": exit_code, "message": json.dumps(arguments), "reason": "Completed"}
    state = {"terminated": end} if exit_code == 0 else {"waiting": {"reason": "CrashLoopBackOff"}}
    status = {
        "phase": "Succeeded" if exit_code == 0 else "Running",
        "containerStatuses": [
            {
                "name": container["name"],
                "image": container["image"],
                "imageID": "",
                "ready": False,
                "restartCount": 0 if exit_code == 0 else 1,
                "state": state,
                "lastState": {} if exit_code == 0 else {"terminated": end},
            }
        ],
    }
    name = pod["metadata"]["name"]
    api.patch("Pod", namespace, name, {"status": status}, subresource="/status")


def answer() -> Json:
    """Return what `llama-halo inspect` would say of the model."""
    entry = inspection_entry(inspection(revision=COMMIT))
    return {name: value for name, value in entry.items() if name not in ("role", "source")}


@pytest.mark.usefixtures("operator")
class TestFiles:
    def test_a_source_is_looked_at_once_and_the_answer_kept(
        self, api: Api, namespace: str, start_operator: StartOperator
    ) -> None:
        api.apply(hub_model(namespace))
        wait_state(api, namespace, "coder", "Inspecting")
        job = the_job(api, namespace)
        say(api, namespace, job, answer())
        resource = wait_state(api, namespace, "coder", "WaitingForNode")
        assert resource["status"]["model"]["sha256"] == SHA
        assert resource["status"]["model"]["contextSize"] == 32768
        assert resource["status"]["memory"]["method"] == "Exact"
        conditions = {
            condition["type"]: condition["status"] for condition in resource["status"]["conditions"]
        }
        assert (conditions["FilesVerified"], conditions["MemoryReserved"]) == ("False", "False")
        eventually(lambda: not api.list("Job", namespace), description="the Job is gone")
        # What the status has is not asked again, whatever else is edited, and by no new operator.
        edited = hub_model(namespace)
        edited["spec"] |= {"contextSize": 8192}
        api.apply(edited)
        eventually(
            lambda: api.get("LlamaModel", namespace, "coder"),
            until=lambda observed: observed["status"]["model"]["contextSize"] == 8192,
        )
        start_operator().wait_ready()
        assert not api.list("Job", namespace)

    def test_a_jobs_trouble_shows_and_another_source_is_another_job(
        self, api: Api, namespace: str
    ) -> None:
        api.apply(hub_model(namespace))
        job = the_job(api, namespace)
        report = {"error": {"reason": "Unauthorized", "message": "the token may not see it"}}
        say(api, namespace, job, report, exit_code=1)
        resource = wait_state(api, namespace, "coder", "Unauthorized")
        assert "Reconciling" in {
            condition["type"] for condition in resource["status"]["conditions"]
        }
        api.apply(hub_model(namespace, file="y.gguf"))
        other = the_job(api, namespace, without=job["metadata"]["name"])
        report = {"error": {"reason": "NotAGGUF", "message": "it is text"}}
        say(api, namespace, other, report)
        resource = wait_state(api, namespace, "coder", "NotAGGUF")
        assert "Stalled" in {condition["type"] for condition in resource["status"]["conditions"]}

    def test_asked_to_look_again_it_looks_and_keeps_what_it_knows(
        self, api: Api, namespace: str
    ) -> None:
        api.apply(hub_model(namespace))
        say(api, namespace, the_job(api, namespace), answer())
        wait_state(api, namespace, "coder", "WaitingForNode")
        eventually(lambda: not api.list("Job", namespace), description="the Job is gone")
        request = {"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": audit.now()}}}
        api.patch("LlamaModel", namespace, "coder", request)
        job = the_job(api, namespace)
        assert ready(api.get("LlamaModel", namespace, "coder"))[1] == "WaitingForNode"
        say(api, namespace, job, {**answer(), "revision": "d" * 40})
        eventually(
            lambda: api.get("LlamaModel", namespace, "coder"),
            until=lambda observed: observed["status"]["model"]["revision"] == "d" * 40,
        )
        eventually(lambda: not api.list("Job", namespace), description="the Job is gone")

    def test_a_model_that_goes_takes_its_jobs_along(self, api: Api, namespace: str) -> None:
        api.apply(hub_model(namespace))
        the_job(api, namespace)
        api.delete("LlamaModel", namespace, "coder")
        eventually(lambda: not api.list("Job", namespace), seconds=30)

    def test_a_claims_volume_says_where_its_model_runs(self, api: Api, namespace: str) -> None:
        node = api.list("Node", None)[0]["metadata"]["name"]
        api.apply(volume(f"{namespace}-v", node))
        api.apply(claim(namespace, "models", ["ReadWriteOnce"], f"{namespace}-v"))
        manifest = hub_model(namespace)
        manifest["spec"] |= {"store": {"persistentVolumeClaim": {"claimName": "models"}}}
        api.apply(manifest)
        job = the_job(api, namespace)
        say(api, namespace, job, answer())
        fetch = the_job(api, namespace, without=job["metadata"]["name"])
        assert fetch["metadata"]["annotations"]["llama-halo.dev/node"] == node

    def test_a_claim_for_one_pod_only_is_refused(self, api: Api, namespace: str) -> None:
        api.apply(claim(namespace, "models", ["ReadWriteOncePod"]))
        manifest = hub_model(namespace)
        manifest["spec"] |= {"store": {"persistentVolumeClaim": {"claimName": "models"}}}
        api.apply(manifest)
        resource = wait_state(api, namespace, "coder", "InvalidSpec")
        assert "ReadWriteOncePod" in message(resource)


def volume(name: str, node: str) -> Json:
    """Return a volume of one node."""
    term = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "100Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "none",
            "local": {"path": "/models"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [term]}]}},
        },
    }


def claim(namespace: str, name: str, modes: list[str], volume_name: str = "") -> Json:
    spec: Json = {
        "accessModes": modes,
        "storageClassName": "none",
        "resources": {"requests": {"storage": "100Gi"}},
    }
    if volume_name:
        spec["volumeName"] = volume_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }

    def test_pods_that_a_quota_refuses_are_told(self, api: Api, namespace: str) -> None:
        quota = {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "small", "namespace": namespace},
            "spec": {"hard": {"pods": "0"}},
        }
        api.apply(quota)
        # The quota counts once its controller has looked at it.
        eventually(lambda: (api.get("ResourceQuota", namespace, "small") or {}).get("status"))
        api.apply(hub_model(namespace))
        resource = wait_state(api, namespace, "coder", "CannotStart", seconds=30)
        assert "exceeded quota: small" in message(resource)
        assert "change the namespace's quota" in message(resource)
        api.delete("ResourceQuota", namespace, "small")
