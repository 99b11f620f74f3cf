"""Random requests from the SDKs' types: none fails in the gateway, and no text is lost."""

from __future__ import annotations

import pytest

from tests.support.generated_requests import APIS, Api, run

REQUESTS = 500


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_a_request_of_the_sdks_types_loses_no_text(api: Api) -> None:
    counts = run(api, seed=1, count=REQUESTS)
    assert counts.sent > REQUESTS
    assert counts.texts > REQUESTS / 4
