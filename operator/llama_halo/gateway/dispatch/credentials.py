"""API keys of providers, one file each, in a folder where their Secrets are mounted.

The gateway reads the key for each request, so a key can be replaced without a restart. Keys are
never logged.
"""

from __future__ import annotations

from pathlib import Path

from llama_halo.contract.gateway_config import ProviderConfig
from llama_halo.gateway.http.errors import PROVIDER, Failure

_MAX_BYTES = 16384


class Credentials:
    """The providers' keys in a folder."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def key_of(self, provider: ProviderConfig) -> str:
        """Return a provider's key, empty if it needs none; raises `Failure` (502) if the key
        cannot be read."""
        if not provider.has_key:
            return ""
        try:
            if self._folder is None:
                raise FileNotFoundError("no folder of keys was given")
            with (self._folder / provider.name).open("rb") as file:
                key = file.read(_MAX_BYTES).strip().decode("ascii")
        except (OSError, ValueError) as error:
            raise _missing(provider, type(error).__name__) from error
        if not key or not key.isprintable():
            raise _missing(provider, "it is empty, or more than one line")
        return key


def _missing(provider: ProviderConfig, reason: str) -> Failure:
    return Failure(
        502,
        f"the API key of provider {provider.name} cannot be read ({reason}): see the Secret that"
        " apiKeySecretRef of the ModelRouter names",
        code=PROVIDER,
    )
