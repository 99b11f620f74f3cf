"""The operator's series: each resource has its own, and a deletion drops no other's."""

from __future__ import annotations

from llama_halo.kube.cache import Key
from llama_halo.metrics import OperatorMetrics

MODEL, ROUTER = Key("LlamaModel", "llm", "main"), Key("ModelRouter", "llm", "main")
LABELS = {"namespace": "llm", "name": "main"}


def test_a_deleted_router_leaves_the_series_of_a_model_with_its_name() -> None:
    metrics = OperatorMetrics()
    for key in (MODEL, ROUTER):
        metrics.record_reconcile(key, {"reason": "Serving", "status": "True"}, 0.1)
    metrics.record_unload(MODEL)
    metrics.set_downloaded_bytes(MODEL, 7)
    metrics.forget(ROUTER)
    value = metrics.registry.get_sample_value
    assert value("llama_halo_model_unloads_total", LABELS) == 1
    assert value("llama_halo_download_bytes", LABELS) == 7
    assert value("llama_halo_resource_ready", {"kind": "LlamaModel", **LABELS}) == 1
    assert value("llama_halo_resource_ready", {"kind": "ModelRouter", **LABELS}) is None
    metrics.forget(MODEL)
    assert value("llama_halo_model_unloads_total", LABELS) is None


def test_failures_and_rejections_are_counted_by_kind() -> None:
    metrics = OperatorMetrics()
    metrics.record_failure(MODEL)
    metrics.record_rejection("Pod")
    value = metrics.registry.get_sample_value
    assert value("llama_halo_reconcile_failures_total", {"kind": "LlamaModel"}) == 1
    assert value("llama_halo_rejected_objects_total", {"kind": "Pod"}) == 1
