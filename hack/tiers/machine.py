"""What a run takes of the machine: time, processor and memory."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path


def _cpu_ticks() -> tuple[int, int]:
    """Return the machine's busy and total ticks; waiting for a disk is idle."""
    user, nice, system, idle, iowait, *rest = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    busy = user + nice + system + sum(rest)
    return busy, busy + idle + iowait


def _memory_gib() -> float:
    """Return the memory in use, without what the kernel gives back at once."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return (sizes["MemTotal"] - sizes["MemAvailable"]) / 2**20


@dataclass
class MachineUsage:
    """What the run takes of the machine, sampled while it goes on."""

    started: float = field(default_factory=time.monotonic)
    peak_memory_gib: float = 0
    _cpu_at_start: tuple[int, int] = field(default_factory=_cpu_ticks)
    _memory_at_start_gib: float = field(default_factory=_memory_gib)

    def sample(self) -> None:
        self.peak_memory_gib = max(self.peak_memory_gib, _memory_gib() - self._memory_at_start_gib)

    def __str__(self) -> str:
        busy, total = _cpu_ticks()
        busy, total = busy - self._cpu_at_start[0], total - self._cpu_at_start[1]
        minutes, seconds = divmod(round(time.monotonic() - self.started), 60)
        return (
            f"{minutes} min {seconds} s, {busy / max(total, 1):.0%} of {os.cpu_count()} cores,"
            f" at most {self.peak_memory_gib:.1f} GiB of memory"
        )
