"""Names, schemas and protocols that two of our processes share; import-linter forbids imports of
either side."""
