"""Request bodies, server-sent events, JSON and errors."""
