"""The chart: rendered for many values, valid, and saying what the code means."""

from __future__ import annotations

import re
from typing import Any

import kubernetes_validate
import pytest
import yaml

from hack.manifests import CHART, PLAIN, crd_copies, plain, stamped
from hack.testbed.layout import REPOSITORY, VERSION
from llama_halo import __version__
from llama_halo.api.crd import all_crds
from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.contract.labels import GATEWAY_CLUSTER_ROLE
from llama_halo.contract.reasons import FAILED_REASONS, STALLED_REASONS
from llama_halo.plan.facts import FETCH, Owner
from llama_halo.plan.jobs import job
from llama_halo.plan.outcome import Plan
from llama_halo.plan.restrictions import Restrictions
from llama_halo.settings import load_settings
from tests.support import golden
from tests.support.helm import Helm

Json = dict[str, Any]

EVERYTHING: Json = {
    "image": {
        "repository": "registry.example/halo",
        "tag": "7",
        "digest": f"sha256:{'7' * 64}",
        "pullPolicy": "Always",
    },
    "imagePullSecrets": [{"name": "pull"}],
    "settings": {"GPU_RESERVE": "12Gi", "WORKERS": 4, "LOG_LEVEL": "DEBUG"},
    "operator": {
        "nodeSelector": {"role": "control"},
        "tolerations": [{"key": "control", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
        "priorityClassName": "system-cluster-critical",
        "podAnnotations": {"team": "core"},
    },
    "restrictions": {
        "privileged": False,
        "images": ["ghcr.io/ggml-org/"],
        "storePaths": ["/srv/models"],
        "serviceAccounts": False,
        "secretPrefix": "llm-",
        "httpKeys": False,
    },
    "nodeAgent": {"nodeSelector": {"gpu": "yes"}, "tolerations": [{"operator": "Exists"}]},
    "networkPolicies": {
        "namespaces": ["llm", "team-b"],
        "gatewayClients": [{"ipBlock": {"cidr": "192.168.1.0/24"}}],
    },
    "metrics": {
        "labels": {"release": "stack"},
        "podMonitor": True,
        "prometheusRule": True,
        "dashboard": True,
    },
    "resources": [
        {
            "kind": "LlamaModel",
            "name": "coder",
            "namespace": "llm",
            "labels": {"router": "all"},
            "spec": {"source": {"local": {"path": "a.gguf"}}},
        }
    ],
}
VALUES: dict[str, Json] = {
    "the defaults": {},
    "everything": EVERYTHING,
    "two namespaces": {"namespaces": ["llm", "team-b"]},
    "its own namespace alone": {"namespaces": ["halo"]},
    "nothing optional": {
        "crds": {"enabled": False},
        "rbac": {"gatewayClusterRole": False, "aggregate": False},
        "nodeAgent": {"enabled": False},
        "networkPolicies": {"enabled": False},
    },
    "CRDs that go with the release": {"crds": {"keep": False}},
}


def of_kind(objects: list[Json], *kinds: str) -> list[Json]:
    return [obj for obj in objects if obj["kind"] in kinds]


def one(objects: list[Json], kind: str, name: str) -> Json:
    value = [obj for obj in of_kind(objects, kind) if obj["metadata"]["name"] == name]
    assert len(value) == 1, (kind, name, [obj["metadata"]["name"] for obj in objects])
    return value[0]


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_every_object_is_valid(helm: Helm, values: Json) -> None:
    """Strictly: a field that the API server would drop is an error."""
    objects = helm.render(values)
    names = [
        (obj["kind"], obj["metadata"].get("namespace"), obj["metadata"]["name"]) for obj in objects
    ]
    assert len(set(names)) == len(names)
    for obj in objects:
        if obj["apiVersion"].split("/")[0] not in ("monitoring.coreos.com", "llama-halo.dev"):
            for version in ("1.32", "1.35"):
                kubernetes_validate.validate(obj, version, strict=True)


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_helm_has_nothing_to_object(helm: Helm, values: Json) -> None:
    values = {name: value for name, value in values.items() if name != "resources"}
    status, output, errors = helm("lint", "--strict", CHART, values=values)
    assert status == 0, output + errors


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"imgae": {}}, "imgae"),
        ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
        ({"namespaces": "llm"}, "namespaces"),
        ({"namespaces": ["Not_A_Name"]}, "namespaces"),
        ({"settings": {"GPU_RESRVE": "1Gi"}}, "GPU_RESRVE"),
        ({"crds": {"keep": "yes"}}, "keep"),
        ({"restrictions": {"images": ["a' || true || '"]}}, "images"),
        ({"restrictions": {"storePaths": ["/a/../b, /"]}}, "storePaths"),
        ({"operator": {"podAnnotations": {"a": True}}}, "podAnnotations"),
        ({"metrics": {"dashboardLabels": {"a": None}}}, "dashboardLabels"),
        ({"settings": {"VULKAN_IMAGE": "a/b:1"}}, "VULKAN_COMMAND"),
        ({"resources": [{"kind": "Secret", "name": "a", "spec": {}}]}, "kind"),
    ],
)
def test_a_wrong_value_is_refused_by_name(helm: Helm, values: Json, message: str) -> None:
    status, _, errors = helm("template", "llama-halo", CHART, values=values)
    assert status != 0
    assert message in errors


def test_models_before_their_crds_are_refused_with_the_way_out(helm: Helm) -> None:
    values = {"resources": EVERYTHING["resources"]}
    status, _, errors = helm("template", "llama-halo", CHART, values=values)
    assert status != 0
    assert "then helm upgrade with them" in errors


def test_the_plain_manifests_are_the_charts() -> None:
    for name, text in plain().items():
        assert (PLAIN / name).read_text() == text, f"{name}: run `make manifests`"


def test_the_crds_are_the_operators_and_outlive_the_release(helm: Helm) -> None:
    for keep in (True, False):
        objects = of_kind(helm.render({"crds": {"keep": keep}}), "CustomResourceDefinition")
        for crd, expected in zip(objects, all_crds(), strict=True):
            kept = crd["metadata"]["annotations"].pop("helm.sh/resource-policy", None)
            assert kept == ("keep" if keep else None)
            assert crd == expected
    assert len(crd_copies()) == 2


def test_the_version_is_in_one_place(helm: Helm) -> None:
    assert __version__ == VERSION
    for name, text in stamped().items():
        assert (REPOSITORY / name).read_text() == text, f"{name}: run `make manifests`"
        assert VERSION in text
    operator = one(helm.render(), "Deployment", "llama-halo-operator")
    (container,) = operator["spec"]["template"]["spec"]["containers"]
    assert container["image"].endswith(f":{__version__}")


def test_the_operator_takes_its_environment(helm: Helm) -> None:
    values = {**EVERYTHING, "namespaces": ["llm", "team-b"]}
    operator = one(helm.render(values), "Deployment", "llama-halo-operator")
    (container,) = operator["spec"]["template"]["spec"]["containers"]
    settings = load_settings(
        {variable["name"]: variable.get("value", "x") for variable in container["env"]}
    )
    assert settings.namespaces == ("llm", "team-b")
    image = f"registry.example/halo:7@sha256:{'7' * 64}"
    assert settings.image == container["image"] == image
    assert settings.gpu_reserve_mib == 12 * 1024
    assert settings.restrictions == Restrictions(
        privileged=False,
        images=("ghcr.io/ggml-org/",),
        store_paths=("/srv/models",),
        service_accounts=False,
        secret_prefix="llm-",
        http_keys=False,
    )


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_nobody_may_read_secrets_or_do_whatever_he_wants(helm: Helm, values: Json) -> None:
    for role in of_kind(helm.render(values), "Role", "ClusterRole"):
        for rule in role["rules"]:
            arguments = [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            assert not {"*", "secrets", "pods/exec", "pods/log", "impersonate"} & set(arguments), (
                role
            )


def test_with_namespaces_nothing_outside_is_more_than_read(helm: Helm) -> None:
    objects = helm.render({"namespaces": ["llm", "team-b"]})
    rules = one(objects, "ClusterRole", "llama-halo-operator")["rules"]
    assert {verb for rule in rules for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert {resource for rule in rules for resource in rule["resources"]} == {
        *("nodes", "persistentvolumes", "customresourcedefinitions")
    }
    roles = {obj["metadata"]["namespace"]: obj for obj in of_kind(objects, "Role")}
    assert roles.keys() == {"llm", "team-b", "halo"}
    assert roles["llm"]["rules"] == roles["team-b"]["rules"]
    assert [(rule["resources"], rule["verbs"]) for rule in roles["halo"]["rules"]] == [
        (["leases"], ["list", "watch", "create", "patch"]),
        (["pods"], ["list"]),
    ]
    everywhere = one(helm.render(), "ClusterRole", "llama-halo-operator")["rules"]
    assert [*rules, *roles["llm"]["rules"]] == everywhere


def test_gateways_role_has_the_name_that_the_operator_binds(helm: Helm) -> None:
    assert one(helm.render(), "ClusterRole", GATEWAY_CLUSTER_ROLE)["rules"]


def pods(name: str) -> list[tuple[dict[str, str], list[str]]]:
    """Return labels and port names of the pods of a golden case."""
    outcome = golden.plan(golden.load(golden.CASES / f"{name}.yaml"))
    assert isinstance(outcome, Plan)
    return [
        (
            obj["spec"]["template"]["metadata"]["labels"],
            [
                port["name"]
                for kind in ("initContainers", "containers")
                for container in obj["spec"]["template"]["spec"].get(kind, ())
                for port in container.get("ports", ())
            ],
        )
        for obj in outcome.objects
        if obj["kind"] == "Deployment"
    ]


@pytest.mark.parametrize(
    ("policy", "case"),
    [
        ("models", "model-cpu"),
        ("gateways", "router-everything"),
        ("gateways", "router-claude-code-router"),
    ],
)
def test_a_network_policy_selects_the_pods_that_it_is_for(
    helm: Helm, policy: str, case: str
) -> None:
    objects = helm.render()
    spec = one(objects, "NetworkPolicy", f"llama-halo-{policy}")["spec"]
    match_labels = spec["podSelector"]["matchLabels"].items()
    selected = pods(case)
    assert selected
    for labels, ports in selected:
        assert match_labels <= labels.items()
        allowed = {port["port"] for rule in spec["ingress"] for port in rule["ports"]}
        assert set(ports) <= allowed
    other = pods("router-everything" if policy == "models" else "model-cpu")
    assert not any(match_labels <= labels.items() for labels, _ in other)


def test_models_take_connections_of_gateways_and_the_operator_alone(helm: Helm) -> None:
    objects = helm.render()
    (rule,) = one(objects, "NetworkPolicy", "llama-halo-models")["spec"]["ingress"]
    gateway, operator = rule["from"]
    (labels, _), *_ = pods("router-minimal")
    assert gateway["podSelector"]["matchLabels"].items() <= labels.items()
    assert "namespaceSelector" not in gateway, "of the models' own namespace"
    template = one(objects, "Deployment", "llama-halo-operator")["spec"]["template"]
    match_labels = operator["podSelector"]["matchLabels"].items()
    assert match_labels <= template["metadata"]["labels"].items()
    assert operator["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "halo"}


def test_models_begin_no_connection_and_nobody_reaches_a_metadata_service(helm: Helm) -> None:
    dns = {"ports": [{"port": 53, "protocol": "UDP"}]}
    values = {"networkPolicies": {"jobEgress": [dns]}}
    models, gateways, jobs = (
        one(helm.render(values), "NetworkPolicy", f"llama-halo-{name}")["spec"]
        for name in ("models", "gateways", "files")
    )
    for spec in (models, gateways, jobs):
        assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert models["egress"] == []
    assert jobs["egress"] == [dns]
    (rule,) = gateways["egress"]
    blocks = [peer["ipBlock"] for peer in rule["to"] if "ipBlock" in peer]
    assert {block["cidr"] for block in blocks} == {"0.0.0.0/0", "::/0"}
    excepted = {address for block in blocks for address in block["except"]}
    assert {"169.254.169.254/32", "fd00:ec2::254/128"} <= excepted


def test_the_operator_and_who_fetches_are_selected_by_their_policies(helm: Helm) -> None:
    objects = helm.render()
    template = one(objects, "Deployment", "llama-halo-operator")["spec"]["template"]
    own = one(objects, "NetworkPolicy", "llama-halo-operator")["spec"]
    assert own["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    spec = LlamaModelSpec.model_validate(
        {"source": {"http": {"url": "https://host/a.gguf"}}, "contextSize": 1024}
    )
    about = {"work": FETCH, "role": "model", "node": "halo-1", "about": "", "requested_at": ""}
    owner = Owner("LlamaModel", "llm", "coder", golden.UID, 1)
    built = job(owner, spec, golden.DEFAULTS, source=spec.source, arguments=[], **about)
    labels = built["spec"]["template"]["metadata"]["labels"]
    files = one(objects, "NetworkPolicy", "llama-halo-files")["spec"]
    assert files["podSelector"]["matchLabels"].items() <= labels.items()
    (container,) = built["spec"]["template"]["spec"]["containers"]
    assert [port["name"] for port in container["ports"]] == ["http"]
    models = one(objects, "NetworkPolicy", "llama-halo-models")["spec"]["podSelector"]
    assert not models["matchLabels"].items() <= labels.items()


def test_the_longest_name_of_a_release_makes_valid_labels(helm: Helm) -> None:
    name = "r" * 53
    status, output, errors = helm("template", name, CHART, values={})
    assert status == 0, errors
    for document in yaml.safe_load_all(output):
        labels = (document or {}).get("metadata", {}).get("labels") or {}
        assert all(len(value) <= 63 for value in labels.values()), document["metadata"]["name"]


def test_the_alert_for_persons_names_every_state_that_needs_one() -> None:
    alerts = yaml.safe_load((CHART / "files/alerts.yaml").read_text())
    rules = {rule["alert"]: rule["expr"] for group in alerts["groups"] for rule in group["rules"]}
    states = re.search(r'state=~"([^"]+)"', rules["LlamaHaloStalled"])
    assert states
    assert set(states[1].split("|")) == {str(reason) for reason in STALLED_REASONS | FAILED_REASONS}


def test_the_operators_own_labels_of_series_are_kept(helm: Helm) -> None:
    """Its series have a namespace of their own: that of the resource."""
    objects = helm.render(EVERYTHING)
    (endpoint,) = one(objects, "PodMonitor", "llama-halo-operator")["spec"]["podMetricsEndpoints"]
    assert endpoint["honorLabels"] is True
    for obj in of_kind(objects, "PodMonitor", "PrometheusRule"):
        assert obj["metadata"]["labels"]["release"] == "stack"
