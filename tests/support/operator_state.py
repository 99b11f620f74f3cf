"""The operator's state with an API server in memory."""

from __future__ import annotations

from llama_halo.controllers import triggers
from llama_halo.controllers.state import OperatorState
from llama_halo.kube.cache import ObjectCache
from llama_halo.kube.pods import PodClient
from llama_halo.kube.workqueue import Queue
from llama_halo.metrics import OperatorMetrics
from llama_halo.settings import Settings
from tests.support.fake_cluster import FakeCluster


def operator_state(queue: Queue | None = None) -> tuple[OperatorState, FakeCluster]:
    """Return a state that handles the changes of its cache, and its API server."""
    cluster = FakeCluster()
    state = OperatorState(
        cluster=cluster,
        cache=ObjectCache(),
        queue=queue or Queue(),
        pods=PodClient(),
        settings=Settings(),
        metrics=OperatorMetrics(),
        handle_change=triggers.handle,
    )
    triggers.listen(state)
    return state, cluster
