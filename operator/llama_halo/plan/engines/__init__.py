"""One module for each engine of ModelRouter: its configuration and its container."""
