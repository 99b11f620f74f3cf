"""Derives the objects that should exist from a spec and facts.

import-linter forbids I/O, clocks and randomness here.
"""
