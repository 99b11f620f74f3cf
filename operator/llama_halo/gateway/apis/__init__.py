"""The client APIs: validation, the request to llama-server, and the answer to the client."""
