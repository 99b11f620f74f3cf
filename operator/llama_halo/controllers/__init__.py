"""From a key to a cluster that is as the resource says. `reconcile.reconcile` is the front door."""
