"""Everything that talks to the API server, and the cache of what it said. Decides nothing."""
