"""The packaged chart's life: installed (as for all these tests), upgraded, uninstalled, installed
again; models that run take no notice."""

from __future__ import annotations

from hack import chart
from hack.demo import kubectl
from hack.testbed import images
from hack.testbed.cluster import Testbed
from hack.testbed.shell import succeeds
from tests.support.api import eventually
from tests.support.kubectl import NAMESPACE, Kubectl, without_permissions
from tests.support.manifests import router, smollm2

MODEL, ROUTER = "llama-halo.dev/model=kept", "llama-halo.dev/router=main"
OTHER_TAG = "another"


def serve(kube: Kubectl) -> None:
    kube.apply(smollm2("kept"))
    kube.apply(router(models=[{"name": "kept", "modelRef": {"name": "kept"}}], routes=None))
    kube.wait_ready("llamamodel/kept", "modelrouter/main")


def operators_image(kube: Kubectl) -> str:
    path = "jsonpath={.spec.template.spec.containers[0].image}"
    arguments = ("-n", chart.NAMESPACE, "get", "deployment/llama-halo-operator", "-o", path)
    return kubectl(kube.cluster, *arguments)


def test_an_upgrade_to_another_image_rolls_no_model(kube: Kubectl) -> None:
    serve(kube)
    models, gateways = kube.pod_uids(MODEL), kube.pod_uids(ROUTER)
    repository = images.OPERATOR_IMAGE.rpartition(":")[0]
    if isinstance(kube.cluster, Testbed):
        images.tag(images.OPERATOR_IMAGE, f"{repository}:{OTHER_TAG}")
    chart.install(kube.cluster, {"image": {"tag": OTHER_TAG}})
    assert operators_image(kube) == f"{repository}:{OTHER_TAG}"
    # The gateways are of the same image, and roll without a gap; the models are not.
    eventually(lambda: kube.pod_uids(ROUTER).isdisjoint(gateways), seconds=90)
    kube.wait_ready("llamamodel/kept", "modelrouter/main")
    assert kube.pod_uids(MODEL) == models
    chart.install(kube.cluster)
    eventually(lambda: operators_image(kube) == images.OPERATOR_IMAGE)
    kube.wait_ready("llamamodel/kept", "modelrouter/main")
    assert kube.pod_uids(MODEL) == models


def test_what_serves_outlives_the_release_and_is_found_again(kube: Kubectl) -> None:
    serve(kube)
    models = kube.pod_uids(MODEL)
    with without_permissions():
        chart.helm(kube.cluster, "uninstall", chart.RELEASE, "--wait")
        arguments = (kube.cluster.kubectl, "--kubeconfig", kube.cluster.kubeconfig)
        assert not succeeds(
            *arguments, "-n", chart.NAMESPACE, "get", "deployment/llama-halo-operator"
        )
        assert "kept" in kube("get", "llamamodels", "-o", "name")
        assert kube.pod_uids(MODEL) == models
        # A gateway that starts anew meanwhile finds its models.
        kube("delete", "pods", "-l", ROUTER, "--wait=true")
        kube("wait", "--for=condition=Ready", "pods", "-l", ROUTER, "--timeout=60s")
        chart.install(kube.cluster)
    kube.wait_ready("llamamodel/kept", "modelrouter/main")
    assert kube.pod_uids(MODEL) == models


def test_who_does_not_keep_the_crds_is_rid_of_everything(kube: Kubectl) -> None:
    serve(kube)
    chart.install(kube.cluster, {"crds": {"keep": False}})
    with without_permissions():
        chart.helm(kube.cluster, "uninstall", chart.RELEASE, "--wait")
        eventually(lambda: "llama-halo.dev" not in kube("get", "crds", "-o", "name"), seconds=60)
        eventually(
            lambda: not kube("get", "deployments,services,pods", "-o", "name").split(), seconds=120
        )
        chart.install(kube.cluster)
    serve(kube)
    kube("delete", "llamamodels,modelrouters", "--all", "--wait=true")
    assert kube("get", "namespace", NAMESPACE)
