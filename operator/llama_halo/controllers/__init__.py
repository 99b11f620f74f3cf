"""From a key to a cluster that is as the resource says. `loop.reconcile` is the front door."""
