"""An API server whose certificate is refused: the operator says what is wrong with it."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from hack.testbed.operator_process import OperatorProcess, write_config
from hack.testbed.shell import run
from tests.support.api import eventually

_NAME = "subjectAltName=IP:127.0.0.1"
CASES = {"a certificate of another CA": "certificate verify failed|unable to get local issuer"}
if ssl.create_default_context().verify_flags & ssl.VERIFY_X509_STRICT:
    CASES["a CA without key usage"] = "CA cert does not include key usage extension"


def authority(folder: Path, name: str) -> Path:
    """Make a CA as tools made them for years: without key usage."""
    config = folder / f"{name}.cnf"
    config.write_text(
        "[req]\nprompt = no\ndistinguished_name = dn\nx509_extensions = ca\n[dn]\nCN = old\n"
        "[ca]\nbasicConstraints = critical, CA:TRUE\nsubjectKeyIdentifier = hash\n"
    )
    certificate = folder / f"{name}.crt"
    run(
        "openssl",
        *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-config", config),
        *("-keyout", folder / f"{name}.key", "-out", certificate),
    )
    return certificate


@contextmanager
def serving(folder: Path, certificate: Path) -> Iterator[str]:
    """Serve TLS by a certificate that a CA signed; nobody gets as far as a request."""
    (folder / "server.ext").write_text(f"{_NAME}\nauthorityKeyIdentifier = keyid\n")
    request, key = folder / "server.csr", folder / "server.key"
    run(
        "openssl",
        *("req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=server"),
        *("-keyout", key, "-out", request),
    )
    run(
        "openssl",
        *("x509", "-req", "-in", request, "-CA", certificate, "-days", "2", "-CAcreateserial"),
        *("-CAkey", certificate.with_suffix(".key"), "-extfile", folder / "server.ext"),
        *("-out", folder / "server.crt"),
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", key)
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("case", CASES)
def test_an_operator_says_why_it_refuses_the_certificate(tmp_path: Path, case: str) -> None:
    signed_by = authority(tmp_path, "old")
    trusted = authority(tmp_path, "other") if "another" in case else signed_by
    with serving(tmp_path, signed_by) as server:
        kubeconfig = write_config(
            tmp_path / "kubeconfig", server=server, authority=trusted, token="none"
        )
        operator = OperatorProcess(kubeconfig, tmp_path / "operator.log")
        try:
            reason = eventually(
                operator.why_not_ready, until=lambda text: "is refused" in text, seconds=30
            )
        finally:
            operator.stop()
    assert any(arguments in reason for arguments in CASES[case].split("|")), reason
    assert "keyUsage keyCertSign" in reason
    assert "kube-root-ca.crt" in reason
