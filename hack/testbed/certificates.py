"""One certificate authority and the client certificates of a testbed, made by openssl."""

from __future__ import annotations

import json
from pathlib import Path

from hack.testbed.layout import KUBERNETES_SERVICE, NODE_NAME, Layout
from hack.testbed.shell import run

CLIENTS = {
    "admin": "/O=system:masters/CN=testbed-admin",
    "apiserver-kubelet": "/O=system:masters/CN=kube-apiserver-kubelet-client",
    "controller-manager": "/CN=system:kube-controller-manager",
    "scheduler": "/CN=system:kube-scheduler",
    "kube-proxy": "/CN=system:kube-proxy",
    "coredns": "/O=system:masters/CN=coredns",
    "kwok": "/O=system:masters/CN=kwok",
    "kubelet": f"/O=system:nodes/CN=system:node:{NODE_NAME}",
}

# With what RFC 5280 asks of each: Python verifies strictly from 3.13 on.
_AUTHORITY = """[req]
prompt = no
distinguished_name = name
x509_extensions = authority
[name]
CN = testbed
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""
_LEAF = """basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature, keyEncipherment
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


def make(layout: Layout) -> None:
    """Write the authority, all certificates and a kubeconfig for each client, once."""
    pki = layout.pki
    if (pki / "done").exists():
        return
    pki.mkdir(parents=True, exist_ok=True)
    pki.chmod(0o700)
    _authority(pki)
    _key(pki / "service-accounts.key")
    service = "kubernetes.default.svc"
    names = ",".join(
        [f"IP:{name}" for name in ("127.0.0.1", layout.address, KUBERNETES_SERVICE)]
        + [f"DNS:{name}" for name in ("localhost", service, f"{service}.cluster.local")]
    )
    _certificate(pki, "apiserver", "/CN=kube-apiserver", f"subjectAltName={names}")
    for name, subject in CLIENTS.items():
        _certificate(pki, name, subject, "extendedKeyUsage=clientAuth")
        _kubeconfig(layout, name, pki / f"{name}.kubeconfig")
    _kubeconfig(layout, "admin", layout.kubeconfig)
    (pki / "done").touch()


def _key(path: Path) -> None:
    # Of an elliptic curve: ten RSA keys took seconds of a core for each control plane.
    _openssl("ecparam", "-genkey", "-noout", "-name", "prime256v1", "-out", path)


def _authority(pki: Path) -> None:
    (pki / "ca.cnf").write_text(_AUTHORITY)
    _key(pki / "ca.key")
    _openssl(
        *("req", "-x509", "-new", "-key", pki / "ca.key", "-days", "30"),
        *("-config", pki / "ca.cnf", "-out", pki / "ca.crt"),
    )


def _certificate(pki: Path, name: str, subject: str, extension: str) -> None:
    _key(pki / f"{name}.key")
    request = pki / f"{name}.csr"
    _openssl("req", "-new", "-key", pki / f"{name}.key", "-subj", subject, "-out", request)
    (pki / f"{name}.ext").write_text(f"{_LEAF}{extension}\n")
    _openssl(
        *("x509", "-req", "-in", request, "-CA", pki / "ca.crt", "-CAkey", pki / "ca.key"),
        *("-CAcreateserial", "-days", "30", "-extfile", pki / f"{name}.ext"),
        *("-out", pki / f"{name}.crt"),
    )


def _kubeconfig(layout: Layout, client: str, path: Path) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "testbed",
        "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": client}}],
        "clusters": [
            {
                "name": "testbed",
                "cluster": {
                    "server": layout.server,
                    "certificate-authority": str(layout.pki / "ca.crt"),
                },
            }
        ],
        "users": [
            {
                "name": client,
                "user": {
                    "client-certificate": str(layout.pki / f"{client}.crt"),
                    "client-key": str(layout.pki / f"{client}.key"),
                },
            }
        ],
    }
    path.write_text(json.dumps(config, indent=2))
    path.chmod(0o600)


def _openssl(*arguments: str | Path) -> None:
    run("openssl", *arguments, description="certificate")
