"""How often each child was repaired lately: what is changed back each time is not fought for ever.

A webhook that rewrites our objects, an autoscaler on our Deployment, a second field manager: each
repair would be answered by another change, as fast as the API server takes them.
"""

from __future__ import annotations

from collections import deque

from llama_halo.kube.cache import Key

MOST = 5
WINDOW_SECONDS = 60.0


class RepairLimiter:
    """Times of the last repairs, by child."""

    def __init__(self) -> None:
        self._times: dict[Key, deque[float]] = {}

    def try_acquire(self, key: Key, now: float) -> bool:
        """Note one more repair at a monotonic time, unless there were too many in the window."""
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
