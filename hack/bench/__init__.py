"""What the operator costs: `make bench`, against a real control plane with fake nodes."""
