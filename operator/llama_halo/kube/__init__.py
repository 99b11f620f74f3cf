"""Everything that talks to the API server, and the store of what it said. Decides nothing."""
