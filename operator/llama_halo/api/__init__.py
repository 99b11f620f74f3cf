"""The two kinds, LlamaModel and ModelRouter, as frozen pydantic models, and their CRDs.

Everyone imports from here; nothing here imports anything of the project, or does any I/O.
"""

GROUP = "llama-halo.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
