"""The gateway's watch on LlamaModels, and its entries on their Leases."""
