"""What gateways write on a Lease, and what counts as that."""

from __future__ import annotations

import pytest

from llama_halo.contract.lease import entry, has_requests, lease_name


def test_a_written_entry_is_read() -> None:
    assert has_requests(entry(17, 2))
    assert not has_requests(entry(18, 0))
    assert lease_name("coder") == "llama-halo-coder"


@pytest.mark.parametrize("text", ["", "x/y", "1/-3", "1/" + "9" * 5000, "1/1e9", "1/ 2", "1/0x2"])
def test_anything_else_has_no_requests(text: str) -> None:
    assert not has_requests(text)
