"""Derives a status from the outcome, the observed children and the previous status.

Callers pass `now`. import-linter forbids the modules for I/O, and `time`.
"""
