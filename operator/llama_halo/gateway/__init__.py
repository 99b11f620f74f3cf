"""The data path: Anthropic and OpenAI requests to llama-server. Knows nothing of the operator."""
