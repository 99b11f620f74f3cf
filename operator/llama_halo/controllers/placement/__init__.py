"""Placement of models on nodes, with the indexes that it reads, rollout turns and unloading."""
