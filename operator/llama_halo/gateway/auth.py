"""The router's API keys, read from a folder where a Secret is mounted.

The gateway rereads the files when they are two seconds old, so a key can be replaced without a
restart. Keys are compared in constant time and never logged.
"""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from llama_halo.contract.gateway_config import MIN_KEY_BYTES
from llama_halo.gateway.http.errors import Failure

log = logging.getLogger(__name__)

REREAD_SECONDS = 2.0
_MAX_BYTES = 4096


class Keys:
    """The keys in a folder. Without a folder, every request is allowed."""

    def __init__(self, folder: Path | None, *, reread_seconds: float = REREAD_SECONDS) -> None:
        self._folder = folder
        self._reread_seconds = reread_seconds
        self._keys: tuple[bytes, ...] = ()
        self._looked_at = float("-inf")

    @property
    def required(self) -> bool:
        return self._folder is not None

    def check(self, headers: Mapping[str, str]) -> str:
        """Return a digest of the request's key, empty if the router has none.

        Raises `Failure` (401) unless the request has one of the keys.
        """
        if self._folder is None:
            return ""
        candidates = _candidates_of(headers)
        # Compare with every key: the time must not show which one matches.
        fits = [
            key
            for candidate in candidates
            for key in self._current_keys()
            if hmac.compare_digest(candidate, key)
        ]
        if not fits:
            problem = (
                "no API key was given"
                if not candidates
                else "the API key is not one of this router's keys"
            )
            raise Failure(
                401,
                f"{problem}: send one as Authorization: Bearer KEY or x-api-key: KEY",
                code="invalid_api_key",
            )
        return sha256(fits[0]).hexdigest()[:16]

    def _current_keys(self) -> tuple[bytes, ...]:
        now = time.monotonic()
        if now - self._looked_at > self._reread_seconds:
            self._looked_at = now
            self._keys = self._read()
        return self._keys

    def _read(self) -> tuple[bytes, ...]:
        assert self._folder is not None  # noqa: S101  (`check` returns first)
        keys = []
        try:
            for path in sorted(self._folder.iterdir()):
                if path.name.startswith(".") or not path.is_file():
                    continue
                key = path.read_bytes()[:_MAX_BYTES].strip()
                if len(key) >= MIN_KEY_BYTES:
                    keys.append(key)
                else:
                    log.warning(
                        "API key ignored: too short",
                        extra={
                            "entry": path.name,
                            "bytes": len(key),
                            "minimum": MIN_KEY_BYTES,
                        },
                    )
        except OSError as error:
            log.warning("API keys cannot be read", extra={"reason": repr(error)})
            return self._keys
        return tuple(keys)


def _candidates_of(headers: Mapping[str, str]) -> list[bytes]:
    """Return the request's keys: bearer token, `x-api-key` and `api-key`."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    candidates = [token] if kind.lower() == "bearer" else []
    candidates += [headers.get("x-api-key", ""), headers.get("api-key", "")]
    return [
        candidate.strip().encode(errors="replace") for candidate in candidates if candidate.strip()
    ]
