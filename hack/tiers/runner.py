"""Runs tiers side by side, each as a process of its own, beside what has to be built for them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from hack.testbed import sandbox
from hack.testbed.layout import REPOSITORY
from hack.testbed.shell import require_root, tail
from hack.tiers.machine import MachineUsage
from hack.tiers.prepare import NEEDS
from hack.tiers.report import Result, read_cases
from hack.tiers.tiers import AT_ONCE, Tier

REPORTS = REPOSITORY / ".reports"
BUILDS_AT_ONCE = 2
_POLL_SECONDS = 0.5
_INTERRUPTED = 130
_SOME_FAILED = 1


@dataclass
class _Running:
    tier: Tier
    process: subprocess.Popen[bytes]
    started: float


class Runner:
    """One run of some tiers."""

    def __init__(self, tiers: Sequence[Tier], *, cluster: str, options: Sequence[str]) -> None:
        self._pending = list(tiers)
        self._cluster = cluster
        self._options = list(options)
        self._running: list[_Running] = []
        self._results: list[Result] = []
        self.machine = MachineUsage()

    def run(self) -> list[Result]:
        """Run all tiers to their ends; the results are in the order of the tiers."""
        if any(self._has_sandbox(tier) for tier in self._pending):
            require_root("a node in a sandbox (mounts, network)")
        # Also where this runs in the background of a shell, which has children ignore Ctrl-C.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        order = [tier.name for tier in self._pending]
        needs = [need for need in NEEDS if any(need in self._needs(tier) for tier in self._pending)]
        pool = ThreadPoolExecutor(BUILDS_AT_ONCE)
        builds = {need: pool.submit(NEEDS[need]) for need in needs}
        try:
            while self._pending or self._running:
                self._reap()
                self._start(builds)
                self.machine.sample()
                time.sleep(_POLL_SECONDS)
        except KeyboardInterrupt:
            self._stop()
            print("interrupted: what ran has ended", flush=True)
            os._exit(_INTERRUPTED)  # a build would be waited for otherwise
        pool.shutdown()
        return sorted(self._results, key=lambda result: order.index(result.tier))

    def _start(self, builds: dict[str, Future[object]]) -> None:
        for tier in list(self._pending):
            # Those on a node take the longest and mostly wait: they start as soon as they can.
            if len(self._running) >= AT_ONCE and not tier.node:
                continue
            waits_for = (
                builds.values() if tier.after_builds else [builds[n] for n in self._needs(tier)]
            )
            if not all(build.done() for build in waits_for) or self._node_is_taken(tier):
                continue
            self._pending.remove(tier)
            failed = [builds[need].exception() for need in self._needs(tier)]
            if errors := [str(error) for error in failed if error]:
                _empty_reports(tier)
                self._add(Result(tier.name, 0, error=f"not run: {errors[0]}"))
                continue
            self._running.append(self._popen(tier))

    def _node_is_taken(self, tier: Tier) -> bool:
        """Tell whether a tier has to wait for another one: on a cluster that is not the testbed."""
        shared = tier.node and not self._has_sandbox(tier)
        return shared and any(other.tier.node for other in self._running)

    def _needs(self, tier: Tier) -> tuple[str, ...]:
        return tier.needs_on(self._cluster)

    def _has_sandbox(self, tier: Tier) -> bool:
        return tier.node and self._cluster == "testbed"

    def _popen(self, tier: Tier) -> _Running:
        folder = _empty_reports(tier)
        command = list(tier.command)
        if not command:
            command = pytest_command(tier, self._cluster, folder, self._options)
        if self._has_sandbox(tier):
            command = sandbox.enter(tier.name, command)
        print(f"{self._clock()} {tier.name} starts", flush=True)
        with (folder / "output.log").open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
            )
        return _Running(tier, process, time.monotonic())

    def _reap(self) -> None:
        for running in list(self._running):
            status = running.process.poll()
            if status is None:
                continue
            self._running.remove(running)
            seconds = time.monotonic() - running.started
            self._add(_read(REPORTS / running.tier.name, running.tier, status, seconds))

    def _add(self, result: Result) -> None:
        outcome = "passed" if result.passed else "FAILED"
        count = (
            f"{len(result.cases)} test{'s' * (len(result.cases) != 1)}"
            if result.cases
            else "no tests"
        )
        print(
            f"{self._clock()} {result.tier} {outcome}: {count}, {result.seconds:.0f} s", flush=True
        )
        if not result.cases and result.error:
            print(f"  {result.error}", flush=True)
        self._results.append(result)

    def _clock(self) -> str:
        minutes, seconds = divmod(round(time.monotonic() - self.machine.started), 60)
        return f"[{minutes:02}:{seconds:02}]"

    def _stop(self) -> None:
        """End what runs as Ctrl-C does, so that each tier takes its processes with it; a sandbox
        ends with all that is in it."""
        for running in self._running:
            number = signal.SIGKILL if self._has_sandbox(running.tier) else signal.SIGINT
            running.process.send_signal(number)
        for running in self._running:
            try:
                running.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                running.process.kill()


def pytest_command(tier: Tier, cluster: str, reports: Path, options: Sequence[str]) -> list[str]:
    """Return the command that runs a tier; its temporary files lie among its reports."""
    return [
        *(sys.executable, "-m", "pytest", *tier.arguments(), "--cluster", cluster),
        *("--junitxml", str(reports / "junit.xml"), "--basetemp", str(reports / "tmp")),
        *("--logs", str(reports / "logs"), *options),
    ]


def run_alone(tier: Tier, *, cluster: str, options: Sequence[str]) -> NoReturn:
    """Become the pytest of one tier, with its output on the terminal."""
    command = pytest_command(tier, cluster, _empty_reports(tier), options)
    os.chdir(REPOSITORY)
    os.execv(command[0], command)  # noqa: S606  (it takes this process's place, and its Ctrl-C)


def _empty_reports(tier: Tier) -> Path:
    folder = REPORTS / tier.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _read(folder: Path, tier: Tier, status: int, seconds: float) -> Result:
    """Return what came of a tier that ended; one without a report says how its output ends."""
    report = folder / "junit.xml"
    cases = read_cases(report.read_text()) if report.exists() else ()
    result = Result(tier.name, seconds, cases)
    if status in (0, _SOME_FAILED) and result.failures:
        return result
    if status == 0 and (cases or not tier.paths):
        return result
    error = f"it ended with {status}:\n{tail(folder / 'output.log')}"
    return Result(tier.name, seconds, cases, error)
