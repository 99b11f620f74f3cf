"""From a request and its targets to the answer: queue, holding, connections, streams."""
