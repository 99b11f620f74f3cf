"""Content hashes; a pod rolls when the hash of its configuration changes."""

from __future__ import annotations

import hashlib
import json
from typing import Any

HASH_LENGTH = 10


def canonical_bytes(value: Any) -> bytes:
    """Return the one byte form of a JSON value: sorted keys, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def content_hash(value: Any, length: int = HASH_LENGTH) -> str:
    """Return the first hexadecimal digits of the SHA-256 of a JSON value."""
    return hashlib.sha256(canonical_bytes(value)).hexdigest()[:length]
