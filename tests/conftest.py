"""Fixtures that start real things: a control plane, a llama-server, a cluster with a node."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path

import hypothesis
import pytest

from hack.testbed import operator_process
from hack.testbed.cluster import Testbed
from hack.testbed.layout import Ports
from hack.testbed.shell import TestbedError
from hack.tiers.prepare import NEEDS
from hack.tiers.tiers import tiers_of
from tests.support import failure_logs

# A deadline for an example would be a time that a busy machine fails.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cluster",
        default="testbed",
        choices=["testbed", "kind", "current"],
        help="where the e2e tests run",
    )
    parser.addoption("--soak", action="store_true", help="chaos for half an hour, not for minutes")
    parser.addoption(
        "--llama-swap",
        type=Path,
        metavar="PROGRAM",
        help="a llama-swap of v250 to run as an engine, too: no registry has one for the tests",
    )
    parser.addoption(
        "--logs",
        default=str(failure_logs.DEFAULT_FOLDER),
        metavar="FOLDER",
        help="where logs of failed tests are kept",
    )
    parser.addoption("--release", action="store_true", help="also what only a release needs")
    parser.addoption("--chaos-seed", type=int, default=1, help="which chaos")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What only a release needs is not in `make test`: it builds another Kubernetes."""
    if collection_path.name == "release" and not config.getoption("--release"):
        return True
    return None


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build what the tests need before the first one starts: their time limits are for tests."""
    if session.config.option.collectonly:
        return
    cluster = session.config.getoption("--cluster")
    needs = [
        need
        for tier in tiers_of({item.path for item in session.items})
        for need in tier.needs_on(cluster)
    ]
    capture = session.config.pluginmanager.getplugin("capturemanager")
    try:
        with capture.global_and_fixture_disabled():
            for need in needs:
                NEEDS[need]()
    except TestbedError as error:
        pytest.exit(str(error), returncode=1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep the logs of what a failed test used, and name their folder in its report."""
    report = yield
    if report.failed and (folder := failure_logs.save(item)):
        report.sections.append(("Logs kept", str(folder)))
    return report


@pytest.fixture(scope="session")
def control_plane(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Testbed]:
    """A real control plane with three fake nodes of 125 GiB and our CRDs and permissions.

    It is on free ports and needs no root.
    """
    directory: Path = tmp_path_factory.mktemp("control-plane")
    testbed = Testbed(directory, with_node=False, ports=Ports.free(), fake_nodes=3)
    try:
        with failure_logs.saved_on_error(request.config, testbed.layout.logs):
            testbed.up()
        with failure_logs.registered(
            request.config, partial(failure_logs.copy_ends, testbed.layout.logs)
        ):
            operator_process.install(testbed)
            yield testbed
    finally:
        testbed.down()
