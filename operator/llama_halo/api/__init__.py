"""The two kinds, LlamaModel and ModelRouter, as frozen pydantic models, and their CRDs.

The operator imports from here; nothing here imports more than `contract`, or does any I/O.
"""
