"""Clients of the API server and of pods, the object cache, the reflectors and the work queue."""
