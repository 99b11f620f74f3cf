"""The data path: sends clients' requests to llama-server and providers.

It imports none of the operator's packages; import-linter checks that.
"""
