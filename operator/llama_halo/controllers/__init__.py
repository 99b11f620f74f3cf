"""Reconciles resources and placement by key; `reconcile.reconcile` is the entry point."""
