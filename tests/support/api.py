"""A small synchronous client of a real API server for tests."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx

from llama_halo.kube import resources

Object = dict[str, Any]
Value = TypeVar("Value")
_RBAC = "rbac.authorization.k8s.io"
BY_KIND = {
    **resources.BY_KIND,
    "Secret": resources.Resource("Secret", "v1", "secrets"),
    "ResourceQuota": resources.Resource("ResourceQuota", "v1", "resourcequotas"),
    "Role": resources.Resource("Role", f"{_RBAC}/v1", "roles"),
    "RoleBinding": resources.Resource("RoleBinding", f"{_RBAC}/v1", "rolebindings"),
    "Namespace": resources.Resource("Namespace", "v1", "namespaces", namespaced=False),
    "ClusterRole": resources.Resource(
        "ClusterRole", f"{_RBAC}/v1", "clusterroles", namespaced=False
    ),
}


class Refused(Exception):
    """The API server refused an object; the text is its message."""


class Api:
    """Requests as the cluster's administrator, or with a token."""

    def __init__(self, kubeconfig: Path, *, token: str = "") -> None:
        self._kubeconfig = kubeconfig
        config = json.loads(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        context = ssl.create_default_context(cafile=cluster["certificate-authority"])
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if not token:
            context.load_cert_chain(user["client-certificate"], user["client-key"])
        self.server = cluster["server"]
        self.certificate_authority = Path(cluster["certificate-authority"])
        self._client = httpx.Client(
            base_url=self.server, verify=context, timeout=30, headers=headers
        )

    def with_token(self, token: str) -> Api:
        """Return a client of the same API server with a token."""
        return Api(self._kubeconfig, token=token)

    def close(self) -> None:
        self._client.close()

    def apply(self, obj: Object, *, manager: str = "test", dry_run: bool = False) -> Object:
        """Apply server-side, as `kubectl apply --server-side` does."""
        query = {"fieldManager": manager, "force": "true", "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        return self._send(
            "PATCH",
            self._path(obj),
            params=query,
            content=json.dumps(obj),
            headers={"Content-Type": "application/apply-patch+yaml"},
        )

    def create(self, obj: Object, *, dry_run: bool = False) -> Object:
        """Create, refusing unknown fields."""
        resource = BY_KIND[obj["kind"]]
        query = {"fieldValidation": "Strict", **({"dryRun": "All"} if dry_run else {})}
        path = resource.path(obj["metadata"].get("namespace"))
        return self._send("POST", path, params=query, json=obj)

    def create_text(self, kind: str, namespace: str, text: str) -> None:
        """Create from JSON that Python may be unable to parse, and from the reply, too."""
        path = BY_KIND[kind].path(namespace)
        headers = {"Content-Type": "application/json"}
        response = self._client.post(path, content=text, headers=headers)
        if response.status_code >= 400:
            self._read(response)

    def patch(
        self, kind: str, namespace: str, name: str, patch: Object, *, subresource: str = ""
    ) -> Object:
        """Merge a patch."""
        path = BY_KIND[kind].path(namespace, name) + subresource
        headers = {"Content-Type": "application/merge-patch+json"}
        return self._send("PATCH", path, content=json.dumps(patch), headers=headers)

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        response = self._client.get(BY_KIND[kind].path(namespace, name))
        return None if response.status_code == 404 else self._read(response)

    def list(self, kind: str, namespace: str | None, selector: str = "") -> list[Object]:
        query = {"labelSelector": selector} if selector else {}
        items: list[Object] = self._send("GET", BY_KIND[kind].path(namespace), params=query)[
            "items"
        ]
        return items

    def delete(self, kind: str, namespace: str, name: str, *, propagation: str = "") -> None:
        body = {"propagationPolicy": propagation} if propagation else None
        self._send("DELETE", BY_KIND[kind].path(namespace, name), json=body)

    def namespace(self, name: str) -> str:
        """Make a namespace that may exist already."""
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        response = self._client.post("/api/v1/namespaces", json=body)
        assert response.status_code in (201, 409), response.text
        return name

    def token(self, namespace: str, account: str, *, bound_to: Object | None = None) -> str:
        """Ask for a token of a ServiceAccount; bound to an object, it ends with that object."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        spec: Object = {}
        if bound_to:
            metadata = bound_to["metadata"]
            reference = {"kind": bound_to["kind"], "apiVersion": bound_to["apiVersion"]}
            named = {"name": metadata["name"], "uid": metadata["uid"]}
            spec = {"boundObjectRef": {**reference, **named}}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        token: str = self._send("POST", path, json=body)["status"]["token"]
        return token

    def _path(self, obj: Object) -> str:
        metadata = obj["metadata"]
        return BY_KIND[obj["kind"]].path(metadata.get("namespace"), metadata["name"])

    def _send(self, method: str, path: str, **more: Any) -> Object:
        return self._read(self._client.request(method, path, **more))

    @staticmethod
    def _read(response: httpx.Response) -> Object:
        answer: Object = response.json()
        if response.status_code >= 400:
            raise Refused(answer.get("message", response.text))
        return answer


def administrators(kubeconfig: Path, folder: Path) -> Path:
    """Return a kubeconfig with a context, as clients want it."""
    config = json.loads(kubeconfig.read_text())
    names = {"cluster": config["clusters"][0]["name"], "user": config["users"][0]["name"]}
    config |= {"contexts": [{"name": "c", "context": names}], "current-context": "c"}
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    return path


def eventually(
    read: Callable[[], Value | None],
    *,
    until: Callable[[Value], object] = bool,
    seconds: float = 15,
    description: str = "",
) -> Value:
    """Read until the value fits, and return it; the error has the last value."""
    deadline = time.monotonic() + seconds
    while True:
        value = read()
        if value is not None and until(value):
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {description or read} (last: {value!r})")
        time.sleep(0.05)


def ready(obj: Object | None) -> tuple[str, str]:
    """Return status and reason of Ready, as the READY and STATE columns show them."""
    for condition in (obj or {}).get("status", {}).get("conditions", ()):
        if condition["type"] == "Ready":
            return condition["status"], condition["reason"]
    return "", ""


def message(obj: Object | None) -> str:
    """Return the message of Ready."""
    for condition in (obj or {}).get("status", {}).get("conditions", ()):
        if condition["type"] == "Ready":
            return str(condition["message"])
    return ""
