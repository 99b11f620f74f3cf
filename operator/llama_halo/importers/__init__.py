"""Converts the files of other systems to LlamaModels and a ModelRouter. No I/O (import-linter)."""
