"""Chat templates from ConfigMaps, on a real control plane."""

from __future__ import annotations

import pytest

from tests.support.api import Api, eventually, message, ready
from tests.support.resources import (
    Json,
    StartOperator,
    deployments,
    model,
    pods,
    uids,
    wait_ready,
    wait_state,
)

LABEL = "llama-halo.dev/model"
FLUX = "reconcile.fluxcd.io/requestedAt"


def templates(namespace: str, **texts: str) -> Json:
    metadata = {"name": "templates", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": texts}


def templated(namespace: str, name: str = "coder", key: str = "coder") -> Json:
    reference = {"configMapKeyRef": {"name": "templates", "key": key}}
    return model(namespace, name, chatTemplate=reference)


def copies(api: Api, namespace: str) -> list[str]:
    """Return the texts of the operator's own copies."""
    value = api.list("ConfigMap", namespace, LABEL)
    return sorted(text for item in value for text in item["data"].values())


@pytest.mark.usefixtures("operator")
class TestChatTemplates:
    def test_one_that_comes_later_is_awaited_by_name(self, api: Api, namespace: str) -> None:
        api.apply(templated(namespace))
        resource = wait_state(api, namespace, "coder", "Retrying")
        assert ready(resource)[0] == "False"
        where = f"ConfigMap {namespace}/templates"
        assert message(resource).startswith(f"spec.chatTemplate: {where} does not exist")
        api.apply(templates(namespace, others="{{ messages }}"))
        eventually(
            lambda: message(api.get("LlamaModel", namespace, "coder")),
            until=lambda report: "has no text under the key coder (its keys: others)" in report,
        )
        assert deployments(api, namespace) == []
        api.apply(templates(namespace, coder="{{ messages }}"))
        wait_ready(api, namespace, "coder")
        assert copies(api, namespace) == ["{{ messages }}"]

    def test_an_edit_rolls_the_models_of_its_key_and_no_other(
        self, api: Api, namespace: str
    ) -> None:
        api.apply(templates(namespace, coder="one", other="same"))
        for name in ("coder", "other"):
            api.apply(templated(namespace, name, key=name))
            wait_ready(api, namespace, name)
        coder, other = (uids(api, namespace, f"{LABEL}={name}") for name in ("coder", "other"))
        api.apply(templates(namespace, coder="two", other="same"))
        eventually(
            lambda: uids(api, namespace, f"{LABEL}=coder"),
            until=lambda value: value and not value & coder,
            seconds=60,
        )
        wait_ready(api, namespace, "coder")
        assert uids(api, namespace, f"{LABEL}=other") == other
        eventually(
            lambda: copies(api, namespace) == ["same", "two"], description="the old copy is gone"
        )

    def test_an_edit_with_the_spec_is_one_roll(self, api: Api, namespace: str) -> None:
        api.apply(templates(namespace, coder="one"))
        api.apply(templated(namespace))
        wait_ready(api, namespace, "coder")
        api.apply(templates(namespace, coder="two"))
        changed = templated(namespace)
        changed["spec"]["parallel"] = 2
        api.apply(changed)
        eventually(lambda: copies(api, namespace) == ["two"])
        (value,) = deployments(api, namespace)
        assert value["metadata"]["generation"] == 2, "the second one would have come much later"
        assert "--parallel" in value["spec"]["template"]["spec"]["containers"][0]["args"]

    def test_who_does_not_want_to_wait_asks_as_for_a_source(self, api: Api, namespace: str) -> None:
        api.apply(templates(namespace, coder="one"))
        api.apply(templated(namespace))
        wait_ready(api, namespace, "coder")
        api.apply(templates(namespace, coder="two"))
        annotated = {"metadata": {"annotations": {FLUX: "now"}}}
        api.patch("LlamaModel", namespace, "coder", annotated)
        eventually(lambda: "two" in copies(api, namespace), seconds=10)

    def test_what_runs_goes_on_without_it_also_for_an_operator_that_starts_anew(
        self, api: Api, namespace: str, start_operator: StartOperator
    ) -> None:
        api.apply(templates(namespace, coder="one"))
        api.apply(templated(namespace))
        wait_ready(api, namespace, "coder")
        before = uids(api, namespace, f"{LABEL}=coder")
        api.delete("ConfigMap", namespace, "templates")
        start_operator().wait_ready()
        wait_state(api, namespace, "coder", "Retrying")
        assert uids(api, namespace, f"{LABEL}=coder") == before
        assert copies(api, namespace) == ["one"]
        api.apply(templates(namespace, coder="one"))
        wait_ready(api, namespace, "coder")
        assert uids(api, namespace, f"{LABEL}=coder") == before
        assert len(pods(api, namespace)) == 1
