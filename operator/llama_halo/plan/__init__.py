"""Derives the objects that should exist from a spec and facts.

import-linter forbids the modules for I/O, `time` and `random`.
"""
