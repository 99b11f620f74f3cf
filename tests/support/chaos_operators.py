"""The operators of a chaos test."""

from __future__ import annotations

from pathlib import Path

from hack.testbed.operator_process import OperatorProcess


class Operators:
    """Operators of one test, one after another or side by side; all end with it."""

    def __init__(self, kubeconfig: Path, log: Path) -> None:
        self._kubeconfig, self._log = kubeconfig, log
        self._started: list[OperatorProcess] = []

    def start(self, *, ready: bool = True) -> OperatorProcess:
        process = OperatorProcess(self._kubeconfig, self._log)
        self._started.append(process)
        if ready:
            process.wait_ready()
        return process

    def stop_all(self) -> None:
        for entry in self._started:
            if entry.running:
                entry.kill()
