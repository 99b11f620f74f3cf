"""Derives a status from the outcome, the observed children and the previous status.

Callers pass `now`. import-linter forbids I/O and clocks here.
"""
