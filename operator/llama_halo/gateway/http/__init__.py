"""Bodies, server-sent events, JSON and errors; knows no API of a client."""
