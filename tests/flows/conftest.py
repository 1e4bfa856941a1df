"""The Prefect server of all tests, for flows that are called in this process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.prefect_server import PrefectServer


@pytest.fixture
def prefect(prefect_server: PrefectServer) -> Iterator[None]:
    """Run flows on the server of all tests."""
    with prefect_server.client():
        yield
