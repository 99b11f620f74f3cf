"""Polls what no watch reports, on a queue of its own: objects by name, Events, and pods."""
