"""GGUF files: the header reader, and how much memory llama.cpp needs for a model. No I/O."""
