"""Reads, downloads and stores model files: on disk, behind HTTP, and on the Hugging Face Hub."""
