"""Where models run: the decision over all models and nodes, and what it reads."""
