"""Chooses the model that answers a request."""
