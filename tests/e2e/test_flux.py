"""Real Flux: the repository's own deploy/flux, applied from commits, waited for, and pruned."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack import chart
from hack.demo import kubectl
from hack.testbed.cluster import Testbed
from hack.testbed.flux import NAMESPACE as FLUX
from hack.testbed.flux import SOURCE, Flux
from hack.testbed.layout import REPOSITORY
from tests.support.api import eventually, message, ready
from tests.support.kubectl import NAMESPACE, Kubectl, without_permissions
from tests.support.manifests import router, smollm2

Json = dict[str, Any]
ONE, TWO, ROUTER = (f"llama-halo.dev/{name}" for name in ("model=one", "model=two", "router=main"))


def text(resource: Json) -> str:
    """Return a file without a namespace: the Kustomization has it."""
    return yaml.safe_dump(resource)


def two(**spec: Any) -> str:
    """Return model two, kept small: both share the node's two cores."""
    return text(smollm2("two", **spec))


@pytest.fixture(scope="module")
def flux(kube: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flux]:
    """The controller, with an operator that came by it and no models yet."""
    assert isinstance(kube.cluster, Testbed)
    kube("delete", "llamamodels,modelrouters", "--all", "--wait=true")
    with without_permissions():
        chart.helm(kube.cluster, "uninstall", chart.RELEASE, "--wait")
        started = Flux(kube.cluster.layout, tmp_path_factory.mktemp("flux"))
        started.start()
        try:
            yield started
            for name in ("models", "operator", "crds"):
                arguments = ("-n", FLUX, "delete", "kustomization", f"llama-halo-{name}")
                kubectl(kube.cluster, *arguments, "--ignore-not-found", "--timeout=120s")
        finally:
            started.stop()
        # It was one of the pruned objects.
        gone = ("wait", "--for=delete", f"namespace/{chart.NAMESPACE}", "--timeout=120s")
        kubectl(kube.cluster, *gone)
        chart.install(kube.cluster)


def own_files() -> dict[str, str]:
    """Return the repository's CRDs and deployment, as they are here."""
    return {
        str(path.relative_to(REPOSITORY)): path.read_text()
        for folder in ("crds", "deploy")
        for path in (REPOSITORY / folder).rglob("*.yaml")
    }


def kustomizations() -> list[Json]:
    """Return those of deploy/flux, all with the one source that there is here."""
    files = ("operator/kustomizations.yaml", "models.yaml")
    value = [
        document
        for name in files
        for document in yaml.safe_load_all((REPOSITORY / "deploy/flux" / name).read_text())
    ]
    for item in value:
        item["spec"]["sourceRef"] = {"kind": "ExternalArtifact", "name": SOURCE}
        item["spec"]["retryInterval"] = "2s"
        if "targetNamespace" in item["spec"]:
            item["spec"]["targetNamespace"] = NAMESPACE
    return value


@pytest.mark.parametrize("variant", ["git", "oci", "helm"])
def test_each_variant_builds_to_one_chain(kube: Kubectl, variant: str) -> None:
    built = kubectl(kube.cluster, "kustomize", REPOSITORY / "deploy/flux" / variant)
    safe_load_all = list(yaml.safe_load_all(built))
    names = [
        document["metadata"]["name"]
        for document in safe_load_all
        if document["kind"] == "Kustomization"
    ]
    assert names[-1] == "llama-halo-operator", "models depend on it"
    for document in safe_load_all:
        if document["kind"] == "Kustomization":
            source = document["spec"]["sourceRef"]
            assert source["kind"] in {other["kind"] for other in safe_load_all}
            assert (REPOSITORY / document["spec"]["path"]).is_dir()


def test_the_samples_are_what_flux_applies(kube: Kubectl) -> None:
    """With the namespace that models.yaml gives them; by the API server, which keeps nothing."""
    folder = REPOSITORY / "deploy/samples/strix-halo"
    kubectl(kube.cluster, "-n", NAMESPACE, "apply", "--dry-run=server", "-k", folder)


def health(kube: Kubectl, name: str = "models") -> tuple[str, str, str]:
    """Return status and message of a Kustomization's Ready, and the commit that it is about."""
    live = kube.get(f"kustomization/llama-halo-{name}", namespace=FLUX)
    conditions = {
        condition["type"]: condition for condition in live["status"].get("conditions", ())
    }
    report = conditions.get("Ready", {"status": "", "message": ""})
    return report["status"], report["message"], live["status"].get("lastAttemptedRevision", "")


def healthy(kube: Kubectl, since: float, *, seconds: int = 180) -> float:
    """Wait until the models are healthy at a later commit; return how long it took."""

    def is_healthy() -> bool:
        status, _, _ = health(kube)
        models = kube.get("kustomization/llama-halo-models", namespace=FLUX)
        applied = models["status"].get("lastAppliedRevision")
        source = kube.get(f"externalartifact/{SOURCE}", namespace=FLUX)
        revision = source["status"]["artifact"]["revision"]
        return status == "True" and applied == revision

    eventually(is_healthy, seconds=seconds, description="the Kustomization is healthy")
    return time.monotonic() - since


def test_three_files_become_models_that_serve(kube: Kubectl, flux: Flux, tmp_path: Path) -> None:
    """CRDs, operator and models in turn; healthy not before every model serves."""
    models = {
        "models/one.yaml": text(smollm2("one")),
        "models/two.yaml": two(),
        "models/router.yaml": text(router()),
    }
    committed = flux.commit({**own_files(), **models}, "a model, another, and a router")
    chain = tmp_path / "kustomizations.yaml"
    chain.write_text(yaml.safe_dump_all(kustomizations()))
    kubectl(kube.cluster, "apply", "-f", chain)
    early: list[str] = []

    def is_healthy() -> bool:
        status, _, _ = health(kube)
        states = [ready(kube.get(entry)) for entry in served]
        if status == "True" and any(state[0] != "True" for state in states):
            early.append(str(states))
        return status == "True"

    served = ("llamamodel/one", "llamamodel/two", "modelrouter/main")
    eventually(lambda: "main" in kube("get", "modelrouters", "-o", "name"), seconds=120)
    eventually(is_healthy, seconds=180, description="the models are healthy")
    print(f"from the first commit to healthy: {time.monotonic() - committed:.1f} s")
    assert not early, "healthy before they served"
    assert [health(kube, name)[0] for name in ("crds", "operator", "models")] == ["True"] * 3


def test_a_commit_that_edits_a_model_rolls_exactly_its_pod(kube: Kubectl, flux: Flux) -> None:
    before = {item: kube.pod_uids(item) for item in (ONE, TWO, ROUTER)}
    committed = flux.commit({"models/two.yaml": two(contextSize=4096)}, "more context")
    eventually(lambda: kube.pod_uids(TWO).isdisjoint(before[TWO]), seconds=60)
    rolled = time.monotonic() - committed
    took = healthy(kube, committed)
    print(f"from commit to the pod rolled: {rolled:.1f} s; to healthy: {took:.1f} s")
    assert (kube.pod_uids(ONE), kube.pod_uids(ROUTER)) == (before[ONE], before[ROUTER])
    assert len(kube.pod_uids(TWO)) == 1


def test_a_model_that_cannot_serve_is_unhealthy_and_says_why(kube: Kubectl, flux: Flux) -> None:
    before = {item: kube.pod_uids(item) for item in (ONE, TWO, ROUTER)}
    wrong = smollm2("wrong", extraArgs=["--no-such-flag"])
    flux.commit({"models/wrong.yaml": text(wrong)}, "a flag that there is not")
    eventually(lambda: "wrong" in kube("get", "llamamodels", "-o", "name"), seconds=60)
    eventually(lambda: ready(kube.get("llamamodel/wrong"))[1] == "BadFlag", seconds=60)
    report = eventually(
        lambda: health(kube),
        until=lambda observed: observed[0] == "False",
        seconds=60,
        description="unhealthy",
    )[1]
    print(f"Flux says: {report}")
    # Flux names the object, and the object says the rest.
    assert "LlamaModel/e2e/wrong status: 'Failed'" in report
    assert "--no-such-flag" in message(kube.get("llamamodel/wrong"))
    assert before == {item: kube.pod_uids(item) for item in (ONE, TWO, ROUTER)}
    committed = flux.commit({"models/wrong.yaml": None}, "taken back")
    healthy(kube, committed)


@pytest.mark.parametrize(
    ("broken", "report"),
    [
        ("kind: LlamaModel\n  metadata: {\n", "wrong.yaml"),
        (text(smollm2("wrong", contextSize=-5)), "contextSize"),
        (text(smollm2("Not_A_Name")), "Not_A_Name"),
    ],
    ids=["no YAML", "a wrong value", "a wrong name"],
)
def test_a_broken_commit_leaves_what_serves_alone(
    kube: Kubectl, flux: Flux, broken: str, report: str
) -> None:
    before = {item: kube.pod_uids(item) for item in (ONE, TWO, ROUTER)}
    flux.commit({"models/wrong.yaml": broken}, "broken")
    # All three have one source here: first comes that the operator's is not up to date.
    output = eventually(
        lambda: health(kube),
        until=lambda observed: observed[0] == "False" and report in observed[1],
        seconds=60,
        description=report,
    )[1]
    print(f"Flux says: {output}")
    assert before == {item: kube.pod_uids(item) for item in (ONE, TWO, ROUTER)}
    assert ready(kube.get("llamamodel/one")) == ("True", "Serving")
    committed = flux.commit({"models/wrong.yaml": None}, "taken back")
    healthy(kube, committed)


def test_a_removed_file_takes_its_model_with_it(kube: Kubectl, flux: Flux) -> None:
    before = kube.pod_uids(ONE)
    flux.commit({"models/two.yaml": None}, "two is not needed any more")
    eventually(lambda: "two" not in kube("get", "llamamodels", "-o", "name"), seconds=60)
    eventually(lambda: not kube.pod_uids(TWO), seconds=60)
    assert kube.pod_uids(ONE) == before


def test_a_nudge_reaches_the_model_and_a_suspended_one_is_left_alone(
    kube: Kubectl, flux: Flux
) -> None:
    """`flux reconcile` writes an annotation; `suspend` keeps the operator's hands off."""
    kube("annotate", "llamamodel/one", "reconcile.fluxcd.io/requestedAt=2026-01-01", "--overwrite")
    eventually(
        lambda: kube.get("llamamodel/one")["status"].get("lastHandledReconcileAt"),
        until=lambda observed: observed == "2026-01-01",
        seconds=30,
    )
    before = kube.pod_uids(ONE)
    suspended = text(smollm2("one", contextSize=4096, suspend=True))
    committed = flux.commit({"models/one.yaml": suspended}, "hands off")
    healthy(kube, committed)
    assert ready(kube.get("llamamodel/one")) == ("True", "Suspended")
    assert kube.pod_uids(ONE) == before
