"""The two kinds, LlamaModel and ModelRouter, as frozen pydantic models, and their CRDs.

The operator imports from here. import-linter forbids I/O here, and imports of the layers above.
"""
