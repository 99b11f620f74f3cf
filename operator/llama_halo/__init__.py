"""llama-halo: a Kubernetes operator that runs llama.cpp on AMD Strix Halo machines."""

from importlib.metadata import version

__version__ = version("llama-halo")
