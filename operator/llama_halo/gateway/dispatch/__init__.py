"""Sends a request to one of its targets: admission queue, holding, connections, streams."""
