"""Converters between the APIs, by way of Chat Completions.

`X_to_chat` is for clients of an API, `chat_to_X` for providers of one.
"""
