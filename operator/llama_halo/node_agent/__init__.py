"""Reads a node's hardware from sysfs and procfs, finds its problems, and publishes its data."""
