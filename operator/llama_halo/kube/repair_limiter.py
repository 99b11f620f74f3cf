"""Limits how often the operator repairs a child that something else keeps changing.

Without a limit, a mutating webhook, an autoscaler or another field manager would answer each repair
with another change, as fast as the API server accepts them.
"""

from __future__ import annotations

from collections import deque

from llama_halo.kube.cache import Key

MOST = 5
WINDOW_SECONDS = 60.0


class RepairLimiter:
    """The times of each child's last repairs: at most `MOST` within `WINDOW_SECONDS`."""

    def __init__(self) -> None:
        self._times: dict[Key, deque[float]] = {}

    def try_acquire(self, key: Key, now: float) -> bool:
        """Record a repair at the monotonic time `now`; return False if the limit is reached."""
        if len(self._times) > 10_000:
            self._times = {k: times for k, times in self._times.items() if self._recent(times, now)}
        times = self._times.setdefault(key, deque(maxlen=MOST))
        if len(times) == MOST and self._recent(deque([times[0]]), now):
            return False
        times.append(now)
        return True

    @staticmethod
    def _recent(times: deque[float], now: float) -> bool:
        return bool(times) and now - times[-1] < WINDOW_SECONDS
