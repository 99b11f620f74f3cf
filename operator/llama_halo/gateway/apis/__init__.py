"""The APIs that clients speak, each in terms of llama-server; pure but for iteration."""
